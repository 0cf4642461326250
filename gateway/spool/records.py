"""The spool's tables: what is read and written, as works of the storage layer (functions of a connection).

Runs in the database's threads. Keeps nothing; must not know spools, deliveries or the event loop.

Few steps, large ones: `sqlite3` lets go of the interpreter's lock for each row that it steps over, and while the event
loop is busy a thread waits for `node.SWITCH_S` to have it back. So many rows go in with one statement, and come out as
one row of JSON.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from gateway.spool.message import LANE_SHIFT, OVERHEAD_BYTES, Record, is_sound

COLUMNS = "number, epoch, seq, running, wall, ttl, lane, crc, key, payload"
_SIZE = f"length(key) + length(payload) + {OVERHEAD_BYTES}"
#: How many of the oldest are looked at for one that a newer value has replaced.
SUPERSEDED_WITHIN = 10_000
#: How much an operator's drop looks at in one transaction.
LOOKED_AT = 10_000
LOOKED_AT_BYTES = 16 * 1024 * 1024
#: Damaged records that are kept for a look.
KEPT_DAMAGED = 1000

#: Rows that go in with one statement: few sizes, so that each is prepared once.
_AT_ONCE = (256, 32, 4, 1)
_INSERTS = {
    count: f"INSERT INTO messages ({COLUMNS}) VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)
    for count in _AT_ONCE
}
#: Fewer rows than this are read one by one: large ones, mostly, which JSON would only make larger.
_FEW = 8

#: Lane -> (number, size) of what was deleted.
Removal = dict[int, list[tuple[int, int]]]


@dataclass(slots=True)
class Usage:
    """One lane: what waits in it, and its last number (0: it has none)."""

    messages: int = 0
    size: int = 0
    last: int = 0


@dataclass(slots=True)
class Found:
    """What a file holds when it is opened. `running`: for how long the store had run, in ms."""

    lanes: dict[int, tuple[str, int]]
    usage: dict[int, Usage]
    losses: dict[tuple[str, str], tuple[int, int]]
    running: int


@dataclass(slots=True)
class Page:
    """Some of a lane. `through`: everything up to this number was looked at."""

    records: list[Record] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    through: int = 0


def _plain(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """A cursor of tuples: rows by name cost as much again."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor


def bounds(lane: int) -> tuple[int, int]:
    return lane << LANE_SHIFT, ((lane + 1) << LANE_SHIFT) - 1


def found(connection: sqlite3.Connection) -> Found:
    """Counts what waits, so it reads every page once."""
    cursor = _plain(connection)
    lanes = {lane: (name, priority) for lane, name, priority in cursor.execute("SELECT * FROM lanes")}
    usage = {lane: Usage() for lane in lanes}
    counted = f"SELECT number >> {LANE_SHIFT}, count(*), sum({_SIZE}), max(number) FROM messages GROUP BY 1"
    for lane, messages, size, last in cursor.execute(counted):
        usage[lane] = Usage(messages, size, last)
    losses = {(name, reason): (m, b) for name, reason, m, b in cursor.execute("SELECT * FROM losses")}
    running = next((row[0] for row in cursor.execute("SELECT running FROM state")), 0)
    for entry in usage.values():
        for (latest,) in cursor.execute("SELECT running FROM messages WHERE number = ?", (entry.last,)):
            running = max(running, latest)
    return Found(lanes, usage, losses, running)


def begin(connection: sqlite3.Connection, first_epoch: int) -> None:
    """`first_epoch` is where a new file starts counting: a random one, so that no other file ever gave it out."""
    connection.execute("INSERT OR IGNORE INTO state VALUES (1, ?, 0)", (first_epoch,))


def keep_time(connection: sqlite3.Connection, running: int) -> None:
    connection.execute("UPDATE state SET running = ?", (running,))


def next_epoch(connection: sqlite3.Connection) -> int:
    ((epoch,),) = _plain(connection).execute("UPDATE state SET epoch = epoch + 1 RETURNING epoch").fetchall()
    return int(epoch)


