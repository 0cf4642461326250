"""Append, take, settle, put back: one destination on a real file."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import SpoolFull, StorageError
from gateway.spool.message import Batch, Message, MessageId
from gateway.spool.rules import SpoolRules, WhenFull
from gateway.spool.store import Grouping
from tests.local_node import until
from tests.spool.conftest import Stores

ROOMY = SpoolRules(min_free=0.0)


def texts(batch: Batch | None) -> list[bytes]:
    return [] if batch is None else [message.payload for message in batch.messages]


async def test_what_is_acknowledged_is_there_after_a_restart(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    ids = await spool.append([Message(b"a", key=b"k"), Message(b"b", key=b"k")])
    assert [identity.seq for identity in ids if identity] == [1, 2]
    store = await stores.reopen()
    assert store.forsaken() == {"uplink": 2}
    spool = await store.spool("uplink", ROOMY)
    assert store.forsaken() == {}
    batch = await spool.take()
    assert batch is not None
    assert [(message.id, message.payload) for message in batch.messages] == [(ids[0], b"a"), (ids[1], b"b")]
    assert spool.status().messages == 2


async def test_every_run_begins_an_epoch_and_counts_from_one(stores: Stores) -> None:
    """A batch has one epoch, and says from which one on the far side still has to remember."""
    epochs = []
    for _ in range(3):
        spool = await (await stores.reopen()).spool("uplink", ROOMY)
        [identity] = await spool.append([Message(b"x")])
        assert identity is not None
        assert identity.seq == 1
        epochs.append(identity.epoch)
    assert epochs == sorted(set(epochs))
    batches = [await spool.take() for _ in range(3)]
    assert [(batch.epoch, batch.oldest_epoch, batch.floor) for batch in batches if batch] == [
        (epoch, epochs[0], 1) for epoch in epochs
    ]
    for batch in batches[:2]:
        assert batch is not None
        spool.settle(batch)
    spool.put_back()
    last = await spool.take()
    assert last is not None
    assert last.oldest_epoch == epochs[2]


async def test_a_lane_of_its_own_counts_alone(stores: Stores) -> None:
    """So a hole in what one receiver gets is a message that is missing."""
    store = await stores.open()
    a, b = await store.spool("a", ROOMY), await store.spool("b", ROOMY)
    for spool in (a, b, a, b):
        await spool.append([Message(b"x"), Message(b"y", priority=0)])
    seen = {}
    for spool in (a, b):
        for _ in range(2):
            batch = await spool.take()
            assert batch is not None
            seen[batch.lane] = [message.id.seq for message in batch.messages]
    assert seen == {"a/0": [1, 2], "a/5": [1, 2], "b/0": [1, 2], "b/5": [1, 2]}


async def test_a_key_is_in_one_batch_at_a_time(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"%d" % number, key=b"ab"[number % 2 :][:1]) for number in range(6)])
    first = await spool.take(limit=1)
    second = await spool.take()
    assert (texts(first), texts(second)) == ([b"0"], [b"1", b"3", b"5"])
    assert await spool.take() is None
    assert first is not None
    spool.settle(first)
    assert texts(await spool.take()) == [b"2", b"4"]


async def test_without_a_key_nothing_waits_for_anything(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"%d" % number) for number in range(4)])
    assert [texts(await spool.take(limit=2)) for _ in range(3)] == [[b"0", b"1"], [b"2", b"3"], []]


async def test_put_back_comes_before_what_came_later(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"%d" % number, key=b"k") for number in range(5)])
    batch = await spool.take(limit=2)
    assert batch is not None
    assert spool.put_back(batch) == 2
    assert texts(await spool.take()) == [b"0", b"1", b"2", b"3", b"4"]
    assert spool.replay() == 5
    assert len(texts(await spool.take())) == 5
    assert spool.status().sent_again == 7


async def test_an_acknowledgement_is_cumulative_and_reaches_only_what_was_sent(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"%d" % number, key=b"k") for number in range(6)])
    batch = await spool.take(limit=4)
    assert batch is not None
    assert spool.acknowledge(batch.epoch + 1, 4) == 0
    assert spool.acknowledge(batch.epoch, 2) == 2
    assert await spool.take() is None, "the rest of the batch still holds the key"
    assert spool.acknowledge(batch.epoch, 1_000_000) == 2
    rest = await spool.take()
    assert texts(rest) == [b"4", b"5"]
    assert rest is not None
    assert rest.floor == 5
    spool.settle(rest)
    await until(lambda: not spool.messages)
    assert spool.status().delivered == 6


async def test_nothing_is_deleted_when_it_is_sent(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"a"), Message(b"b")])
    assert len(texts(await spool.take())) == 2
    spool = await (await stores.reopen()).spool("uplink", ROOMY)
    assert texts(await spool.take()) == [b"a", b"b"]


async def test_the_important_go_first_and_the_others_are_not_starved(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"low", priority=9) for _ in range(200)])
    await spool.append([Message(b"high", priority=0) for _ in range(1000)])
    first: list[bytes] = []
    while len(first) < 800:
        batch = await spool.take(limit=50)
        assert batch is not None
        first += texts(batch)
    assert first[0] == b"high"
    assert 0.08 <= first.count(b"low") / len(first) <= 0.12


async def test_appends_share_a_commit_and_are_stored_in_the_order_of_their_calls(stores: Stores) -> None:
    store = await stores.open(grouping=Grouping(100, 0.02))
    spool = await store.spool("uplink", ROOMY)
    before = store.database.commits
    waiting = [spool.append([Message(b"%d" % number)]) for number in range(300)]
    await asyncio.gather(*waiting)
    assert store.database.commits - before <= 4
    assert texts(await spool.take()) == [b"%d" % number for number in range(300)]


async def test_a_canceled_append_hurts_no_other(stores: Stores) -> None:
    spool = await (await stores.open(grouping=Grouping(100, 0.02))).spool("uplink", ROOMY)
    canceled = asyncio.ensure_future(spool.append([Message(b"a")]))
    other = spool.append([Message(b"b")])
    canceled.cancel()
    assert len(await other) == 1
    assert texts(await spool.take()) == [b"a", b"b"]


async def test_too_large_and_bad_values_are_refused(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", SpoolRules(max_message_bytes=10, min_free=0.0))
    await spool.append([Message(b"x" * 10)])
    with pytest.raises(SpoolFull) as refused:
        await spool.append([Message(b"x"), Message(b"x" * 11)])
    assert refused.value.reason == "message_too_large"
    assert spool.messages == 1
    assert spool.status().refused == {"message_too_large": 1}
    for bad in ({"priority": 10}, {"priority": -1}, {"ttl_s": 0.0}):
        with pytest.raises(ValueError, match=r"priority|ttl"):
            Message(b"x", **bad)
    for wrong in ({"max_bytes": 0}, {"max_age_s": 0.0}, {"min_free": 1.0}, {"lower_share": 0.6}):
        with pytest.raises(ValueError, match=r"must be|share"):
            SpoolRules(**wrong)


async def test_what_is_too_old_leaves_and_is_counted(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", SpoolRules(max_age_s=100, min_free=0.0))
    await spool.append([Message(b"old") for _ in range(3)])
    stores.time.pass_time(99)
    await spool.append([Message(b"young")])
    await asyncio.sleep(0.1)
    assert spool.messages == 4
    stores.time.pass_time(2)
    await until(lambda: spool.messages == 1)
    assert spool.status().lost == {"expired": 3}
    assert texts(await spool.take()) == [b"young"]
    spool = await (await stores.reopen()).spool("uplink", ROOMY)
    assert spool.status().lost == {"expired": 3}, "losses outlive the process"


async def test_age_goes_on_over_restarts_under_a_wrong_clock(stores: Stores) -> None:
    """Days of running without an append count, though the clock starts in 1970 each time."""
    rules = SpoolRules(max_age_s=1000, min_free=0.0)
    await (await (await stores.open()).spool("uplink", rules)).append([Message(b"x")])
    for _ in range(3):
        stores.time.pass_time(300)
        store = await stores.reopen()
        spool = await store.spool("uplink", rules)
        stores.time.wall = 0.0
        assert spool.messages == 1
    stores.time.pass_time(200)
    await until(lambda: not spool.messages)
    assert spool.status().lost == {"expired": 1}


async def test_a_message_may_have_a_limit_of_its_own(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"brief", key=b"k", ttl_s=5), Message(b"long", key=b"k")])
    stores.time.pass_time(6)
    assert texts(await spool.take()) == [b"long"]
    await until(lambda: spool.messages == 1)
    assert spool.status().lost == {"expired": 1}


async def test_an_operator_looks_and_drops(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    ids = await spool.append([Message(b"%d" % n, key=b"ab"[n % 2 :][:1], priority=n % 2) for n in range(10)])
    seen = await spool.peek(7)
    assert [message.payload for message in seen] == [b"0", b"2", b"4", b"6", b"8", b"1", b"3"]
    assert [m.payload for m in await spool.peek(7, after=seen[-1].number)] == [b"5", b"7", b"9"]
    assert [m.payload for m in await spool.peek(2, priority=1)] == [b"1", b"3"]
    batch = await spool.take(limit=1)
    assert texts(batch) == [b"0"]
    named = [identity for identity in ids[:3] if identity is not None]
    assert await spool.drop(ids=named) == 2, "what is in flight stays"
    assert await spool.drop(key=b"b") == 4
    assert await spool.drop(priority=7) == 0
    assert await spool.drop() == 3
    status = spool.status()
    assert (status.messages, status.in_flight, status.lost) == (1, 1, {"dropped": 9})


async def test_status_says_how_much_how_old_and_how_long(stores: Stores) -> None:
    store = await stores.open()
    spool = await store.spool("uplink", ROOMY)
    assert spool.status().drain_eta_s == 0.0
    await spool.append([Message(b"x" * 100, priority=2) for _ in range(50)])
    stores.time.pass_time(30)
    await until(lambda: spool.status().oldest_age_s is not None)
    [status] = store.status()
    assert status.oldest_age_s == pytest.approx(30, abs=0.1)
    assert (status.messages, status.bytes) == (50, 50 * 148)
    assert [(c.priority, c.messages) for c in status.classes] == [(2, 50)]
    assert status.drain_eta_s is None, "it does not get shorter"
    async with asyncio.timeout(30):
        while spool.status().drain_eta_s is None:
            batch = await spool.take(limit=1)
            assert batch is not None
            spool.settle(batch)
            await asyncio.sleep(0.01)
            if not spool.messages:
                break


async def test_replayed_messages_are_marked(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"before")])
    stores.time.pass_time(1)
    spool.link_is_up()
    await spool.append([Message(b"after")])
    batch = await spool.take()
    assert batch is not None
    assert [message.historical for message in batch.messages] == [True, False]


async def test_a_second_process_is_refused(stores: Stores) -> None:
    """Fault 75: one node for a data directory."""
    await stores.open()
    with pytest.raises(StorageError) as refused:
        await stores.open()
    assert refused.value.reason == "storage_locked"


async def test_after_close_nothing_is_taken(stores: Stores) -> None:
    store = await stores.open()
    spool = await store.spool("uplink", ROOMY)
    last = spool.append([Message(b"last")])
    await stores.close()
    assert len(await last) == 1
    with pytest.raises(SpoolFull) as refused:
        await spool.append([Message(b"x")])
    assert refused.value.reason == "spool_closed"


async def test_rules_may_change(stores: Stores) -> None:
    store = await stores.open()
    spool = await store.spool("uplink", ROOMY)
    assert await store.spool("uplink") is spool
    await store.spool("uplink", SpoolRules(when_full=WhenFull.DROP_NEWEST, max_bytes=1, min_free=0.0))
    assert await spool.append([Message(b"x")]) == [None]
    assert str(MessageId("edge-1", 255, 3)) == "edge-1/ff/3"
