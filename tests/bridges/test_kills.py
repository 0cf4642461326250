"""A node killed at any instant between a broker and a service: what was published arrives, and takes effect once.

The checker is Jepsen's for queues, as in `tests/spooling/test_kills.py`. The service drops what comes again under an
idempotency key that it has had, as a receiver does that wants each message once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer, StartBroker
from tests.bridges.forked_node import ForkedNode
from tests.bridges.peers import Peer, bridge
from tests.bridges.test_spool import spool
from tests.local_node import until
from tests.rawclient import ConnectionEnded, RawClient

GONE = (ConnectionEnded, ConnectionError, TimeoutError, asyncio.IncompleteReadError, OSError)
RULES = (
    {"pattern": "direct/#", "direction": "in", "qos": 2, "route": "ledger.direct"},
    {"pattern": "kept/#", "direction": "in", "qos": 2, "route": "ledger.kept", "spool": "kept"},
)


#: The broker's window for the bridge, which Mosquitto 2.0 takes as many more of behind an acknowledgement.
RECEIVE_MAXIMUM = 8
_SENT = re.compile(r"Sending PUBLISH to gateway-plant \(d\d, q[12], r\d, m(\d+),")
_HAD = re.compile(r"Received (?:PUBACK|PUBREC) from gateway-plant \(Mid: (\d+)")


class Ledger:
    """`read`: what took effect; `again`: how often something came that had been there. `asked`: in each life of the
    node the keys of requests, which are what has no spool behind it, in their order."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.read: list[str] = []
        self.keys: set[bytes] = set()
        self.again = 0
        self.asked: list[list[bytes]] = []

    def take(self, request: Any) -> None:
        key = dict(decode_composite(request.metadata or b""))[IDEMPOTENCY_KEY]
        if isinstance(request, frames.RequestResponse):
            self.asked[-1].append(key)
        if key in self.keys:
            self.again += 1
            return
        self.keys.add(key)
        self.read.append(request.data.decode())

    async def settles(self) -> None:
        """Wait until all of it has come, or nothing comes any more, or a minute is over."""
        before = -1
        for _ in range(6):
            if before == len(self.read):
                return
            before = len(self.read)
            with contextlib.suppress(TimeoutError):
                await until(lambda: set(self.published) <= set(self.read), 10)
                return

    def check(self) -> None:
        self.check_loss()
        assert not self.twice, f"took effect twice: {self.twice[:10]}"

    def check_loss(self) -> None:
        lost = set(self.published) - set(self.read)
        assert not lost, f"lost: {sorted(lost)[:10]} of {len(self.published)}"

    @property
    def twice(self) -> list[str]:
        """What had another key when it came again."""
        return [text for text, count in Counter(self.read).items() if count > 1]

    def check_window(self, opened: list[int]) -> None:
        """What came again was on its way at the kill. `opened`: how many the broker had open, each time."""
        most, total = max(opened), 0
        for life in range(1, len(self.asked)):
            before = dict.fromkeys(reversed(list(chain.from_iterable(self.asked[:life]))))
            again = [key for key in self.asked[life] if key in before]
            total += len(again)
            assert len(again) == len(set(again)) <= most, f"{len(again)} came again"
            assert set(again) <= set(islice(before, most)), "what had been acknowledged came again"
        assert total <= sum(opened)


def opened_in(log: str) -> list[int]:
    """What Mosquitto had sent and had no acknowledgement for, at the end of each connection of the bridge."""
    found: list[set[str]] = []
    for line in log.splitlines():
        if line.startswith("Sending CONNACK to gateway-plant "):
            found.append(set())
        elif sent := _SENT.match(line):
            found[-1].add(sent[1])
        elif had := _HAD.match(line):
            found[-1].discard(had[1])
    return [len(each) for each in found]


async def publish_on(sensor: Peer, ledger: Ledger, random: Random) -> None:
    """One message after the other; it counts when the broker has confirmed it."""
    number = 0
    while True:
        number += 1
        topic, qos = random.choice(("direct/a", "direct/b", "kept/a")), random.choice((1, 2))
        text = f"{number} of QoS {qos}"
        await sensor.publish(topic, text.encode(), qos)
        ledger.published.append(text)
        await asyncio.sleep(0.01)


