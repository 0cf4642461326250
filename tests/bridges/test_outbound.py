"""What is asked of a bridge, and what a real broker gets of it."""

from __future__ import annotations

from gateway.bridges.mqtt.message import Properties
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import MQTT
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, answer, bridge, tagged
from tests.local_node import call, fnf, until

OUT = {
    "pattern": "readings/{sub}/{metric}",
    "direction": "out",
    "qos": 1,
    "remote": "site/7/",
    "route": "telemetry.{metric}",
}


async def test_a_route_becomes_a_topic(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("site/#")
    await bridged.apply(bridge(broker, OUT))
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    assert await call(device, "telemetry.temperature", b"21.5") == b""
    device.send(fnf(device, "telemetry.humidity", b"40"))
    await watcher.gets(2)
    first, second = watcher.got
    assert (first.topic, first.payload, first.qos) == ("site/7/readings/kitchen/temperature", b"21.5", 1)
    assert (second.topic, second.payload) == ("site/7/readings/kitchen/humidity", b"40")
    assert first.properties.of_user("gateway-hops") == "1"
    await until(lambda: bridged.status().counters.confirmed >= 2)


async def test_publish_says_what_the_broker_says(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("led/#", 2)
    await bridged.apply(bridge(broker, publish=["led/#"]))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    for qos in ("0", "1", "2"):
        assert isinstance(await answer(phone, "mqtt.plant.publish", b"on", topic="led/7", qos=qos), frames.Payload)
    assert isinstance(
        await answer(phone, "mqtt.plant.publish", b'{"topic": "led/8", "payload": {"on": true}, "retain": true}'),
        frames.Payload,
    )
    await watcher.gets(4)
    assert sorted(message.qos for message in watcher.got) == [0, 1, 1, 2]
    assert [message.payload for message in watcher.got if message.topic == "led/8"] == [b'{"on":true}']
    refused = await answer(phone, "mqtt.plant.publish", b"on", topic="other/7")
    assert isinstance(refused, frames.Error)
    assert "publishes nothing to" in refused.text
    nobody = await answer(phone, "mqtt.plant.unheard", b"")
    assert isinstance(nobody, frames.Error)


async def test_out_routes_are_there_while_the_broker_is(bridged: Bridged, broker: Broker) -> None:
    await bridged.apply(bridge(broker, OUT))
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    assert isinstance(await answer(device, "telemetry.temperature", b"1"), frames.Payload)
    broker.kill()
    await until(lambda: "telemetry" not in bridged.local.node.plane.table.by_service)
    gone = await answer(device, "telemetry.temperature", b"2")
    assert isinstance(gone, frames.Error)
    assert gone.code == frames.ErrorCode.REJECTED
    asleep = await answer(device, "mqtt.plant.publish", b"2", topic="a")
    assert isinstance(asleep, frames.Error)
    assert "not connected" in asleep.text
    await broker.start()
    await bridged.is_connected()
    assert isinstance(await answer(device, "telemetry.temperature", b"3"), frames.Payload)


async def test_a_subscriber_gets_what_it_asked_for_and_the_broker_waits(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    sensor = await peer(broker, "sensor")
    await sensor.publish("site/1/temp", b"old", 1, retain=True)
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestStream(number, tagged("mqtt.plant.subscribe", topic="site/+/temp"), b"", initial_n=10))
    first = await phone.recv(20)
    assert isinstance(first, frames.Payload)
    assert first.data == b"old"
    assert b'"retain":true' in dict(decode_composite(first.metadata or b""))[MQTT]
    for at in range(30):
        await sensor.publish("site/2/temp", b"%d" % at, 1, properties=Properties(content_type="text/plain"))
    got = [await phone.recv(20) for _ in range(9)]
    assert [frame.data for frame in got] == [b"%d" % at for at in range(9)]
    # Nothing more comes until it is asked for, not even from the broker.
    assert await call(phone, "gateway.time", b"")
    assert len(sent(broker)) == 10
    phone.send(frames.RequestN(number, 5))
    assert [(await phone.recv(20)).data for _ in range(5)] == [b"%d" % at for at in range(9, 14)]
    number_of_time = phone.request("gateway.time", b"")
    assert getattr(await phone.recv(20), "stream_id", 0) == number_of_time
    phone.send(frames.Cancel(number))
    # Its goodbye may be lost behind what was not read any more.
    await until(lambda: any(line.startswith("Client gateway-plant-s1 ") for line in broker.log.splitlines()))


def sent(broker: Broker) -> list[str]:
    return [line for line in broker.log.splitlines() if "Sending PUBLISH to gateway-plant-s1" in line]


async def test_last_is_what_is_retained(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    sensor = await peer(broker, "sensor")
    await sensor.publish("site/1/temp", b"21", 1, retain=True)
    await bridged.apply(bridge(broker, subscribe=["site/#"]))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    found = await answer(phone, "mqtt.plant.last", b"", topic="site/1/temp")
    assert isinstance(found, frames.Payload)
    assert found.data == b"21"
    nothing = await answer(phone, "mqtt.plant.last", b"", topic="site/2/temp")
    assert isinstance(nothing, frames.Error)
    assert nothing.code == frames.ErrorCode.REJECTED
    refused = await answer(phone, "mqtt.plant.last", b"", topic="secret/2")
    assert isinstance(refused, frames.Error)
    assert "subscribes to nothing" in refused.text
