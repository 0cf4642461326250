"""Take over what can still be read of a damaged spool file.

A damaged page hides the records on it and may hide those behind it from a scan. So each lane is read forwards from its
start, backwards from its end, and from the middle of what is left between them, until the holes are as small as the
damage. What is read is believed only if its checksum holds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.spool import records
from gateway.spool.message import Record, is_sound
from gateway.storage.database import Database
from gateway.storage.file import plain

CHUNK = 1000
#: How often a read may run into damage, for one lane; each costs little.
MAX_BLOWS = 2000


async def salvage(damaged: Path, into: Database) -> int:
    """Copy lanes, sound messages, losses, arrivals and posts; how many messages. `into` is new and empty.

    Raises:
        StorageError: `into` cannot be written.
    """
    saved = 0
    chunks = _chunks(damaged)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        table, rows = chunk
        await into.write(partial(_store, table=table, rows=rows))
        saved += len(rows) if table == "messages" else 0
    return saved


def _store(connection: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)


def _chunks(damaged: Path) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    with suppress(sqlite3.Error), plain(damaged, read_only=True) as connection:
        connection.row_factory = None
        # Without these nobody knows who a message is for: if they cannot be read, nothing can be taken over.
        lanes = connection.execute("SELECT id, destination, priority FROM lanes").fetchall()
        if lanes:
            yield "lanes", lanes
        for table in ("losses", "arrivals", "posts"):
            rows: list[tuple[object, ...]] = []
            with suppress(sqlite3.Error):
                rows.extend(connection.execute(f"SELECT * FROM {table}"))
            if rows:
                yield table, rows
        for lane, _, _ in lanes:
            chunk: list[tuple[object, ...]] = []
            for record in _readable(connection, lane):
                chunk.append(record)
                if len(chunk) >= CHUNK:
                    yield "messages", chunk
                    chunk = []
            if chunk:
                yield "messages", chunk


def _readable(connection: sqlite3.Connection, lane: int) -> Iterator[Record]:
    """Every sound record of a lane that some read reaches."""
    first, last = records.bounds(lane)
    with suppress(sqlite3.Error):
        last = records.last_of(connection, lane)
    holes = [(first, last)]
    blows = 0
    while holes and blows < MAX_BLOWS:
        low, high = holes.pop()
        if low > high:
            continue
        reached = low
        for record in _until_damage(connection, low, high, "ASC"):
            if record is None:
                break
            reached = record.number + 1
            if is_sound(record):
                yield record
        else:
            continue
        blows += 1
        back = high
        for record in _until_damage(connection, reached, high, "DESC"):
            if record is None:
                break
            back = record.number - 1
            if is_sound(record):
                yield record
        else:
            continue
        middle = (reached + back) // 2
        if back > reached:
            holes += [(reached, middle), (middle + 1, back)]


def _until_damage(connection: sqlite3.Connection, low: int, high: int, order: str) -> Iterator[Record | None]:
    """Records from `low` to `high`; ends with None where a read runs into damage."""
    cursor = connection.cursor()
    try:
        for row in cursor.execute(
            f"SELECT {records.COLUMNS} FROM messages NOT INDEXED WHERE number BETWEEN ? AND ? ORDER BY number {order}",
            (low, high),
        ):
            yield Record._make(row)
    except sqlite3.Error:
        yield None
    finally:
        cursor.close()
