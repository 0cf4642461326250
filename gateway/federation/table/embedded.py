"""The engine of a cluster of one: the table's keys in this process. The default; needs no server."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence

from gateway.errors import FederationError
from gateway.federation.table.store import Change, Entry, Follower, Gone, Put, RevisionConflict, Unavailable

HEARTBEAT_S = 1.0


class _Following:
    """One watch."""

    def __init__(self, store: EmbeddedStore, prefixes: Sequence[str], follower: Follower) -> None:
        self._store = store
        self.prefixes = tuple(f"{prefix}." for prefix in prefixes)
        self.follower = follower

    async def stop(self) -> None:
        self._store.followers.pop(self, None)


class EmbeddedStore:
    """As `RouteStore`. May be shared by several tables of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.followers: dict[_Following, None] = {}
        self._clock = clock
        self._revision = 0
        self._held: dict[str, Entry] = {}
        self._ends: list[tuple[float, str, int]] = []
        self._upkeep: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._started = 0

    async def start(self) -> None:
        self._started += 1
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up(), name="embedded table: upkeep")

    async def stop(self) -> None:
        self._started -= 1
        if self._upkeep is not None and not self._started:
            self._upkeep.cancel()
            try:
                await self._upkeep
            except asyncio.CancelledError:
                pass
            self._upkeep = None

    async def read(self, key: str) -> Entry | None:
        self._expire()
        return self._held.get(key)

    async def put(self, put: Put) -> int:
        if not self._started:
            raise Unavailable("the table is closed")
        self._expire()
        held = self._held.get(put.key)
        if put.expected is not None and put.expected != (0 if held is None else held.revision):
            raise RevisionConflict(f"{put.key} was written by somebody else")
        self._revision += 1
        self._held[put.key] = Entry(put.value, self._revision)
        heapq.heappush(self._ends, (self._clock() + put.ttl_s, put.key, self._revision))
        self._wake.set()
        self._tell(Change(put.key, put.value, self._revision))
        return self._revision

    async def put_all(self, puts: Sequence[Put]) -> list[int | FederationError]:
        answers: list[int | FederationError] = []
        for put in puts:
            try:
                answers.append(await self.put(put))
            except FederationError as error:
                answers.append(error)
        return answers

    async def delete(self, key: str, expected: int | None = None) -> int:
        if not self._started:
            raise Unavailable("the table is closed")
        self._expire()
        held = self._held.get(key)
        if held is None:
            return self._revision
        if expected is not None and expected != held.revision:
            raise RevisionConflict(f"{key} was written by somebody else")
        del self._held[key]
        self._revision += 1
        self._tell(Change(key, None, self._revision, Gone.DELETED))
        return self._revision

    def watch(self, prefixes: Sequence[str], follower: Follower) -> _Following:
        following = _Following(self, prefixes, follower)
        self.followers[following] = None
        self._expire()
        follower.snapshot_began(False)
        for key, entry in sorted(self._held.items(), key=lambda item: item[1].revision):
            if key.startswith(following.prefixes):
                follower.changed(Change(key, entry.value, entry.revision))
        follower.snapshot_ended()
        return following

    def _tell(self, change: Change) -> None:
        for following in list(self.followers):
            if change.key.startswith(following.prefixes):
                following.follower.changed(change)

    def _expire(self) -> None:
        while self._ends and self._ends[0][0] <= self._clock():
            _, key, revision = heapq.heappop(self._ends)
            held = self._held.get(key)
            if held is not None and held.revision == revision:
                del self._held[key]
                self._revision += 1
                self._tell(Change(key, None, self._revision, Gone.EXPIRED))

    async def _keep_up(self) -> None:
        heartbeat_at = self._clock() + HEARTBEAT_S
        while True:
            end = min(heartbeat_at, self._ends[0][0] if self._ends else heartbeat_at)
            try:
                async with asyncio.timeout(max(0.0, end - self._clock())):
                    await self._wake.wait()
                self._wake.clear()
            except TimeoutError:
                self._expire()
            if self._clock() >= heartbeat_at:
                heartbeat_at = self._clock() + HEARTBEAT_S
                for following in list(self.followers):
                    following.follower.heard()