def add_lanes(connection: sqlite3.Connection, destination: str, priorities: Iterable[int]) -> dict[int, int]:
    """Priority -> lane."""
    connection.executemany(
        "INSERT OR IGNORE INTO lanes (destination, priority) VALUES (?, ?)",
        [(destination, priority) for priority in priorities],
    )
    chosen = _plain(connection).execute("SELECT priority, id FROM lanes WHERE destination = ?", (destination,))
    return dict(chosen.fetchall())


def insert(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    at = 0
    for count in _AT_ONCE:
        while len(records) - at >= count:
            connection.execute(_INSERTS[count], tuple(chain.from_iterable(records[at : at + count])))
            at += count


def last_of(connection: sqlite3.Connection, lane: int) -> int:
    ((last,),) = _plain(connection).execute(
        "SELECT max(number) FROM messages WHERE number BETWEEN ? AND ?", bounds(lane)
    )
    return 0 if last is None else int(last)


def page(connection: sqlite3.Connection, lane: int, after: int, limit: int, max_bytes: int) -> Page:
    """What follows `after` in a lane, in order: `limit` records or `max_bytes`, but one at least."""
    read = Page(through=max(after, bounds(lane)[0]))
    count = _fitting(connection, lane, read.through, limit, max_bytes)
    for record in _rows(connection, lane, read.through, count):
        read.through = record.number
        if is_sound(record):
            read.records.append(record)
        else:
            read.damaged.append(record.number)
    return read


def _fitting(connection: sqlite3.Connection, lane: int, after: int, limit: int, max_bytes: int) -> int:
    """How many of the next `limit` records `max_bytes` hold; one at least. Reads no payload."""
    ((sizes,),) = _plain(connection).execute(
        f"SELECT json_group_array(size) FROM (SELECT {_SIZE} AS size FROM messages WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT ?)",
        (after, bounds(lane)[1], limit),
    )
    total = 0
    for count, size in enumerate(json.loads(sizes), 1):
        total += size or 0
        if total >= max_bytes:
            return count
    return limit


def _rows(connection: sqlite3.Connection, lane: int, after: int, limit: int) -> Iterable[Record]:
    """The next records of a lane as they are, sound or not."""
    plain = f"SELECT {COLUMNS} FROM messages WHERE number > ? AND number <= ? ORDER BY number LIMIT ?"
    values = (after, bounds(lane)[1], limit)
    cursor = _plain(connection)
    if limit > _FEW:
        try:
            ((text,),) = cursor.execute(
                "SELECT json_group_array(json_array(number, epoch, seq, running, wall, ttl, lane, crc, hex(key), "
                f"hex(payload))) FROM ({plain})",
                values,
            )
            unhex = bytes.fromhex
            return [Record._make((*row[:8], unhex(row[8]), unhex(row[9]))) for row in sorted(json.loads(text))]
        except (sqlite3.OperationalError, ValueError, TypeError):
            # A damaged record holds what JSON does not: it is for the checksum to find.
            pass
    return map(Record._make, cursor.execute(plain, values))


def oldest(connection: sqlite3.Connection, lane: int) -> tuple[int, int] | None:
    """Running and wall time of the first message of a lane."""
    rows = _plain(connection).execute(
        "SELECT running, wall FROM messages WHERE number BETWEEN ? AND ? ORDER BY number LIMIT 1", bounds(lane)
    )
    return next(iter(rows.fetchall()), None)


def remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> Removal:
    """Delete these, and say which of them were there."""
    removed: Removal = {}
    cursor = _plain(connection)
    for first, last in _ranges(numbers):
        within = "FROM messages WHERE number BETWEEN ? AND ?"
        ((text,),) = cursor.execute(f"SELECT json_group_array(json_array(number, {_SIZE})) {within}", (first, last))
        cursor.execute(f"DELETE {within}", (first, last))
        for number, size in json.loads(text):
            removed.setdefault(number >> LANE_SHIFT, []).append((number, size))
    return removed


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for number in sorted(numbers):
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last


def remove_oldest(connection: sqlite3.Connection, lane: int, size: int, kept: Collection[int]) -> Removal:
    """Delete the first of a lane until `size` bytes are free or nothing is left but what is `kept`."""
    rows = _plain(connection).execute(
        f"SELECT number, {_SIZE} FROM messages WHERE number BETWEEN ? AND ? ORDER BY number", bounds(lane)
    )
    chosen = []
    for number, one in rows:
        if size <= 0:
            break
        if number not in kept:
            chosen.append(number)
            size -= one
    rows.close()
    return remove(connection, chosen)


def remove_earlier(connection: sqlite3.Connection, lane: int, key: bytes, kept: Collection[int]) -> Removal:
    """Delete the values of a key that the one to come replaces."""
    rows = _plain(connection).execute("SELECT number FROM messages WHERE lane = ? AND key = ?", (lane, key))
    return remove(connection, [number for (number,) in rows.fetchall() if number not in kept])


def remove_superseded(connection: sqlite3.Connection, lane: int, size: int, kept: Collection[int]) -> Removal:
    """Delete the first of a lane that a later value of their key has replaced, until `size` bytes are free."""
    rows = _plain(connection).execute(
        f"SELECT number, {_SIZE} FROM (SELECT * FROM messages WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?) "
        "AS early WHERE lane IS NOT NULL AND EXISTS (SELECT 1 FROM messages AS late "
        "WHERE late.lane = early.lane AND late.key = early.key AND late.number > early.number) ORDER BY number",
        (*bounds(lane), SUPERSEDED_WITHIN),
    )
    chosen = []
    for number, one in rows:
        if size <= 0:
            break
        if number not in kept:
            chosen.append(number)
            size -= one
    rows.close()
    return remove(connection, chosen)


def select(
    connection: sqlite3.Connection, lane: int, after: int, chosen: Callable[[Record], bool]
) -> tuple[list[int], int]:
    """Numbers of the next few that are `chosen`, and how far it looked (0: there are no more)."""
    read = page(connection, lane, after, LOOKED_AT, LOOKED_AT_BYTES)
    looked = read.records or read.damaged
    return [record.number for record in read.records if chosen(record)], read.through if looked else 0


def expired(
    connection: sqlite3.Connection, lane: int, limit: int, age: Callable[[int, int], int], max_age: int
) -> list[int]:
    """The first of a lane that are older than `max_age` ms. Times rise along a lane: it stops at the first younger."""
    rows = _plain(connection).execute(
        "SELECT number, running, wall FROM messages WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?",
        (*bounds(lane), limit),
    )
    numbers = []
    for number, running, wall in rows:
        if age(running, wall) <= max_age:
            break
        numbers.append(number)
    rows.close()
    return numbers


def put_aside(connection: sqlite3.Connection, numbers: Sequence[int], now: int) -> Removal:
    """Move damaged records where nobody sends them; the first `KEPT_DAMAGED` are kept for a look."""
    cursor = _plain(connection)
    for number in numbers:
        ((held,),) = cursor.execute("SELECT count(*) FROM quarantine").fetchall()
        rows = cursor.execute(f"SELECT {COLUMNS} FROM messages WHERE number = ?", (number,)).fetchall()
        for row in rows if held < KEPT_DAMAGED else ():
            shown = [value.hex() if isinstance(value, bytes) else value for value in row]
            cursor.execute("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", (number, now, json.dumps(shown)))
    return remove(connection, numbers)


def count_losses(connection: sqlite3.Connection, losses: Mapping[tuple[str, str], tuple[int, int]]) -> None:
    connection.executemany(
        "INSERT INTO losses VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "messages = messages + excluded.messages, bytes = bytes + excluded.bytes",
        [(destination, reason, messages, size) for (destination, reason), (messages, size) in losses.items()],
    )


def free_bytes(connection: sqlite3.Connection) -> int:
    """Pages of the file that are in no use."""
    ((pages,),) = _plain(connection).execute("PRAGMA freelist_count").fetchall()
    ((page_size,),) = _plain(connection).execute("PRAGMA page_size").fetchall()
    return int(pages) * int(page_size)
