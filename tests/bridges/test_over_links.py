"""A bridge's services from another node: tags say what is wanted there, too, and not from whom."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import gateway.front
from gateway.bridges.mqtt.message import Properties
from gateway.control.members import CENTRAL
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import BY, answer, bridge, tagged
from tests.federation.links.cluster import Cluster
from tests.local_node import until


@pytest_asyncio.fixture
async def edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A central node and two edges."""
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    cluster = Cluster(tmp_path / "cluster", tmp_path / "identities")
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    yield cluster
    await cluster.close()


async def test_all_of_a_bridge_from_behind_another_edge(edges: Cluster, broker: Broker, peer: ConnectPeer) -> None:
    control = edges["edge-b"].running.control
    assert control is not None
    out = {"pattern": "rooms/{room}", "direction": "out", "qos": 1, "route": "rooms.tell"}
    await control.documents.apply(json.dumps(bridge(broker, out)), by=BY)
    await edges.knows("central", "mqtt.plant")
    await edges.knows("central", "rooms.tell")
    device = await peer(broker, "device")
    await device.subscribe("led/#")
    await device.subscribe("rooms/#")
    phone = await edges.client("edge-a")
    told = await answer(phone, "mqtt.plant.publish", b"on", topic="led/7", retain="1", qos="1")
    assert isinstance(told, frames.Payload), told
    assert (await device.gets(1))[0].topic == "led/7"
    last = await answer(phone, "mqtt.plant.last", b"", topic="led/7")
    assert last.data == b"on"
    await answer(phone, "rooms.tell", b"hot", room="kitchen")
    assert (await device.gets(2))[1].topic == "rooms/kitchen"
    call = phone.next_stream_id()
    phone.send(frames.RequestResponse(call, tagged("mqtt.plant.call", topic="led/8"), b"blink"))
    (_, _, asked) = await device.gets(3)
    assert asked.properties.response_topic
    properties = Properties(correlation=asked.properties.correlation)
    await device.publish(asked.properties.response_topic, b"blinked", properties=properties)
    assert (await phone.recv(20)).data == b"blinked"
    stream = phone.next_stream_id()
    phone.send(frames.RequestStream(stream, tagged("mqtt.plant.subscribe", topic="led/+"), b"", initial_n=2))
    assert (await phone.recv(20)).data == b"on"
    await device.publish("led/9", b"off")
    assert (await phone.recv(20)).data == b"off"
    await until(lambda: "Sending PUBLISH to gateway-plant-s2" in broker.log)
