"""What a bridge does with each of three brokers: Mosquitto, amqtt and aedes, all as speakers of MQTT 3.1.1.

The other tests of bridges have Mosquitto under MQTT 5, which amqtt and aedes do not speak: without it there are no
response topics (`rpc` rules), no reason codes, no hop counts. docs/mqtt.md has the table.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from gateway.bridges.mqtt.outgoing import MAX_TRIES
from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, answer, bridge, cut, tagged
from tests.local_node import call, fnf, until

StartOther = Callable[[], Awaitable[Broker]]

IN = {"pattern": "sensors/{device}", "direction": "in", "qos": 2, "route": "telemetry.ingest"}
OUT = {"pattern": "readings/{sub}/{what}", "direction": "out", "qos": 1, "route": "cloud.{what}"}
#: What all three let a client publish to.
PRESENCE = {"topic": "gateways/plant"}
OLD = {"version": "3.1.1"}


async def test_what_comes_in_is_acknowledged_after_its_answer(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    slow = await bridged.local.client("tcp", "svc-telemetry", serving=("telemetry",))
    await bridged.apply(bridge(broker, IN, mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor", 4)
    for qos in (0, 1, 2):
        await sensor.publish("sensors/kitchen", b"%d" % qos, qos)
    came = [await slow.recv(20) for _ in range(3)]
    kinds = {frame.data: type(frame) for frame in came}
    assert kinds.keys() == {b"0", b"1", b"2"}
    assert kinds[b"0"] is (frames.RequestResponse if broker.raises_qos else frames.RequestFnf)
    assert kinds[b"1"] is kinds[b"2"] is frames.RequestResponse
    confirmed = 2 + broker.raises_qos
    assert bridged.status().in_flight_in == confirmed
    assert bridged.status().counters.acknowledged == 0
    for frame in came:
        if isinstance(frame, frames.RequestResponse):
            slow.send(frames.Payload(frame.stream_id, None, b"", next=True, complete=True))
    await until(lambda: bridged.status().counters.acknowledged == confirmed)
    # Whoever is acknowledged forgets: a new connection of the same session brings none of it again.
    await cut(bridged)
    assert bridged.status().session_present
    await sensor.publish("sensors/kitchen", b"next", 1)
    assert (await slow.recv(20)).data == b"next"


async def test_what_goes_out_is_answered_when_the_broker_has_it(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    watcher = await peer(broker, "watcher", 4)
    await watcher.subscribe("readings/#", 2)
    await bridged.apply(bridge(broker, OUT, mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    assert await call(device, "cloud.temperature", b"21.5") == b""
    device.send(fnf(device, "cloud.humidity", b"40"))
    for qos in ("0", "1", "2"):
        sent = await answer(device, "mqtt.plant.publish", b"on", topic=f"readings/{qos}", qos=qos, retain="1")
        assert isinstance(sent, frames.Payload), sent
    await watcher.gets(5)
    sent_with = {
        ("readings/0", b"on"): 0,
        ("readings/1", b"on"): 1,
        ("readings/2", b"on"): 2,
        ("readings/kitchen/humidity", b"40"): 1,
        ("readings/kitchen/temperature", b"21.5"): 1,
    }
    got = {(message.topic, message.payload): message.qos for message in watcher.got}
    assert got == (dict.fromkeys(sent_with, 2) if broker.raises_qos else sent_with)
    await until(lambda: bridged.status().in_flight_out == 0)
    last = await answer(device, "mqtt.plant.last", b"", topic="readings/2")
    assert isinstance(last, frames.Payload), last
    assert last.data == b"on"
    nothing = await answer(device, "mqtt.plant.last", b"", topic="readings/7")
    assert isinstance(nothing, frames.Error)


async def test_a_subscriber_gets_as_many_as_it_asked_for(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    sensor = await peer(broker, "sensor", 4)
    await sensor.publish("site/1/temp", b"old", 1, retain=True)
    await bridged.apply(bridge(broker, mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestStream(number, tagged("mqtt.plant.subscribe", topic="site/+/temp"), b"", initial_n=10))
    assert (await phone.recv(20)).data == b"old"
    for at in range(30):
        await sensor.publish("site/2/temp", b"%d" % at, 1)
    assert [(await phone.recv(20)).data for _ in range(9)] == [b"%d" % at for at in range(9)]
    # Nothing more comes until it is asked for.
    assert await call(phone, "gateway.time", b"")
    phone.send(frames.RequestN(number, 100))
    assert [(await phone.recv(20)).data for _ in range(21)] == [b"%d" % at for at in range(9, 30)]
    phone.send(frames.Cancel(number))


async def test_a_device_is_called_by_a_rule(bridged: Bridged, start_other: StartOther, peer: ConnectPeer) -> None:
    broker = await start_other()
    device = await peer(broker, "device", 4)
    await device.subscribe("cmd/7")
    rule = {"topic": "cmd/{device}", "reply": "answer/{device}", "id": "n"}
    await bridged.apply(bridge(broker, call=[rule], mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestResponse(number, tagged("mqtt.plant.call", topic="cmd/7"), b'{"set": 21}'))
    (request,) = await device.gets(1)
    await device.publish("answer/7", json.dumps({"n": json.loads(request.payload)["n"], "ok": 1}).encode())
    found = await phone.recv(20)
    assert isinstance(found, frames.Payload)
    assert json.loads(found.data)["ok"] == 1


async def test_what_is_published_while_a_bridge_is_away_comes_later(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    telemetry = await bridged.local.servant("tcp", "telemetry")
    sensor = await peer(broker, "sensor", 4)
    await sensor.publish("sensors/hall", b"retained", 1, retain=True)
    await bridged.apply(bridge(broker, IN, mqtt=OLD, presence=PRESENCE))
    await until(lambda: len(telemetry.heard) == 1)
    await until(lambda: bridged.status().in_flight_in == 0)
    bridged.local.node.bridges.stop("plant")
    await bridged.becomes("plant", lambda status: status.state is BridgeState.STOPPED)
    for qos in (1, 2):
        await sensor.publish("sensors/kitchen", b"meanwhile %d" % qos, qos)
    bridged.local.node.bridges.start("plant")
    wanted = {b"retained", b"meanwhile 1", b"meanwhile 2"}
    await until(lambda: {frame.data for frame in telemetry.heard} == wanted)
    await bridged.is_connected()
    assert bridged.status().session_present
    await until(lambda: bridged.status().in_flight_in == 0)
    payloads = [frame.data for frame in telemetry.heard]
    assert payloads.count(b"meanwhile 1") == payloads.count(b"meanwhile 2") == 1
    assert payloads.count(b"retained") == 1 or broker.repeats_retained


async def test_a_broker_that_has_forgotten_all_is_subscribed_to_again(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, IN, mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    broker.kill()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    await broker.start()
    await bridged.is_connected()
    assert broker.lasts or bridged.status().session_present is False
    sensor = await peer(broker, "sensor", 4)
    await sensor.publish("sensors/kitchen", b"new", 2)
    await until(lambda: [frame.data for frame in telemetry.heard] == [b"new"])


async def test_who_is_there_is_said_by_birth_and_will(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    watcher = await peer(broker, "watcher", 4)
    await watcher.subscribe("gateways/#")
    await bridged.apply(bridge(broker, mqtt=OLD, presence=PRESENCE))
    await watcher.gets(1)
    await cut(bridged)
    await until(lambda: [message.payload for message in watcher.got] == [b"1", b"0", b"1"])
    bridged.local.node.bridges.stop("plant")
    await until(lambda: watcher.got[-1].payload == b"0")
    late = await peer(broker, "late", 4)
    await late.subscribe("gateways/#")
    await late.gets(1)
    assert {(message.payload, message.retain) for message in late.got} == {(b"0", True)}


async def test_what_a_bridge_has_sent_is_not_taken_for_news(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    """Under 3.1.1 a broker sends back what it was sent."""
    broker = await start_other()
    telemetry = await bridged.local.servant("tcp", "telemetry")
    rule = {"pattern": "both/{what}", "direction": "both", "qos": 1, "route": "telemetry.{what}"}
    await bridged.apply(bridge(broker, rule, mqtt=OLD, presence=PRESENCE))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="service")
    assert isinstance(await answer(phone, "mqtt.plant.publish", b"mine", topic="both/1"), frames.Payload)
    await until(lambda: bridged.status().counters.loops["repeat"] == 1)
    sensor = await peer(broker, "sensor", 4)
    await sensor.publish("both/2", b"news", 1)
    await until(lambda: [frame.data for frame in telemetry.heard] == [b"news"])


HANGING_UP = pytest.mark.parametrize("other", ["mosquitto", "aedes-1.2.0"], indirect=True)


@HANGING_UP
async def test_a_broker_that_hangs_up_on_the_bridge_s_own_state_is_told_nothing_more(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    """`$SYS` is the default, because Mosquitto's own bridges say it there; a broker may take that for an attack."""
    broker = await start_other()
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, IN, mqtt=OLD))
    if broker.refuses_sys:
        await bridged.becomes("plant", lambda status: "presence.topic" in status.reason)
    await bridged.is_connected()
    connects = bridged.status().counters.connects
    sensor = await peer(broker, "sensor", 4)
    await sensor.publish("sensors/kitchen", b"on", 1)
    await until(lambda: [frame.data for frame in telemetry.heard] == [b"on"])
    await until(lambda: bridged.status().counters.acknowledged == 1)
    assert bridged.status().last_ack_age_s is not None
    assert bridged.status().counters.connects == connects


@HANGING_UP
async def test_a_message_that_a_broker_hangs_up_on_is_not_sent_for_ever(
    bridged: Bridged, start_other: StartOther, peer: ConnectPeer
) -> None:
    broker = await start_other()
    document = bridge(broker, IN, mqtt=OLD, presence=PRESENCE, publish=["led/#", "$SYS/led"])
    await bridged.apply(document)
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="service")
    found = await answer(phone, "mqtt.plant.publish", b"on", topic="$SYS/led")
    assert isinstance(found, frames.Error) is broker.refuses_sys
    if broker.refuses_sys:
        assert bridged.status().counters.refused["mqtt_lost"] == 1
        assert bridged.status().counters.connects == MAX_TRIES + 1
    await bridged.is_connected()
    assert isinstance(await answer(phone, "mqtt.plant.publish", b"on", topic="led/1"), frames.Payload)