async def serve(node: ForkedNode, ledger: Ledger) -> None:
    """The service, for as long as the node is there."""
    with contextlib.suppress(*GONE):
        client = await RawClient.connect_tcp(node.tcp_port)
        try:
            ledger.asked.append([])
            client.setup(node.token("svc-ledger", "service"), ("ledger",))
            while True:
                frame = await client.recv(60)
                if isinstance(frame, frames.RequestResponse):
                    ledger.take(frame)
                    client.send(frames.Payload(frame.stream_id, None, b"had", next=True, complete=True))
                elif isinstance(frame, frames.RequestFnf):
                    ledger.take(frame)
                elif isinstance(frame, frames.KeepAlive) and frame.respond:
                    client.send(frames.KeepAlive(False, 0, frame.data))
        finally:
            await client.close()


async def begin(tmp_path: Path, life: int, *documents: dict[str, Any]) -> ForkedNode:
    text = "" if life else "\n---\n".join(map(json.dumps, documents))
    return await ForkedNode.start(tmp_path / "data", tmp_path / "log", text)


async def kill_again_and_again(
    tmp_path: Path, broker: Broker, sensor: Peer, times: int, seed: int, **more: Any
) -> Ledger:
    """`more` goes into the bridge's document."""
    ledger, random = Ledger(), Random(seed)
    publishing: asyncio.Task[None] | None = None
    try:
        for life in range(times + 1):
            node = await begin(tmp_path, life, spool("kept", "ledger"), bridge(broker, *RULES, **more))
            try:
                serving = asyncio.create_task(serve(node, ledger))
                if publishing is None:
                    # Before it has subscribed the broker keeps nothing for it.
                    await broker.has_subscribed("gateway-plant")
                    publishing = asyncio.create_task(publish_on(sensor, ledger, random))
                if life < times:
                    await asyncio.sleep(random.uniform(0.1, 0.5))
                else:
                    await end(publishing)
                    await ledger.settles()
            finally:
                node.kill()
            await serving
    finally:
        if publishing is not None:
            await end(publishing)
    return ledger


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    _, going_on = await asyncio.wait([task], timeout=30)
    assert not going_on, "the publisher goes on"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.soak)])
async def test_a_node_is_killed_between_a_broker_and_a_service(
    tmp_path: Path, start_broker: StartBroker, peer: ConnectPeer, times: int
) -> None:
    broker = await start_broker("max_queued_messages 0")
    sensor = await peer(broker, "sensor")
    window = {"mqtt": {"receiveMaximum": RECEIVE_MAXIMUM}}
    ledger = await kill_again_and_again(tmp_path, broker, sensor, times, times, **window)
    ledger.check()
    opened = opened_in(broker.log)
    assert len(opened) > times / 2
    ledger.check_window(opened)
    assert len(ledger.published) > 5 * times
    print(f"{len(ledger.published)} published, {ledger.again} came again")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("other", ["mosquitto", "aedes-1.2.0"], indirect=True)
@pytest.mark.parametrize("times", [3, pytest.param(60, marks=pytest.mark.soak)])
async def test_a_node_is_killed_beside_a_broker_of_3_1_1(
    tmp_path: Path, start_other: Callable[[], Awaitable[Broker]], peer: ConnectPeer, times: int
) -> None:
    """Not amqtt: it forgets what was on its way when a connection breaks, or is not acknowledged within 5 s. aedes
    sends again under another identifier, or without the flag of duplicates, so that nobody can tell."""
    broker = await start_other()
    sensor = await peer(broker, "sensor", 4)
    more = {"mqtt": {"version": "3.1.1"}, "presence": {"topic": "gateways/plant"}}
    ledger = await kill_again_and_again(tmp_path, broker, sensor, times, times, **more)
    ledger.check_loss()
    assert not broker.marks or not ledger.twice
    assert len(ledger.published) > 5 * times
    print(f"{len(ledger.published)} published, {ledger.again} came again")
