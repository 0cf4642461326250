"""A central's lease: one key that it refreshes, and the epoch that tells its lives apart.

The epoch is taken by compare-and-set, and every refresh is one: whoever finds another epoch in its place is not the one
of that name any more and fences itself. A process that slept for a minute, and the older of two of one name, end so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from gateway.errors import FederationError
from gateway.federation.table import names
from gateway.federation.table.following import REFRESH_S
from gateway.federation.table.records import LEASE_S, NodeRecord
from gateway.federation.table.store import (
    Change,
    Entry,
    Put,
    RecordInvalid,
    RevisionConflict,
    RouteStore,
    Unanswered,
    Unavailable,
)

#: Seconds to the next attempt where the engine is away, between these two.
RETRY_S = (0.3, 0.6)


class Fenced(FederationError):
    """Another process has this node's name, and began later."""

    reason = "fenced"


class Lease:
    """`run` holds it until it is cancelled; `epoch` is 0 before the lease was taken for the first time."""

    def __init__(
        self,
        store: RouteStore,
        name: str,
        record: Callable[[int], NodeRecord],
        wall_ms: Callable[[], int],
        random: Random | None = None,
    ) -> None:
        self.epoch = 0
        self.taken = asyncio.Event()
        self.refreshes = 0
        self.failures = 0
        self.key = names.node_key(name)
        self._name = name
        self._store = store
        self._record = record
        self._wall_ms = wall_ms
        self._random = random or Random()
        self._revision = 0
        self._hurry = asyncio.Event()
        self._fenced: Fenced | None = None

    async def run(self) -> None:
        """Raises Fenced."""
        while True:
            try:
                if self.epoch:
                    await self._refresh()
                else:
                    await self._take()
                self.refreshes += 1
                pause = REFRESH_S * self._random.uniform(0.9, 1.1)
            except Unavailable:
                self.failures += 1
                pause = self._random.uniform(*RETRY_S)
            if self._fenced is not None:
                raise self._fenced
            try:
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            if self._fenced is not None:
                raise self._fenced
            self._hurry.clear()

    def told(self, change: Change) -> None:
        """What the watch tells of the lease's key."""
        if not self.epoch or change.revision <= self._revision:
            return
        epoch = _epoch(change.value)
        if epoch > self.epoch:
            self._fence(epoch)
        elif epoch != self.epoch:
            # It ran out, was lost, or is a ghost's: the next refresh says who is there.
            self._revision = change.revision
        if epoch != self.epoch:
            self._hurry.set()

    def missing(self) -> None:
        """A snapshot does not have it."""
        if self.epoch:
            self._revision = 0
            self._hurry.set()

    async def release(self) -> None:
        """Says good-bye; others see it at once."""
        if self.epoch:
            epoch, self.epoch = self.epoch, 0
            try:
                await self._store.delete(self.key, self._revision)
            except RevisionConflict:
                entry = await self._store.read(self.key)
                if entry is not None and _epoch(entry.value) == epoch:
                    await self._store.delete(self.key, entry.revision)

    async def _take(self) -> None:
        entry = await self._store.read(self.key)
        epoch = max(self._wall_ms(), _epoch(None if entry is None else entry.value) + 1)
        try:
            self._revision = await self._put(epoch, 0 if entry is None else entry.revision)
        except RevisionConflict:
            # Somebody else takes it at this moment, or had the same answer to wait for: look again, and be the later.
            raise Unavailable("the lease changed hands while it was taken") from None
        except Unanswered:
            entry = await self._store.read(self.key)
            if entry is None or _epoch(entry.value) != epoch:
                raise
            self._revision = entry.revision
        self.epoch = epoch
        self.taken.set()

    async def _refresh(self) -> None:
        try:
            self._revision = await self._put(self.epoch, self._revision)
        except RevisionConflict:
            entry = await self._store.read(self.key)
            await self._contested(entry)

    async def _contested(self, entry: Entry | None) -> None:
        """The key is not as this process left it. An own write whose answer was lost is the usual reason."""
        epoch = _epoch(None if entry is None else entry.value)
        if epoch > self.epoch:
            self._fence(epoch)
            return
        try:
            self._revision = await self._put(self.epoch, 0 if entry is None else entry.revision)
        except RevisionConflict:
            raise Unavailable("the lease changed while it was refreshed") from None

    def _fence(self, epoch: int) -> None:
        self._fenced = Fenced(
            f"another process has the name {self._name!r} since epoch {epoch}, and this one is of {self.epoch}: "
            "it takes over, this one ends; give each node a name of its own (node.name)"
        )
        self._hurry.set()

    async def _put(self, epoch: int, expected: int) -> int:
        return await self._store.put(Put(self.key, self._record(epoch).encode(), LEASE_S, expected))


def _epoch(value: bytes | None) -> int:
    if not value:
        return 0
    try:
        return NodeRecord.decode(value).epoch
    except RecordInvalid:
        return 0
