"""Messages that paho writes are read here, and those that are written here are read by paho: the same of both ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.message import NO_PROPERTIES, Message, Properties

CONNACK = {4: b"\x20\x02\0\0", 5: b"\x20\x03\0\0\0"}
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=20)
PROPERTIES = st.builds(
    Properties,
    content_type=st.none() | TEXT,
    text=st.none() | st.booleans(),
    expiry_s=st.none() | st.integers(0, 0xFFFFFFFF),
    response_topic=st.none() | st.just("answers/here"),
    correlation=st.none() | st.binary(max_size=40),
    user=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
MESSAGES = st.builds(
    Message,
    topic=st.text(st.sampled_from("aé/"), min_size=1, max_size=60).filter(lambda topic: topic.strip("/")),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    duplicate=st.just(False),
    properties=PROPERTIES,
)


class _Socket:
    """What paho takes for one: `written` by it, `coming` to it."""

    def __init__(self) -> None:
        self.written = b""
        self.coming = b""

    def recv(self, size: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        data, self.coming = self.coming[:size], self.coming[size:]
        return data

    def send(self, data: bytes) -> int:
        self.written += bytes(data)
        return len(data)

    def close(self) -> None: ...

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None: ...


class _Paho(paho.Client):
    """A client that is connected."""

    def __init__(self, version: int) -> None:
        kind = paho.MQTTv5 if version == 5 else paho.MQTTv311
        super().__init__(CallbackAPIVersion.VERSION2, client_id="paho", protocol=kind, reconnect_on_failure=False)
        self.pipe = _Socket()
        self.got: list[paho.MQTTMessage] = []
        self.on_message = lambda client, data, message: self.got.append(message)
        self.connect_async("broker")
        self.reconnect()
        self.feed(CONNACK[version])
        self.pipe.written = b""

    def _create_socket(self) -> Any:
        return self.pipe

    def feed(self, data: bytes) -> None:
        self.pipe.coming += data
        while self.pipe.coming:
            self.loop_read()


def read(data: bytes, version: int) -> Message:
    decoder, found = packets.PublishDecoder(version), []
    reader = packets.PacketReader(
        lambda head, body, at, end: found.append(decoder.decode(head, body, at, end)), 1 << 20
    )
    assert reader.feed(data) == -1
    ((message, packet_id, _),) = found
    assert bool(packet_id) == bool(message.qos)
    return message


@pytest.mark.parametrize("version", [4, 5])
@given(message=MESSAGES)
def test_what_paho_writes_is_read(version: int, message: Message) -> None:
    client = _Paho(version)
    properties = None
    if version == 5:
        properties = as_paho(message.properties)
    else:
        message = message._replace(properties=NO_PROPERTIES)
    client.publish(message.topic, message.payload, message.qos, message.retain, properties)
    assert read(client.pipe.written, version) == message


@pytest.mark.parametrize("version", [4, 5])
@given(message=MESSAGES)
def test_paho_reads_what_is_written(version: int, message: Message) -> None:
    client = _Paho(version)
    client.feed(packets.encode_publish(message, 7, version))
    if message.qos == 2:
        # paho gives it out when it has been released.
        client.feed(packets.encode_acknowledgement(packets.PUBREL, 7, version))
    (got,) = client.got
    assert (got.topic, got.payload, got.qos, got.retain) == message[:4]
    if version == 5:
        assert vars(got.properties).keys() >= vars(as_paho(message.properties)).keys()
        assert got.properties.json() == as_paho(message.properties).json()


def as_paho(properties: Properties) -> Any:
    make: Any = PahoProperties
    found = make(PacketTypes.PUBLISH)
    values = {
        "PayloadFormatIndicator": None if properties.text is None else int(properties.text),
        "MessageExpiryInterval": properties.expiry_s,
        "ContentType": properties.content_type,
        "ResponseTopic": properties.response_topic,
        "CorrelationData": properties.correlation,
        "UserProperty": list(properties.user) or None,
    }
    for name, value in values.items():
        if value is not None:
            setattr(found, name, value)
    return found
