"""Consumers that share a filter: each message goes to one of them, whichever node they are on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import MQTT
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, answer, bridge, tagged
from tests.local_node import until
from tests.rawclient import RawClient


class Consumer:
    """One stream of a client of its own. `got` grows as it is read."""

    def __init__(self, client: RawClient, number: int) -> None:
        self.client = client
        self.number = number
        self.got: list[frames.Payload] = []

    @classmethod
    async def start(cls, bridged: Bridged, name: str, route: str, credit: int, **tags: str) -> Consumer:
        client = await bridged.local.client(subject=name, kind="service")
        number = client.next_stream_id()
        client.send(frames.RequestStream(number, tagged(route, **tags), b"", initial_n=credit))
        return cls(client, number)

    async def gets(self, count: int) -> list[bytes]:
        while len(self.got) < count:
            frame = await self.client.recv(20)
            assert isinstance(frame, frames.Payload), frame
            self.got.append(frame)
        return [frame.data for frame in self.got]

    def asks_for(self, count: int) -> None:
        self.client.send(frames.RequestN(self.number, count))


async def are_subscribed(broker: Broker, count: int = 1) -> None:
    await until(lambda: broker.log.count("Sending SUBACK to gateway-plant-s") >= count)


def numbers(data: Sequence[bytes]) -> list[int]:
    return sorted(map(int, data))


@pytest.mark.parametrize("version", [5, 4])
async def test_a_message_goes_to_one_of_a_group(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, version: int
) -> None:
    """Idle ones in turn, as services get their requests; a group has one connection to the broker."""
    await bridged.apply(bridge(broker, mqtt={"version": version}))
    await bridged.is_connected()
    asked = {"topic": "site/+/temp", "group": "workers"}
    one = await Consumer.start(bridged, "one", "mqtt.plant.subscribe", 100, **asked)
    other = await Consumer.start(bridged, "other", "mqtt.plant.subscribe", 100, topic="$share/workers/site/+/temp")
    await are_subscribed(broker)
    await answer(other.client, "gateway.time", b"")
    sensor = await peer(broker, "sensor")
    for number in range(20):
        await sensor.publish("site/1/temp", b"%d" % number, 1)
    first, second = await one.gets(10), await other.gets(10)
    assert numbers([*first, *second]) == list(range(20))
    assert broker.log.count("Sending CONNACK to gateway-plant-s") == 1


async def test_groups_of_several_nodes_are_one_at_the_broker(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    await bridged.apply(bridge(broker), bridge(broker, name="plant-2"))
    await bridged.is_connected()
    await bridged.is_connected("plant-2")
    consumers = [
        await Consumer.start(bridged, name, f"mqtt.{name}.subscribe", 100, topic="site/#", group="workers")
        for name in ("plant", "plant-2")
    ]
    await until(lambda: broker.log.count("Sending SUBACK to gateway-plant-s") == 1)
    await until(lambda: broker.log.count("Sending SUBACK to gateway-plant-2-s") == 1)
    sensor = await peer(broker, "sensor")
    for number in range(20):
        await sensor.publish("site/1/temp", b"%d" % number, 1)
    got = [*await consumers[0].gets(10), *await consumers[1].gets(10)]
    assert numbers(got) == list(range(20))


async def test_rules_that_share_a_filter_get_a_message_once_between_them(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    rule = {"pattern": "site/#", "direction": "in", "qos": 1, "share": "nodes", "route": "telemetry.ingest"}
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, rule), bridge(broker, rule, name="plant-2"))
    await bridged.is_connected()
    await bridged.is_connected("plant-2")
    sensor = await peer(broker, "sensor")
    for number in range(20):
        await sensor.publish("site/1/temp", b"%d" % number, 1)
    await until(lambda: len(telemetry.heard) == 20)
    assert numbers([frame.data for frame in telemetry.heard]) == list(range(20))
    await until(lambda: [bridged.status(name).counters.forwarded for name in ("plant", "plant-2")] == [10, 10])


async def test_who_leaves_leaves_what_it_has_not_paid_for(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    """One without credit gets nothing; what is not acknowledged goes to another, marked as a duplicate."""
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    asked = {"topic": "site/#", "group": "workers"}
    one = await Consumer.start(bridged, "one", "mqtt.plant.subscribe", 4, **asked)
    await are_subscribed(broker)
    sensor = await peer(broker, "sensor")
    for number in range(6):
        await sensor.publish("site/1", b"%d" % number, 1)
    assert numbers(await one.gets(4)) == [0, 1, 2, 3]
    # With more credit than messages may come everything is acknowledged; so little is kept back.
    other = await Consumer.start(bridged, "other", "mqtt.plant.subscribe", 2, **asked)
    assert numbers(await other.gets(2)) == [4, 5]
    one.client.send(frames.Cancel(one.number))
    other.asks_for(100)
    await other.gets(6)
    assert numbers([frame.data for frame in other.got]) == [0, 1, 2, 3, 4, 5]
    told = [dict(decode_composite(frame.metadata or b""))[MQTT] for frame in other.got]
    assert [b'"duplicate":true' in each for each in told] == [False, False, True, True, True, True]
    await until(lambda: bridged.status().counters.acknowledged == 6)


@pytest.mark.parametrize(
    ("topic", "group"), [("$share/", ""), ("$share/g", ""), ("$share//a", ""), ("a", "g/h"), ("a", "+")]
)
async def test_a_group_that_is_none(bridged: Bridged, broker: Broker, topic: str, group: str) -> None:
    await bridged.apply(bridge(broker, subscribe=["a/#"]))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    for asked in (topic, "$share/g/b"):
        number = phone.next_stream_id()
        tags = {"topic": asked, **({"group": group} if group else {})}
        phone.send(frames.RequestStream(number, tagged("mqtt.plant.subscribe", **tags), b"", initial_n=1))
        refused = await phone.recv(20)
        assert isinstance(refused, frames.Error)
