"""A spool, a link that fails, and an inbox on the other side."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from gateway.errors import FederationError
from gateway.spool.delivery import Delivery, Send
from gateway.spool.inbox import Arrived, Inbox
from gateway.spool.message import Batch, Message
from gateway.spool.pace import Pace
from gateway.spool.rules import SpoolRules
from gateway.spool.spool import Spool
from gateway.spool.store import Grouping
from gateway.storage.database import Database
from gateway.storage.schema import Migration, Schema
from tests.local_node import until
from tests.spool.conftest import Stores

ROOMY = SpoolRules(min_free=0.0)
EFFECTS = Schema(0x54455354, (Migration(1, "0001", "CREATE TABLE effects (key BLOB, payload BLOB)"),))


class FarSide:
    """Stores what comes. `moody`: how often it fails, before or after it has stored it."""

    def __init__(self, database: Database, moody: float = 0.0) -> None:
        self._database = database
        self._inbox = Inbox(database)
        self._random = Random(3)
        self.moody = moody
        self.duplicates = 0
        self.failed = 0
        self.keys_on_their_way: list[bytes] = []

    async def send(self, batch: Batch) -> None:
        keys = {message.key for message in batch.messages if message.key}
        assert not keys & set(self.keys_on_their_way), "one in flight a key"
        self.keys_on_their_way += keys
        try:
            await asyncio.sleep(self._random.uniform(0, 0.003))
            self._fail()
            by_seq = {message.id.seq: message for message in batch.messages}

            def effect(connection: sqlite3.Connection, seq: int) -> None:
                message = by_seq[seq]
                connection.execute("INSERT INTO effects VALUES (?, ?)", (message.key, message.payload))

            receipt = await self._inbox.receive(Arrived.of(batch), effect)
            self.duplicates += receipt.duplicates
            self._fail()
        finally:
            for key in keys:
                self.keys_on_their_way.remove(key)

    def _fail(self) -> None:
        if self._random.random() < self.moody:
            self.failed += 1
            raise self._random.choice([FederationError("cut"), ConnectionResetError(), TimeoutError()])

    async def arrived(self) -> list[tuple[bytes, bytes]]:
        return await self._database.read(
            lambda c: [tuple(row) for row in c.execute("SELECT key, payload FROM effects ORDER BY rowid")]
        )


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[FarSide]:
    database = await Database.open(tmp_path / "far.sqlite3", EFFECTS)
    await Inbox(database).prepare()
    yield FarSide(database)
    await database.close()


@asynccontextmanager
async def delivering(spool: Spool, send: Send, **more: object) -> AsyncIterator[Delivery]:
    delivery = Delivery(spool, send, **({"start_jitter_s": 0.0, "first_retry_s": 0.001, "random": Random(5)} | more))
    task = asyncio.create_task(delivery.run())
    try:
        yield delivery
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_moody_link_loses_nothing_keeps_the_order_and_doubles_nothing(stores: Stores, far: FarSide) -> None:
    spool = await (await stores.open(grouping=Grouping(100, 0.005))).spool("uplink", ROOMY)
    far.moody = 0.2
    sent: list[tuple[bytes, bytes]] = []

    async def write(key: bytes) -> None:
        for number in range(100):
            message = (key, b"%s-%d" % (key, number))
            await spool.append([Message(message[1], key)])
            sent.append(message)

    async with delivering(spool, far.send, pace=Pace(window=64, max_window=256)) as delivery:
        await asyncio.gather(*(write(b"key-%d" % number) for number in range(12)))
        await until(lambda: not spool.messages, 30)
    arrived = await far.arrived()
    assert sorted(arrived) == sorted(sent)
    for key in {key for key, _ in sent}:
        assert [p for k, p in arrived if k == key] == [b"%s-%d" % (key, number) for number in range(100)]
    assert delivery.failures == far.failed > 0
    status = spool.status()
    assert (status.delivered, status.lost, status.in_flight) == (1200, {}, 0)
    assert 0 < far.duplicates <= status.sent_again


async def test_a_batch_is_under_way_before_its_sending_begins(stores: Stores) -> None:
    """Whoever asks in the very turn in which it was taken must not take it for sent: the order of a key hangs on it."""
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"x", key=b"1")])
    take, begun = spool.take, 0
    seen: list[tuple[int, int]] = []

    async def looked_at(limit: int, max_bytes: int) -> Batch | None:
        batch = await take(limit, max_bytes)
        if batch is not None:
            asyncio.get_running_loop().call_soon(lambda: seen.append((delivery.under_way, begun)))
        return batch

    async def send(batch: Batch) -> None:
        nonlocal begun
        begun += 1

    spool.take = looked_at  # type: ignore[method-assign]
    async with delivering(spool, send) as delivery:
        await until(lambda: not spool.messages, 30)
        await until(lambda: delivery.under_way == 0, 30)
    assert seen == [(1, 0)]


async def test_when_the_link_goes_what_was_in_flight_waits_again(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"x", key=b"%d" % number) for number in range(20)])
    hang = asyncio.Event()

    async def send(batch: Batch) -> None:
        hang.set()
        await asyncio.Event().wait()

    async with delivering(spool, send):
        await hang.wait()
        assert spool.in_flight == 20
    assert (spool.in_flight, spool.messages) == (0, 20)
    batch = await spool.take()
    assert batch is not None
    assert len(batch.messages) == 20


async def test_a_backlog_waits_for_its_moment_and_an_operator_need_not(stores: Stores, far: FarSide) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"x") for _ in range(1500)])
    async with delivering(spool, far.send, start_jitter_s=3600.0) as delivery:
        await asyncio.sleep(0.1)
        assert delivery.batches == 0
        delivery.replay()
        await until(lambda: not spool.messages, 30)
    assert len(await far.arrived()) == 1500


async def test_no_more_is_in_flight_than_the_pace_allows(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"x") for _ in range(500)])
    most = 0

    async def send(batch: Batch) -> None:
        nonlocal most
        most = max(most, spool.in_flight)
        await asyncio.sleep(0.002)

    async with delivering(spool, send, pace=Pace(window=20, max_window=40)):
        await until(lambda: not spool.messages, 30)
    assert 20 <= most <= 40


async def test_a_bug_of_the_sender_ends_the_delivery_and_not_in_silence(stores: Stores) -> None:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"x")])

    async def send(batch: Batch) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await Delivery(spool, send).run()
    assert (spool.in_flight, spool.messages) == (0, 1)
