"""A lease on a store that loses answers, changes hands and goes back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.federation.table import EmbeddedStore, lease
from gateway.federation.table.lease import Fenced, Lease
from gateway.federation.table.records import LEASE_S, NodeRecord
from gateway.federation.table.store import Entry, Put, Unanswered, Unavailable
from tests.federation.waiting import until

KEY = "n.c1"


class Unreliable(EmbeddedStore):
    """Does what it is told to do before a write, and may lose its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lose = self.away = False
        self.before: Callable[[], Awaitable[object]] | None = None

    async def put(self, put: Put) -> int:
        if self.away:
            raise Unavailable("away")
        before, self.before = self.before, None
        if before is not None:
            await before()
        revision = await super().put(put)
        if self.lose:
            self.lose = False
            raise Unanswered("lost")
        return revision

    async def theirs(self, epoch: int) -> int:
        return await EmbeddedStore.put(self, Put(KEY, NodeRecord(epoch).encode(), LEASE_S))


class Held:
    """A lease that is being held, quickly."""

    def __init__(self, store: Unreliable, now_ms: int = 1000) -> None:
        self.lease = Lease(store, "c1", NodeRecord, lambda: now_ms)
        self.task = asyncio.create_task(self.lease.run())

    async def __aenter__(self) -> Lease:
        await asyncio.wait([self.task, asyncio.create_task(self.lease.taken.wait())], return_when="FIRST_COMPLETED")
        return self.lease

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def refreshed(self) -> None:
        before = self.lease.refreshes
        await until(lambda: self.lease.refreshes > before + 1 or self.task.done())


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Unreliable:
    monkeypatch.setattr(lease, "REFRESH_S", 0.01)
    monkeypatch.setattr(lease, "RETRY_S", (0.005, 0.01))
    store = Unreliable()
    await store.start()
    return store


async def epoch(store: Unreliable) -> int:
    entry = await store.read(KEY)
    assert isinstance(entry, Entry)
    return NodeRecord.decode(entry.value).epoch


async def test_an_epoch_is_above_the_one_before_whatever_the_clock_says(store: Unreliable) -> None:
    await store.theirs(5000)
    async with Held(store, now_ms=1000) as held:
        assert held.epoch == 5001
        assert await epoch(store) == 5001


async def test_answers_that_are_lost_fence_nobody(store: Unreliable) -> None:
    store.lose = True
    holder = Held(store)
    async with holder as held:
        assert held.epoch == 1000
        for _ in range(3):
            store.lose = True
            await holder.refreshed()
        assert not holder.task.done()


async def test_a_store_that_is_away_is_waited_for(store: Unreliable) -> None:
    store.away = True
    holder = Held(store)
    await until(lambda: holder.lease.failures > 3)
    assert not holder.lease.epoch
    store.away = False
    async with holder as held:
        store.away = True
        await until(lambda: held.failures > 8)
        store.away = False
        await holder.refreshed()
        assert held.epoch == 1000


async def test_a_later_one_of_that_name_fences(store: Unreliable) -> None:
    holder = Held(store)
    async with holder:
        await store.theirs(2000)
        with pytest.raises(Fenced, match="another process has the name 'c1' since epoch 2000"):
            await holder.task
    assert await epoch(store) == 2000


async def test_two_that_start_at_once_have_two_epochs(store: Unreliable) -> None:
    store.before = lambda: store.theirs(1000)
    async with Held(store) as held:
        assert held.epoch == 1001


async def test_an_older_ghost_is_written_over(store: Unreliable) -> None:
    holder = Held(store)
    async with holder:
        await store.theirs(500)
        await holder.refreshed()
        assert not holder.task.done()
        assert await epoch(store) == 1000


async def test_a_lease_that_was_lost_is_written_again(store: Unreliable) -> None:
    holder = Held(store)
    async with holder:
        await store.delete(KEY)
        await holder.refreshed()
        assert await epoch(store) == 1000


async def test_a_good_bye_takes_nothing_from_the_next_one(store: Unreliable) -> None:
    async with Held(store) as held:
        pass
    await store.theirs(2000)
    await held.release()
    assert await epoch(store) == 2000
    async with Held(store, now_ms=3000) as held:
        pass
    await held.release()
    assert await store.read(KEY) is None
