"""What happens when there is no room: of the spool, of the file, of the volume (faults 72, P8)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import SpoolFull
from gateway.spool.message import OVERHEAD_BYTES, Message
from gateway.spool.rules import SpoolRules, WhenFull
from gateway.spool.spool import Spool
from tests.local_node import until
from tests.spool.conftest import Stores

SIZE = 100 + OVERHEAD_BYTES


def rules(when_full: WhenFull, room: int = 10, **more: float) -> SpoolRules:
    return SpoolRules(when_full=when_full, max_bytes=room * SIZE, **({"min_free": 0.0} | more))


def message(number: int, priority: int = 5, key: bytes = b"") -> Message:
    return Message((b"%d" % number).ljust(100 - len(key)), key, priority)


async def waiting(spool: Spool) -> list[int]:
    return [int(message.payload) for message in await spool.peek(1000)]


async def test_reject_takes_what_fits_and_all_or_nothing_of_a_call(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.REJECT))
    for number in range(10):
        await spool.append([message(number)])
    with pytest.raises(SpoolFull) as refused:
        await spool.append([message(10)])
    assert refused.value.reason == "spool_full"
    assert spool.status().refused == {"spool_full": 1}
    batch = await spool.take(limit=1)
    assert batch is not None
    spool.settle(batch)
    await until(lambda: spool.messages == 9)
    with pytest.raises(SpoolFull):
        await spool.append([message(11), message(12)])
    await spool.append([message(13)])
    assert await waiting(spool) == [*range(1, 10), 13]
    assert spool.status().lost == {}


async def test_drop_oldest_counts_what_it_throws_away(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.DROP_OLDEST))
    for number in range(25):
        await spool.append([message(number)])
    await spool.append([message(number) for number in range(25, 28)])
    assert await waiting(spool) == list(range(18, 28))
    assert spool.status().lost == {"evicted": 18}
    with pytest.raises(SpoolFull):
        await spool.append([message(number) for number in range(11)])
    assert spool.status().lost == {"evicted": 18}, "a refusal throws nothing away"


async def test_drop_oldest_begins_with_the_least_important_and_spares_the_more_important(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.DROP_OLDEST))
    await spool.append([message(number, priority=3) for number in range(4)])
    await spool.append([message(number, priority=9) for number in range(4, 10)])
    await spool.append([message(10, priority=5)])
    assert await waiting(spool) == [0, 1, 2, 3, 10, 5, 6, 7, 8, 9]
    for number in range(11, 17):
        await spool.append([message(number, priority=3)])
    assert await waiting(spool) == [0, 1, 2, 3, *range(11, 17)]
    with pytest.raises(SpoolFull):
        await spool.append([message(17, priority=5)])
    await spool.append([message(18, priority=0)])
    assert await waiting(spool) == [18, 1, 2, 3, *range(11, 17)]


async def test_drop_oldest_leaves_what_is_on_its_way(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.DROP_OLDEST))
    await spool.append([message(number) for number in range(10)])
    batch = await spool.take(limit=3)
    assert batch is not None
    await spool.append([message(10), message(11)])
    assert await waiting(spool) == [0, 1, 2, *range(5, 12)]
    spool.settle(batch)
    await until(lambda: spool.messages == 7)
    rest = await spool.take()
    assert rest is not None
    assert [int(one.payload) for one in rest.messages] == list(range(5, 12))
    assert rest.floor == 6, "what was evicted never comes, and the far side is told"
    status = spool.status()
    assert (status.delivered, status.lost) == (3, {"evicted": 2})


async def test_drop_newest_takes_and_counts_it(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.DROP_NEWEST))
    await spool.append([message(number) for number in range(9)])
    ids = await spool.append([message(9), message(10)])
    assert [identity is None for identity in ids] == [False, True]
    assert await waiting(spool) == list(range(10))
    assert spool.status().lost == {"dropped_newest": 1}


async def test_conflate_keeps_the_last_value_of_a_key(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", rules(WhenFull.CONFLATE))
    for number in range(10):
        await spool.append([message(number, key=b"abc"[number % 3 :][:1])])
    assert len(await waiting(spool)) == 10, "while there is room history is kept"
    await spool.append([message(10, key=b"b")])
    assert await waiting(spool) == [0, 2, 3, 5, 6, 8, 9, 10]
    await spool.append([message(11, key=b"x"), message(12, key=b"y")])
    await spool.append([message(13, key=b"z")])
    assert await waiting(spool) == [2, 3, 5, 6, 8, 9, 10, 11, 12, 13], "a replaced value of another key makes room"
    for number in range(14, 19):
        await spool.append([message(number, key=b"abcde"[number % 5 :][:1])])
    last = {one.key: int(one.payload) for one in await spool.peek()}
    assert last == {b"a": 15, b"b": 16, b"c": 17, b"d": 18, b"e": 14, b"x": 11, b"y": 12, b"z": 13}
    with pytest.raises(SpoolFull):
        await spool.append([message(number, key=b"f%d" % number) for number in range(3)])
    assert sum(spool.status().lost.values()) == 19 - spool.messages


async def test_a_volume_that_is_nearly_full_is_left_alone(stores: Stores) -> None:
    """Fault 72: min_free; what is free inside the file may be used, and it recovers without a restart."""
    store = await stores.open()
    spool = await store.spool("uplink", replace(rules(WhenFull.REJECT, 10_000), min_free=0.0))
    for _ in range(10):
        await spool.append([message(number) for number in range(100)])
    spool.set_rules(rules(WhenFull.REJECT, 10_000, min_free=0.9999))
    with pytest.raises(SpoolFull) as refused:
        await spool.append([message(1)])
    assert refused.value.reason == "volume_full"
    while (batch := await spool.take()) is not None:
        spool.settle(batch)
    await until(lambda: spool.messages == 0)
    await spool.append([message(2)])
    spool.set_rules(rules(WhenFull.REJECT, 10_000))
    await spool.append([message(3)])


@pytest.mark.parametrize("policy", list(WhenFull))
async def test_a_full_file_is_answered_by_the_policy_and_recovers(stores: Stores, policy: WhenFull) -> None:
    """Faults 72 and P8: SQLITE_FULL; deletes go on, the node stays up, and it recovers without a restart."""
    store = await stores.open(max_bytes=512 * 1024)
    spool = await store.spool("uplink", SpoolRules(when_full=policy, min_free=0.0))
    refused = 0
    for number in range(1200):
        try:
            await spool.append([Message(b"%06d" % number + b"x" * 994, key=b"k%d" % (number % 7))])
        except SpoolFull as full:
            refused += full.reason == "storage_full"
    status = spool.status()
    assert status.messages + sum(status.lost.values()) + refused == 1200
    assert 200 < status.messages < 600
    assert (refused > 0) == (policy is WhenFull.REJECT)
    kept = [int(one.payload[:6]) for one in await spool.peek(2000)]
    if policy in (WhenFull.DROP_OLDEST, WhenFull.CONFLATE):
        assert kept[-1] == 1199
    else:
        assert kept == list(range(len(kept)))
    while (batch := await spool.take()) is not None:
        spool.settle(batch)
        await asyncio.sleep(0)
    await until(lambda: spool.messages == 0)
    assert spool.status().delivered == status.messages
    assert await spool.append([Message(b"again")]) != [None]


async def test_more_than_the_disk_takes_is_refused_at_once(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", SpoolRules(min_free=0.0))
    appends = [asyncio.ensure_future(spool.append([Message(b"x" * 200_000)])) for _ in range(100)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    refused = [one for one in results if isinstance(one, SpoolFull)]
    assert {one.reason for one in refused} == {"spool_busy"}
    assert spool.messages == 100 - len(refused) >= 80
