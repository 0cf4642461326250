"""The network between a bridge and its broker is cut without FIN or RST: it is noticed, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from gateway.bridges.mqtt.client import WINDOWS
from gateway.bridges.mqtt.link import AT_ONCE
from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer, StartBroker
from tests.bridges.peers import Bridged, Peer, bridge, tagged
from tests.bridges.relay import BOTH, TO_BRIDGE, TO_BROKER, Relay
from tests.bridges.test_spool import spool
from tests.local_node import call, fnf, until

StartRelay = Callable[[Broker], Awaitable[Relay]]

QUICK = {"keepalive": "1s", "connectTimeout": "1s"}


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[StartRelay]:
    relays: list[Relay] = []

    async def start(broker: Broker) -> Relay:
        relays.append(await Relay(broker).start())
        return relays[-1]

    yield start
    for each in relays:
        await each.close()


class Traffic:
    """Through one bridge, both ways: `begin`, `end`. `published`, `accepted`: what somebody was told is had."""

    def __init__(self, bridged: Bridged, name: str, sensor: Peer, watcher: Peer) -> None:
        self._bridged = bridged
        self._name = name
        self._sensor = sensor
        self._watcher = watcher
        self._tasks: list[asyncio.Task[None]] = []
        self.published: set[bytes] = set()
        self.accepted: set[bytes] = set()
        self._asked: dict[int, bytes] = {}

    async def begin(self) -> None:
        self._inside = await self._bridged.local.servant("tcp", f"in-{self._name}")
        self._device = await self._bridged.local.client(subject=self._name, kind="service")
        self._tasks = [asyncio.create_task(each) for each in (self._publish(), self._send(), self._hear())]

    async def _publish(self) -> None:
        for number in itertools.count():
            data = b"%d" % number
            await self._sensor.publish(f"{self._name}/in", data, 1 + number % 2)
            self.published.add(data)
            await asyncio.sleep(0.02)

    async def _send(self) -> None:
        for number in itertools.count():
            stream = self._device.next_stream_id()
            self._asked[stream] = b"%d" % number
            self._device.send(frames.RequestResponse(stream, tagged(f"out-{self._name}.reading"), b"%d" % number))
            await asyncio.sleep(0.02)

    async def _hear(self) -> None:
        while True:
            frame = await self._device.recv(60)
            if isinstance(frame, frames.Payload):
                self.accepted.add(self._asked[frame.stream_id])

    async def flows(self) -> None:
        """In both directions, for a while."""
        more = len(self.published) + 10, len(self.accepted) + 10
        await until(lambda: len(self.published) >= more[0] and len(self.accepted) >= more[1])

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def has_all_arrived(self) -> None:
        """Nothing is missing, and what was there twice could be told."""
        await until(lambda: self.published <= {frame.data for frame in self._inside.heard})
        keys = {
            dict(decode_composite(frame.metadata or b""))[IDEMPOTENCY_KEY]: frame.data for frame in self._inside.heard
        }
        assert len(keys) == len(set(keys.values()))
        await until(lambda: self.accepted <= {message.payload for message in self._mine})
        stored = {message.properties.of_user("gateway-id"): message.payload for message in self._mine}
        stored.pop(None, None)
        assert len(stored) == len(set(stored.values()))

    @property
    def _mine(self) -> list[Any]:
        return [message for message in self._watcher.got if message.topic == f"{self._name}/out"]


async def test_a_cut_without_a_word_is_noticed_and_loses_nothing(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, relay: StartRelay
) -> None:
    """Both ways, and only one of them: three bridges at once."""
    sensor, watcher = await peer(broker, "sensor"), await peer(broker, "watcher")
    await watcher.subscribe("+/out")
    ways = {"both": BOTH, "up": (TO_BROKER,), "down": (TO_BRIDGE,)}
    relays = {name: await relay(broker) for name in ways}
    lives = (live_through(bridged, name, relays[name], each, sensor, watcher) for name, each in ways.items())
    await asyncio.gather(*lives)


async def live_through(
    bridged: Bridged, name: str, between: Relay, ways: tuple[str, ...], sensor: Peer, watcher: Peer
) -> None:
    rules = (
        {"pattern": f"{name}/in", "direction": "in", "qos": 2, "route": f"in-{name}.take"},
        {"pattern": f"{name}/out", "direction": "out", "qos": 1, "route": f"out-{name}.reading"},
    )
    await bridged.apply(spool(name, f"out-{name}"), bridge(between, *rules, name=name, mqtt=QUICK))
    await bridged.is_connected(name)
    traffic = Traffic(bridged, name, sensor, watcher)
    await traffic.begin()
    try:
        await traffic.flows()
        connects = bridged.status(name).counters.connects
        between.silence(*ways)
        # Its health says so before the session does.
        if TO_BRIDGE in ways:
            await bridged.becomes(name, lambda status: (status.last_ack_age_s or 0) >= 1)
        await bridged.becomes(name, lambda status: status.state is not BridgeState.CONNECTED)
        assert "PINGREQ" in bridged.status(name).reason or "closed" in bridged.status(name).reason
        # What goes out is accepted meanwhile, because it waits on disk.
        await traffic.flows()
        between.heal()
        await bridged.becomes(name, lambda status: status.counters.connects > connects)
        await bridged.is_connected(name)
        await traffic.flows()
    finally:
        await traffic.end()
    await traffic.has_all_arrived()


async def test_a_cut_while_what_waited_is_sent_loses_nothing(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, relay: StartRelay
) -> None:
    between = await relay(broker)
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("out/#")
    rule = {"pattern": "out/{sub}", "direction": "out", "qos": 1, "route": "cloud.out"}
    await bridged.apply(spool("cloud", "cloud"), bridge(between, rule, mqtt=QUICK))
    await bridged.is_connected()
    between.silence()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    device = await bridged.local.client(subject="kitchen", kind="service")
    asked = {device.next_stream_id(): b"%d" % number for number in range(200)}
    for stream, data in asked.items():
        device.send(frames.RequestResponse(stream, tagged("cloud.out"), data))
    answers = [await device.recv(20) for _ in asked]
    # The others are over a limit.
    sent = [asked[frame.stream_id] for frame in answers if isinstance(frame, frames.Payload)]
    assert len(sent) >= 50
    for upto in (10, 20):
        between.silent_after = between.passed[TO_BROKER] + upto
        between.heal()
        await until(lambda: between.is_silent)
        await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    between.silent_after = None
    between.heal()
    await until(lambda: {message.payload for message in watcher.got} == set(sent))
    once = {message.properties.of_user("gateway-id"): message.payload for message in watcher.got}
    assert list(once.values()) == sent


async def test_no_more_is_on_its_way_than_the_broker_takes(
    bridged: Bridged, start_broker: StartBroker, relay: StartRelay
) -> None:
    broker = await start_broker("max_inflight_messages 1")
    between = await relay(broker)
    await bridged.apply(bridge(between))
    await bridged.is_connected()
    assert bridged.status().receive_maximum == 1
    phone = await bridged.local.client(subject="phone", kind="service")
    before = bridged.status().counters.confirmed
    for number in range(50):
        data = json.dumps({"topic": f"t/{number}", "qos": 1 + number % 2}).encode()
        phone.send(fnf(phone, "mqtt.plant.publish", data))
    await until(lambda: bridged.status().counters.confirmed >= before + 50)
    assert between.most[TO_BROKER] == 1


async def test_no_more_is_on_its_way_than_a_subscriber_asked_for(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, relay: StartRelay
) -> None:
    between = await relay(broker)
    sensor = await peer(broker, "sensor")
    await bridged.apply(bridge(between))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestStream(number, tagged("mqtt.plant.subscribe", topic="site/#"), b"", initial_n=10))
    await broker.logs("Sending SUBACK to gateway-plant-s1")
    for at in range(40):
        await sensor.publish("site/1", b"%d" % at, 1)
    got = [(await phone.recv(20)).data for _ in range(10)]
    # Nothing more comes until it is asked for, not even from the broker.
    assert await call(phone, "gateway.time", b"")
    assert between.passed[TO_BRIDGE] == between.most[TO_BRIDGE] == 10
    # From then on Mosquitto 2.0 sends ten more for each acknowledgement, which wait in the bridge.
    for _ in range(3):
        phone.send(frames.RequestN(number, 10))
        got += [(await phone.recv(20)).data for _ in range(10)]
    assert got == [b"%d" % at for at in range(40)]
    phone.send(frames.Cancel(number))
    # Its goodbye may be lost behind what was not read any more.
    await until(lambda: any(line.startswith("Client gateway-plant-s1 ") for line in broker.log.splitlines()))


async def test_a_broker_that_sends_more_than_it_may_is_not_read(
    bridged: Bridged, start_broker: StartBroker, peer: ConnectPeer
) -> None:
    """Mosquitto 2.0 does, once something is acknowledged."""
    broker = await start_broker("max_queued_messages 0", "max_inflight_messages 0")
    rule = {"pattern": "site/#", "direction": "in", "qos": 1, "route": "telemetry.ingest", "timeout": "60s"}
    slow = await bridged.local.client("tcp", "svc-telemetry", serving=("telemetry",))
    await bridged.apply(bridge(broker, rule, mqtt={"receiveMaximum": 100}))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    await asyncio.gather(*(sensor.publish("site/1", b"%d" % at, 1) for at in range(1000)))
    most, answered = 0, []
    while len(answered) < 1000:
        request = await slow.recv(20)
        if isinstance(request, frames.RequestResponse):
            answered.append(int(request.data))
            slow.send(frames.Payload(request.stream_id, None, b"", next=True, complete=True))
            if len(answered) < 50:
                # Let it say so before the next one.
                await until(lambda: bridged.status().counters.acknowledged == len(answered))
        most = max(most, bridged.status().in_flight_in)
    assert sorted(answered) == list(range(1000))
    await until(lambda: bridged.status().counters.acknowledged == 1000)
    # What had been read when it was too much.
    assert most <= WINDOWS * 100 + AT_ONCE
