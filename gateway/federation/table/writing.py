"""Brings the engine's keys to what this central's edges say: the one writer of a central's own keys."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from random import Random
from typing import Protocol

from gateway.errors import FederationError
from gateway.federation.table import names
from gateway.federation.table.lease import Lease
from gateway.federation.table.owned import Due, OwnedKeys
from gateway.federation.table.records import RECORD_S, EdgeRecord
from gateway.federation.table.store import Put, RecordInvalid, RevisionConflict, RouteStore, Unavailable

#: Keys that are under way at a time.
AT_ONCE = 512
#: Seconds to the next attempt while the engine is away: from the first to the second, by doubling, with jitter.
RETRY_S = (0.5, 5.0)
CONFLICTS = 5


class Source(Protocol):
    """Whose keys they are."""

    def encoded(self, key: str) -> bytes | None:
        """The value of a key of ours; None when there is none (any more). Raises RecordInvalid for one too large."""

    def contested(self, edge: str, record: EdgeRecord) -> bool:
        """The engine has another holder of an edge than this central: whether this one gives way."""

    def held(self, edge: str) -> None:
        """The engine has this central as an edge's holder."""


class Writer:
    """`run` until it is cancelled; `wake` when a key has changed. Nothing is written without a lease."""

    def __init__(
        self,
        store: RouteStore,
        owned: OwnedKeys,
        lease: Lease,
        source: Source,
        clock: Callable[[], float],
        random: Random | None = None,
    ) -> None:
        self.counts = {"written": 0, "deleted": 0, "write_failures": 0, "unwritable": 0}
        self._store = store
        self._owned = owned
        self._lease = lease
        self._source = source
        self._clock = clock
        self._random = random or Random()
        self._wake = asyncio.Event()
        self._retry_s = 0.0
        self._stopped = False

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """For good: another process has this node's name."""
        self._stopped = True

    async def run(self) -> None:
        await self._lease.taken.wait()
        while not self._stopped:
            if self._retry_s:
                await asyncio.sleep(self._retry_s * self._random.uniform(0.5, 1.0))
            now = self._clock()
            due = self._owned.due(now)[:AT_ONCE]
            if not due:
                await self._until(self._owned.next_at())
                continue
            failed = await self._write(due)
            if failed:
                self.counts["write_failures"] += failed
                first, last = RETRY_S
                self._retry_s = min(max(first, self._retry_s * 2), last)
            else:
                self._retry_s = 0.0

    async def attach(self, edge: str, life: Callable[[int], int], shards: Callable[[str, int], int]) -> tuple[int, int]:
        """Takes an edge by compare-and-set; `life` makes its epoch of the one that is known. The epoch, the revision.

        Raises FederationError as `life` does, and Unavailable.
        """
        key = names.edge_key(edge)
        for _ in range(CONFLICTS):
            entry = await self._store.read(key)
            known = 0
            if entry is not None and entry.value:
                with contextlib.suppress(RecordInvalid):
                    known = EdgeRecord.decode(entry.value).epoch
            epoch = life(known)
            record = EdgeRecord(self._lease_name, self._lease.epoch, epoch, shards(edge, epoch))
            try:
                put = Put(key, record.encode(), RECORD_S, 0 if entry is None else entry.revision)
                return epoch, await self._store.put(put)
            except RevisionConflict:
                continue
        raise Unavailable(f"edge {edge!r} is taken by others again and again")

    @property
    def _lease_name(self) -> str:
        return names.parse(self._lease.key).name

    async def _until(self, at: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(None if at == math.inf else max(0.0, at - self._clock())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write(self, due: list[Due]) -> int:
        """How many failed."""
        plain: list[tuple[Due, Put]] = []
        failed = 0
        for each in due:
            try:
                value = None if each.delete else self._source.encoded(each.key)
            except RecordInvalid:
                # Too large for a record: what was written before stays, and the count says so.
                self.counts["unwritable"] += 1
                self._owned.begun(each.key, 0)
                continue
            if value is None and not each.delete:
                self._owned.disown(each.key)
                continue
            self._owned.begun(each.key, 0 if value is None else hash(value))
            if value is not None and not each.key.startswith(f"{names.EDGE}."):
                plain.append((each, Put(each.key, value, RECORD_S)))
                continue
            if plain and each.delete:
                failed += await self._put_all(plain)
                plain = []
            if each.delete and failed:
                # What was to be there before this goes is not.
                self._owned.failed(each.key, self._clock())
                continue
            try:
                await (self._delete(each) if value is None else self._hold(each, value))
            except Unavailable:
                self._owned.failed(each.key, self._clock())
                failed += 1
        return failed + await self._put_all(plain)

    async def _put_all(self, plain: list[tuple[Due, Put]]) -> int:
        failed = 0
        if not plain:
            return 0
        answers = await self._store.put_all([put for _, put in plain])
        now = self._clock()
        for (each, put), answer in zip(plain, answers, strict=True):
            if isinstance(answer, FederationError):
                self._owned.failed(each.key, now)
                failed += 1
            else:
                self.counts["written"] += 1
                self._owned.written(each.key, answer, hash(put.value), now)
        return failed

    async def _hold(self, each: Due, value: bytes) -> None:
        """Writes who holds an edge, unless somebody else does by now."""
        expected = each.expected
        for _ in range(CONFLICTS):
            try:
                revision = await self._store.put(Put(each.key, value, RECORD_S, expected))
            except RevisionConflict:
                entry = await self._store.read(each.key)
                expected = 0 if entry is None else entry.revision
                if entry is not None and entry.value and self._foreign(each.key, entry.value):
                    return
                continue
            self.counts["written"] += 1
            self._owned.written(each.key, revision, hash(value), self._clock())
            self._source.held(names.parse(each.key).name)
            return
        raise Unavailable(f"{each.key} is written by others again and again")

    def _foreign(self, key: str, value: bytes) -> bool:
        """Whether the one who is written there is to stay."""
        try:
            record = EdgeRecord.decode(value)
        except RecordInvalid:
            return False
        if record.central == self._lease_name and record.central_epoch == self._lease.epoch:
            return False
        return self._source.contested(names.parse(key).name, record)

    async def _delete(self, each: Due) -> None:
        try:
            revision = await self._store.delete(each.key, each.expected or None)
        except RevisionConflict:
            if each.key.startswith(f"{names.EDGE}."):
                # Whoever wrote it holds the edge now; unless it was this central, whose answer was lost.
                entry = await self._store.read(each.key)
                if entry is not None and entry.value and not self._own(entry.value):
                    self._owned.disown(each.key)
                    return
            revision = await self._store.delete(each.key)
        self.counts["deleted"] += 1
        self._owned.written(each.key, revision, 0, self._clock())

    def _own(self, value: bytes) -> bool:
        try:
            record = EdgeRecord.decode(value)
        except RecordInvalid:
            return True
        return record.central == self._lease_name and record.central_epoch == self._lease.epoch
