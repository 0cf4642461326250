"""Filters that have topics in common, with a broker that sends a message once for each of them."""

from __future__ import annotations

import pytest

from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, bridge, tagged
from tests.local_node import until

RULES = (
    {"pattern": "plant/{room}/temp", "direction": "in", "qos": 1, "route": "first.temp"},
    {"pattern": "plant/hall/+", "direction": "in", "qos": 1, "route": "second.hall"},
    {"pattern": "#", "direction": "in", "qos": 0, "route": "third.rest"},
)


async def test_a_message_goes_on_once_by_the_first_rule(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    servants = {name: await bridged.local.servant("tcp", name) for name in ("first", "second", "third")}
    await bridged.apply(bridge(broker, *RULES, presence={"notifications": False}))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for topic in ("plant/hall/temp", "plant/hall/light", "plant/attic/temp", "other"):
        await sensor.publish(topic, topic.encode(), 1)
    await sensor.publish("last", b"last", 1)
    await until(lambda: any(frame.data == b"last" for frame in servants["third"].heard))
    assert {name: sorted(frame.data for frame in each.heard) for name, each in servants.items()} == {
        "first": [b"plant/attic/temp", b"plant/hall/temp"],
        "second": [b"plant/hall/light"],
        "third": [b"last", b"other"],
    }
    # They are counted when they are answered.
    await until(lambda: bridged.status().counters.forwarded == 5)
    counters = bridged.status().counters
    assert counters.copies == counters.received.total() - 5 > 0
    assert bridged.status().in_flight_in == 0


@pytest.mark.parametrize("filters", [("plant/+/temp", "plant/#", "plant/hall/temp")])
async def test_each_subscriber_gets_a_message_once(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, filters: tuple[str, ...]
) -> None:
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    numbers = []
    for each in filters:
        numbers.append(phone.next_stream_id())
        request = frames.RequestStream(numbers[-1], tagged("mqtt.plant.subscribe", topic=each), b"", initial_n=10)
        phone.send(request)
    await until(lambda: broker.log.count("Sending SUBACK to gateway-plant-s") == len(filters))
    sensor = await peer(broker, "sensor")
    for data in (b"1", b"2"):
        await sensor.publish("plant/hall/temp", data, 1)
    got = [await phone.recv(20) for _ in range(2 * len(filters))]
    expected = sorted((number, data) for number in numbers for data in (b"1", b"2"))
    assert sorted((frame.stream_id, frame.data) for frame in got) == expected
