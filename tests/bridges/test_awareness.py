"""Sparkplug B through a bridge that is aware of it, with a real broker."""

from __future__ import annotations

from gateway.bridges.mqtt.sparkplug_payload import historical, number_of
from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, answer, bridge, tagged
from tests.bridges.test_sparkplug import metric, payload
from tests.bridges.test_spool import spool
from tests.local_node import fnf, until

IN = {"pattern": "spBv1.0/#", "direction": "in", "qos": 1, "route": "scada"}
OUT = {"pattern": "spBv1.0/plant/{kind}/{sub}", "direction": "out", "qos": 1, "route": "edge.{kind}"}


async def test_a_gap_asks_the_node_to_be_born_again(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    scada = await bridged.local.servant("tcp", "scada")
    await bridged.apply(bridge(broker, IN, sparkplug="aware"))
    await bridged.is_connected()
    node = await peer(broker, "node")
    await node.subscribe("spBv1.0/plant/NCMD/edge")
    await node.publish("spBv1.0/plant/NBIRTH/edge", payload(0, metric("bdSeq", 7)))
    await node.publish("spBv1.0/plant/NDATA/edge", payload(1, metric("a", 1)))
    await node.publish("spBv1.0/plant/NDATA/edge", payload(3, metric("a", 3)))
    (command,) = await node.gets(1)
    assert b"Node Control/Rebirth" in command.payload
    late = await bridged.local.client(subject="late", kind="user")
    born = await answer(late, "mqtt.plant.last", b"spBv1.0/plant/NBIRTH/edge")
    assert isinstance(born, frames.Payload)
    assert born.data == payload(0, metric("bdSeq", 7))
    number = late.next_stream_id()
    late.send(frames.RequestStream(number, tagged("mqtt.plant.subscribe", topic="spBv1.0/plant/#"), b"", initial_n=10))
    assert (await late.recv(20)).data == payload(0, metric("bdSeq", 7))
    # The will of the session before, which the birth has overtaken.
    await node.publish("spBv1.0/plant/NDEATH/edge", payload(None, metric("bdSeq", 6)))
    await until(lambda: bridged.status().counters.dropped["sparkplug_stale"] == 1)
    heard = {frame.data for frame in scada.got(frames.RequestResponse)}
    assert heard == {
        payload(0, metric("bdSeq", 7)),
        payload(1, metric("a", 1)),
        payload(3, metric("a", 3)),
    }


async def test_what_has_waited_is_history(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    await bridged.apply(spool("edge", "edge"), bridge(broker, OUT, sparkplug="aware"))
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    broker.kill()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    data = payload(1, metric("a", 1))
    device.send(fnf(device, "edge.NBIRTH", payload(0)))
    device.send(fnf(device, "edge.NDATA", data))
    depot = bridged.local.node.depot
    assert depot is not None
    await until(lambda: sum(each.messages for each in depot.spools().values()) == 2)
    # Who watches is there before the bridge is.
    bridged.local.node.bridges.stop("plant")
    await broker.start()
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("spBv1.0/#")
    bridged.local.node.bridges.start("plant")
    await watcher.gets(1)
    await until(lambda: not any(each.messages for each in depot.spools().values()))
    device.send(fnf(device, "edge.NDATA", payload(2)))
    await watcher.gets(2)
    assert [(message.topic, message.payload) for message in watcher.got] == [
        ("spBv1.0/plant/NDATA/kitchen", historical(data)),
        ("spBv1.0/plant/NDATA/kitchen", payload(2)),
    ]


async def test_a_device_that_is_gone_is_said_to_be_dead(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    """The broker never knew it, so no will of its own is there; nor does it hear of it when the bridge goes."""
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("spBv1.0/plant/NDEATH/+")
    await bridged.apply(bridge(broker, OUT, sparkplug="aware"))
    await bridged.is_connected()
    for name, session in (("kitchen", 7), ("hall", 8), ("attic", 9)):
        device = await bridged.local.client(subject=name, kind="device")
        await answer(device, "edge.NBIRTH", payload(0, metric("bdSeq", session)))
        if name == "kitchen":
            await device.close()
        elif name == "hall":
            # It says so itself, and is not dead twice.
            await answer(device, "edge.NDEATH", payload(None, metric("bdSeq", session)))
            await device.close()
    await watcher.gets(2)
    bridged.local.node.bridges.stop("plant")
    await watcher.gets(3)
    told = {(message.topic.rpartition("/")[2], number_of(message.payload, "bdSeq")) for message in watcher.got}
    assert told == {("kitchen", 7), ("hall", 8), ("attic", 9)}
