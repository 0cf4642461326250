"""Messages of a broker in the spool of the node, and the node's spool in front of a broker that is away."""

from __future__ import annotations

from typing import Any

from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, SPOOLED
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, answer, bridge
from tests.local_node import fnf, until

IN = {"pattern": "sensors/#", "direction": "in", "qos": 1, "route": "telemetry.ingest", "spool": "telemetry"}
OUT = {"pattern": "readings/{sub}", "direction": "out", "qos": 1, "route": "cloud.readings"}


def spool(name: str, service: str, **more: Any) -> dict[str, Any]:
    match = {"service": service, "interaction": ["fireAndForget", "requestResponse"]}
    offline = {"ttl": "1h", "onlyIdempotent": False}
    found = {"match": [match], "minFree": "0%", "maxBytes": "64MiB", "queueWhileOffline": offline}
    return {"kind": "Spool", "name": name, **found, **more}


async def test_a_message_is_acknowledged_when_it_is_on_disk(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    await bridged.apply(spool("telemetry", "telemetry"), bridge(broker, IN))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for number in range(50):
        await sensor.publish("sensors/a", b"%d" % number, 1)
    await until(lambda: bridged.status().counters.acknowledged == 50)
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await until(lambda: len(telemetry.got(frames.RequestFnf)) == 50)
    events = telemetry.got(frames.RequestFnf)
    assert [frame.data for frame in events] == [b"%d" % number for number in range(50)]
    entries = dict(decode_composite(events[0].metadata))
    assert SPOOLED in entries
    assert IDEMPOTENCY_KEY in entries


async def test_a_full_spool_refuses_under_mqtt_5(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    small = spool("telemetry", "telemetry", maxBytes="8KiB", maxMessage="4KiB")
    await bridged.apply(small, bridge(broker, IN))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for _ in range(20):
        await sensor.publish("sensors/a", bytes(2000), 1)
    await until(lambda: bridged.status().counters.acknowledged == 20)
    refused = bridged.status().counters.refused["spool_full"]
    assert 0 < refused < 20
    await until(lambda: broker.log.count("RC:97)") + broker.log.count("RC:151)") == refused)


async def test_a_full_spool_stops_a_broker_of_3_1_1(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    small = spool("telemetry", "telemetry", maxBytes="8KiB", maxMessage="4KiB")
    await bridged.apply(small, bridge(broker, IN, mqtt={"version": "3.1.1"}))
    await bridged.is_connected()
    sensor = await peer(broker, "sensor")
    for number in range(20):
        await sensor.publish("sensors/a", b"%d" % number + bytes(2000), 1)
    await until(lambda: bridged.status().reason)
    assert bridged.status().counters.acknowledged < 20
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await until(lambda: bridged.status().counters.acknowledged == 20)
    await until(lambda: len({frame.data for frame in telemetry.got(frames.RequestFnf)}) == 20)


async def test_what_is_sent_while_the_broker_is_away_reaches_it(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    await bridged.apply(spool("cloud", "cloud.readings"), bridge(broker, OUT))
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    # The broker keeps for it what comes before it is back.
    lasting = {"clean_start": False, "session_expiry_s": 3600}
    before = await peer(broker, "watcher", **lasting)
    await before.subscribe("readings/#")
    broker.stop()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    for number in range(10):
        device.send(fnf(device, "cloud.readings", b"event %d" % number))
        stored = await answer(device, "cloud.readings", b"%d" % number)
        assert isinstance(stored, frames.Payload)
        assert b'"spool"' in stored.data
    await broker.start()
    watcher = await peer(broker, "watcher", **lasting)
    await watcher.gets(20)
    assert {message.payload for message in watcher.got} == {
        data for number in range(10) for data in (b"%d" % number, b"event %d" % number)
    }
    assert {message.topic for message in watcher.got} == {"readings/kitchen"}
    identities = [message.properties.of_user("gateway-id") for message in watcher.got]
    assert None not in identities
