"""The receiver's side: each message takes effect once, however often it comes.

What has come from whom is in the same database, and written in the same transaction, as the effect (fault 77). Marks of
an epoch are kept until its sender says that it is over; then one number keeps its late copies out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import SpoolFull
from gateway.spool.deduplication import Arrivals, TooManyGaps
from gateway.spool.message import Batch
from gateway.storage.database import Database

#: Takes effect for one `seq`, inside the transaction.
Effect = Callable[[sqlite3.Connection, int], None]

CREATE = """CREATE TABLE IF NOT EXISTS arrivals (
    node TEXT NOT NULL, lane TEXT NOT NULL, epoch INTEGER NOT NULL, oldest INTEGER NOT NULL, settled INTEGER NOT NULL,
    above TEXT NOT NULL, missing INTEGER NOT NULL, PRIMARY KEY (node, lane, epoch)) WITHOUT ROWID"""
#: Epochs that have these bits in common are of one file, and rise; see `store.EPOCH_BITS`.
FILE_BITS = 20


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came in one piece, as its sender's `Batch` says. `node` is who authenticated, not what the bytes claim."""

    node: str
    lane: str
    epoch: int
    oldest_epoch: int
    floor: int
    seqs: Sequence[int]

    @classmethod
    def of(cls, batch: Batch) -> Arrived:
        seqs = tuple(message.id.seq for message in batch.messages)
        return cls(batch.node, batch.lane, batch.epoch, batch.oldest_epoch, batch.floor, seqs)


@dataclass(frozen=True, slots=True)
class Receipt:
    """`settled`: everything of the epoch up to it is on disk or never comes; what a sender is told (cumulative).
    `fresh`: those that took effect. `duplicates`: how many had come before. `missing`: how many the sender gave up on,
    as this piece showed. `gap`: some that were sent before are still awaited."""

    settled: int
    fresh: tuple[int, ...]
    duplicates: int
    missing: int
    gap: bool


class Inbox:
    """Receives into any database of the storage layer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Make the table where the database's own schema has none. Raises StorageError."""
        await self._database.write(lambda connection: connection.execute(CREATE) and None, reserve=True)

    async def receive(self, arrived: Arrived, effect: Effect) -> Receipt:
        """When this returns, the effects of all of it are on disk, each once; only then may it be acknowledged.

        Raises:
            SpoolFull: `inbox_gaps`: too much of what was sent before has not come; nothing of it is stored.
            StorageError: nothing of it is stored. Whatever `effect` raises undoes all of it and is raised here.
        """
        return await self._database.write(lambda connection: receive(connection, arrived, effect))


def receive(connection: sqlite3.Connection, arrived: Arrived, effect: Effect) -> Receipt:
    """As a part of a larger work."""
    node, lane, epoch = arrived.node, arrived.lane, arrived.epoch
    ((over,),) = connection.execute(
        f"SELECT max(oldest) FROM arrivals WHERE node = ? AND lane = ? AND epoch >> {FILE_BITS} = ?",
        (node, lane, epoch >> FILE_BITS),
    ).fetchall()
    if over is not None and epoch < over:
        # Late copies of an epoch that is over.
        return Receipt(max(arrived.seqs, default=0), (), len(arrived.seqs), 0, False)
    row = connection.execute(
        "SELECT settled, above, missing FROM arrivals WHERE node = ? AND lane = ? AND epoch = ?", (node, lane, epoch)
    ).fetchone()
    marks = Arrivals() if row is None else Arrivals(row[0], [(a, b) for a, b in json.loads(row[1])], row[2])
    missing = marks.advance(arrived.floor)
    try:
        fresh = [seq for seq in arrived.seqs if marks.add(seq)]
    except TooManyGaps as error:
        raise SpoolFull("too much that was sent before has not come", reason="inbox_gaps") from error
    for seq in fresh:
        effect(connection, seq)
    connection.execute(
        "INSERT OR REPLACE INTO arrivals VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            node,
            lane,
            epoch,
            max(over or 0, arrived.oldest_epoch),
            marks.settled,
            json.dumps(marks.above),
            marks.missing,
        ),
    )
    connection.execute(
        f"DELETE FROM arrivals WHERE node = ? AND lane = ? AND epoch < ? AND epoch >> {FILE_BITS} = ?",
        (node, lane, arrived.oldest_epoch, epoch >> FILE_BITS),
    )
    return Receipt(marks.settled, tuple(fresh), len(arrived.seqs) - len(fresh), missing, bool(marks.above))
