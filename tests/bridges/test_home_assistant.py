"""Home Assistant's side of a running bridge: what is retained at a real broker, whoever comes and goes."""

from __future__ import annotations

import json

from gateway.control.devices import NewDevice
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import BY, Bridged, Peer, bridge
from tests.local_node import until

LABELS = {"ha": "name=Kitchen", "ha.temperature": "sensor;unit=°C"}
CONFIG = "homeassistant/sensor/kitchen/temperature/config"
AVAILABILITY = "gateway/kitchen/availability"


async def watch(peer: ConnectPeer, broker: Broker, name: str) -> Peer:
    """Whoever comes sees first what is retained."""
    home = await peer(broker, name)
    await home.subscribe("homeassistant/+/+/+/config")
    await home.subscribe("gateway/+/availability")
    await home.subscribe("gateways/#")
    return home


def last(home: Peer) -> dict[str, bytes]:
    return {message.topic: message.payload for message in home.got}


async def test_a_device_is_announced_while_it_is_registered(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    control = bridged.local.node.control
    assert control is not None
    await control.devices.create(NewDevice("kitchen", labels=LABELS), by=BY)
    await bridged.apply(bridge(broker, homeAssistant={}, presence={"topic": "gateways/plant"}))
    await bridged.is_connected()
    home = await watch(peer, broker, "home")
    await home.gets(3)
    assert last(home)[AVAILABILITY] == b"offline"
    assert [each["t"] for each in json.loads(last(home)[CONFIG])["avty"]] == [AVAILABILITY, "gateways/plant"]
    device = await bridged.local.client(subject="kitchen", kind="device")
    await until(lambda: last(home)[AVAILABILITY] == b"online")
    assert sum(message.topic == CONFIG for message in home.got) == 1
    # Home Assistant has started again.
    await home.publish("homeassistant/status", b"online")
    await until(lambda: sum(message.topic == CONFIG for message in home.got) == 2)
    await until(lambda: [m.payload for m in home.got if m.topic == AVAILABILITY] == [b"offline", b"online", b"online"])
    late = await watch(peer, broker, "late")
    await late.gets(3)
    assert last(late) == last(home)
    assert all(message.retain for message in late.got)
    # Deleted while it is away, by a bridge that has never seen it.
    await device.close()
    await until(lambda: last(home)[AVAILABILITY] == b"offline")
    await bridged.local.node.bridges.restart("plant")
    await bridged.becomes("plant", lambda status: status.counters.connects == 2)
    await control.devices.delete("kitchen", by=BY)
    await until(lambda: last(home)[CONFIG] == last(home)[AVAILABILITY] == b"")
    nobody = await watch(peer, broker, "nobody")
    await nobody.gets(1)
    assert last(nobody) == {"gateways/plant": b"1"}


async def test_labels_that_change_and_a_device_that_is_deleted_while_it_is_here(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    control = bridged.local.node.control
    assert control is not None
    await control.devices.create(NewDevice("kitchen", labels={"room": "kitchen"}), by=BY)
    await bridged.apply(bridge(broker, homeAssistant={}))
    await bridged.is_connected()
    await bridged.local.client(subject="kitchen", kind="device")
    home = await watch(peer, broker, "home")
    await control.devices.update("kitchen", {"labels": LABELS}, by=BY)
    await until(lambda: last(home).get(AVAILABILITY) == b"online")
    assert json.loads(last(home)[CONFIG])["avty_t"] == AVAILABILITY
    await control.devices.delete("kitchen", by=BY)
    await until(lambda: last(home)[CONFIG] == last(home)[AVAILABILITY] == b"")
