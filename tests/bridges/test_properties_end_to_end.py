"""What MQTT 5 says beside a payload, both ways, as a stock client sends and sees it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from gateway.wire.metadata import decode_composite, decode_mime_type, decode_zipkin, encode_composite, encode_routing
from gateway.wire.mimetypes import MIME_TYPE, MQTT, ROUTING, SPOOLED, ZIPKIN
from tests.bridges.brokers import Broker
from tests.bridges.peers import Bridged, bridge
from tests.bridges.test_spool import spool
from tests.local_node import until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "congo=t61rcWkgMzE"
IN = {"pattern": "sensors/{device}", "direction": "in", "qos": 1, "route": "telemetry.ingest"}
OUT = {"pattern": "readings/{sub}", "direction": "out", "qos": 1, "route": "cloud.readings", "expiry": "1h"}


class Stock:
    """paho, with its thread."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.got: list[Any] = []
        self._ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self.client.on_message = lambda client, data, message: self.got.append(message)
        self.client.on_subscribe = lambda *given: self._ready.set()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 60
        self.client.connect("127.0.0.1", broker.port, properties=properties, clean_start=False)
        self.client.loop_start()

    async def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, 1)
        assert await asyncio.to_thread(self._ready.wait, 30)

    def publish(self, topic: str, payload: bytes, **said: Any) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in said.items():
            setattr(properties, name, value)
        self.client.publish(topic, payload, 1, properties=properties)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def stock(broker: Broker) -> Iterator[Stock]:
    found = Stock(broker, "stock")
    yield found
    found.close()


async def test_what_a_stock_client_says_comes_through_and_back(bridged: Bridged, broker: Broker, stock: Stock) -> None:
    """In as metadata; whoever passes that on loses nothing, and its trace is as it is then."""
    ingest = await bridged.local.client("tcp", "svc-telemetry", serving=("telemetry",))
    await bridged.apply(bridge(broker, IN, {**OUT, "expiry": None}))
    await bridged.is_connected()
    await stock.subscribe("readings/#")
    stock.publish(
        "sensors/oven",
        b"{}",
        ContentType="application/json",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=300,
        UserProperty=[("colour", "blue"), ("traceparent", TRACE), ("tracestate", STATE), ("colour", "green")],
    )
    request = await ingest.recv(20)
    assert isinstance(request, frames.RequestResponse)
    entries = decode_composite(request.metadata or b"")
    by_mime = dict(entries)
    assert decode_mime_type(by_mime[MIME_TYPE]) == "application/json"
    trace = decode_zipkin(by_mime[ZIPKIN])
    assert (trace.trace_id or b"").hex() == TRACE.split("-")[1]
    told = json.loads(by_mime[MQTT])
    assert (told["text"], told["expiry_s"]) == (True, 300)
    assert ["colour", "green"] in told["user"]
    passed = [(ROUTING, encode_routing(["cloud.readings"]))]
    passed += [(mime, content) for mime, content in entries if mime in (MIME_TYPE, MQTT)]
    span = by_mime[ZIPKIN][:-8] + bytes(7) + b"\x07"
    ingest.send(frames.RequestFnf(ingest.next_stream_id(), encode_composite([*passed, (ZIPKIN, span)]), b"{}"))
    await until(lambda: stock.got)
    back = stock.got[0].properties
    assert (back.ContentType, back.PayloadFormatIndicator, back.MessageExpiryInterval) == ("application/json", 1, 300)
    user = dict(back.UserProperty)
    assert [value for name, value in back.UserProperty if name == "colour"] == ["blue", "green"]
    assert user["traceparent"] == f"00-{TRACE.split('-')[1]}-0000000000000007-01"
    assert user["tracestate"] == STATE


async def test_what_has_waited_has_less_of_its_life_left(bridged: Bridged, broker: Broker, stock: Stock) -> None:
    """Out of a spool, and into one: its expiry counts on while it lies there; what is over goes nowhere."""
    await stock.subscribe("readings/#")
    documents = spool("cloud", "cloud.readings"), spool("telemetry", "telemetry")
    await bridged.apply(*documents, bridge(broker, {**IN, "spool": "telemetry"}, OUT))
    await bridged.is_connected()
    stock.publish("sensors/oven", b"in", MessageExpiryInterval=300)
    await until(lambda: bridged.status().counters.acknowledged)
    broker.stop()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    device = await bridged.local.client(subject="kitchen", kind="device")
    for data, said in ((b"over", {"expiry": "1"}), (b"long", {"expiry": "600"}), (b"usual", {})):
        tags = [f"{name}={value}" for name, value in said.items()]
        metadata = encode_composite([(ROUTING, encode_routing(["cloud.readings", *tags]))])
        device.send(frames.RequestFnf(device.next_stream_id(), metadata, data))
    depot = bridged.local.node.depot
    assert depot is not None
    await until(lambda: sum(each.messages for each in depot.spools().values()) == 4)
    # For so long does it wait at least; it may be longer.
    await asyncio.sleep(1.1)
    await broker.start()
    await until(lambda: len(stock.got) == 2, 60)
    left = {message.payload: message.properties.MessageExpiryInterval for message in stock.got}
    assert 0 < left[b"long"] < 600
    assert 0 < left[b"usual"] < 3600
    assert bridged.status().counters.dropped["mqtt_expired"] == 1
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await until(lambda: telemetry.got(frames.RequestFnf))
    entries = dict(decode_composite(telemetry.got(frames.RequestFnf)[0].metadata))
    assert json.loads(entries[MQTT])["expiry_s"] == 300
    assert json.loads(entries[SPOOLED])["age_ms"] > 1000
