"""What comes from a real broker: who gets it, and when the broker is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.wire import frames
from gateway.wire.metadata import decode_composite, decode_routing
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, MQTT, PRINCIPAL, ROUTING
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, bridge
from tests.local_node import until

IN = {"pattern": "sensors/{device}/{metric}", "direction": "in", "qos": 2, "route": "telemetry.ingest"}
TAGGED = {**IN, "tags": {"device": "{device}"}}


@pytest.mark.parametrize("version", [5, 4])
async def test_a_message_becomes_a_request_by_its_qos(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, version: int
) -> None:
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, TAGGED, mqtt={"version": version}))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for qos in (0, 1, 2):
        await sensor.publish("sensors/kitchen/temperature", b"%d" % qos, qos)
    await until(lambda: len(telemetry.heard) == 3)
    by_data = {frame.data: frame for frame in telemetry.heard}
    assert isinstance(by_data[b"0"], frames.RequestFnf)
    for data, qos in ((b"1", 1), (b"2", 2)):
        request = by_data[data]
        assert isinstance(request, frames.RequestResponse)
        entries = dict(decode_composite(request.metadata or b""))
        assert decode_routing(entries[ROUTING]) == ("telemetry.ingest",)
        told = json.loads(entries[MQTT])
        assert told["topic"] == "sensors/kitchen/temperature"
        assert told["tags"] == {"device": "kitchen"}
        assert told["qos"] == qos
        assert json.loads(entries[PRINCIPAL])["subject"] == "mqtt.plant"
        assert entries[IDEMPOTENCY_KEY].startswith(b"mqtt/plant/")
    await until(lambda: bridged.status().counters.acknowledged == 2)
    assert bridged.status().in_flight_in == 0


async def test_a_message_is_acknowledged_after_its_answer_and_not_before(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    slow = await bridged.local.client("tcp", "svc-telemetry", serving=("telemetry",))
    await bridged.apply(bridge(broker, IN))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    await sensor.publish("sensors/a/b", b"x", 1)
    request = await slow.recv(20)
    assert isinstance(request, frames.RequestResponse)
    assert bridged.status().in_flight_in == 1
    assert bridged.status().counters.acknowledged == 0
    slow.send(frames.Payload(request.stream_id, None, b"", next=True, complete=True))
    await until(lambda: bridged.status().counters.acknowledged == 1)
    assert bridged.status().last_ack_age_s is not None


async def test_what_nobody_takes_for_now_waits_at_the_broker(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    await bridged.apply(bridge(broker, IN, mqtt={"receiveMaximum": 5}))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for number in range(20):
        await sensor.publish("sensors/a/b", b"%d" % number, 1)
    await until(lambda: bridged.status().in_flight_in == 5)
    await until(lambda: "no route" in bridged.status().reason)
    assert bridged.status().counters.acknowledged == 0
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await until(lambda: bridged.status().counters.acknowledged == 20)
    assert sorted(int(frame.data) for frame in telemetry.got(frames.RequestResponse)) == list(range(20))
    assert bridged.status().reason == ""


async def test_a_duplicate_is_known_after_a_restart(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    slow = await bridged.local.client("tcp", "svc-telemetry", serving=("telemetry",))
    await bridged.apply(bridge(broker, IN))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    await sensor.publish("sensors/a/b", b"x", 2)
    first = await slow.recv(20)
    assert isinstance(first, frames.RequestResponse)
    await bridged.local.node.bridges.restart("plant")
    again = await slow.recv(20)
    if isinstance(again, frames.Cancel):
        again = await slow.recv(20)
    assert isinstance(again, frames.RequestResponse)
    keys = [dict(decode_composite(each.metadata or b""))[IDEMPOTENCY_KEY] for each in (first, again)]
    assert keys[0] == keys[1]
    slow.send(frames.Payload(again.stream_id, None, b"", next=True, complete=True))
    await until(lambda: bridged.status().counters.acknowledged == 1)
    await asyncio.sleep(0)


async def test_events_go_to_who_serves_their_route_now(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    first = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, IN))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for number in range(3):
        await sensor.publish("sensors/a/b", b"%d" % number, 0)
    await until(lambda: len(first.got(frames.RequestFnf)) == 3)
    entries = dict(decode_composite(first.got(frames.RequestFnf)[2].metadata))
    assert json.loads(entries[PRINCIPAL])["subject"] == "mqtt.plant"
    await first.client.close()
    await until(lambda: "telemetry" not in bridged.local.node.plane.table.by_service)
    await sensor.publish("sensors/a/b", b"nobody", 0)
    await until(lambda: bridged.local.counters.refusals.get("no_route"))
    second = await bridged.local.servant("ws", "telemetry")
    await sensor.publish("sensors/a/b", b"again", 0)
    await until(lambda: len(second.got(frames.RequestFnf)) == 1)
    assert second.got(frames.RequestFnf)[0].data == b"again"
