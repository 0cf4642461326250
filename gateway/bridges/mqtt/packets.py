"""The MQTT packets that carry messages: PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP. Bytes <-> values; no I/O, no clock.

Every other packet is paho's. These are the gateway's own, because paho answers a QoS 2 PUBLISH before anybody has had
it, knows no reason codes, and takes five times as long over each (docs/adr/0011). MQTT 5.0 and 3.1.1, sections 2 and 3.

Must not know: what a message is for, which packet identifiers are in use.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from gateway.bridges.mqtt.message import NO_PROPERTIES, Message, Properties
from gateway.errors import BridgeError

PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7

#: Reason codes from which on a packet says no (MQTT 5.0, 2.4).
REFUSED: Final = 0x80
UNSPECIFIED: Final = 0x80
IMPLEMENTATION: Final = 0x83
NOT_AUTHORIZED: Final = 0x87
UNKNOWN_ID: Final = 0x92
QUOTA_EXCEEDED: Final = 0x97

VERSION_5: Final = 5

#: Properties that came before are kept decoded: so many, and none longer than that.
_KNOWN: Final = 1024
_KNOWN_BYTES: Final = 512

_u16 = Struct(">H")
_u32 = Struct(">I")
_ACK = Struct(">BBH")
_ACK_REASON = Struct(">BBHB")
# PUBREL's low bits are fixed (3.6.1).
_ACK_HEADS = {PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70}

#: Takes one packet: its first byte, and where its body is in a buffer.
Take = Callable[[int, bytes, int, int], None]


class Arriving(NamedTuple):
    """A PUBLISH as it came. `packet_id` is 0 under QoS 0; `subscriptions` are the identifiers of those that it fits."""

    message: Message
    packet_id: int
    subscriptions: tuple[int, ...]


class Acknowledged(NamedTuple):
    packet_id: int
    reason: int


class PacketReader:
    """Cuts a stream into packets; `feed` raises BridgeError for what is none, or is larger than `max_packet`."""

    def __init__(self, take: Take, max_packet: int) -> None:
        self._take = take
        self._max_packet = max_packet
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = 2
        #: The buffer that `feed` stopped in.
        self.rest = b""

    def feed(self, data: bytes, at: int = 0, most: int = 1 << 30) -> int:
        """Take what came, from `at` on; give out `most` packets. Returns where it stopped, or -1 when all is taken."""
        if self._parts:
            self._parts.append(data[at:] if at else data)
            self._held += len(self._parts[-1])
            if self._held < self._wanted:
                return -1
            data, at = b"".join(self._parts), 0
            self._parts = []
        end = len(data)
        take = self._take
        while end - at >= 2:
            if not most:
                self.rest = data
                return at
            length = data[at + 1]
            body = at + 2
            if length & 0x80:
                length, body = _length(data, at + 1, end)
                if body < 0:
                    break
            stop = body + length
            if stop - at > self._max_packet:
                raise BridgeError(f"a packet of {stop - at} bytes", reason="mqtt_packet_too_large")
            if stop > end:
                self._keep(data, at, stop - at)
                return -1
            most -= 1
            take(data[at], data, body, stop)
            at = stop
        if at < end:
            self._keep(data, at, end - at + 1)
        return -1

    def _keep(self, data: bytes, at: int, wanted: int) -> None:
        self._parts = [data[at:] if at else data]
        self._held = len(self._parts[0])
        self._wanted = wanted


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer and the offset behind it, which is -1 when it is cut short. Raises BridgeError."""
    value = shift = 0
    for position in range(at, min(at + 4, end)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position + 1
        shift += 7
    if end - at >= 4:
        raise BridgeError("a length of more than four bytes", reason="mqtt_malformed")
    return 0, -1


class PublishDecoder:
    """`version` 5 has properties, 4 has none."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._known: dict[bytes, tuple[Properties, tuple[int, ...]]] = {}

    def decode(self, head: int, data: bytes, at: int, end: int) -> Arriving:
        """Raises BridgeError for a packet that breaks the protocol."""
        try:
            size = data[at] << 8 | data[at + 1]
            at += 2 + size
            topic = str(data[at - size : at], "utf-8")
            qos = head >> 1 & 3
            packet_id = 0
            if qos:
                packet_id = data[at] << 8 | data[at + 1]
                at += 2
            properties, subscriptions = NO_PROPERTIES, _NO_IDS
            if self._version == VERSION_5:
                size, at = (data[at], at + 1) if data[at] < 0x80 else _length(data, at, end)
                if size:
                    properties, subscriptions = self._properties(data[at : at + size])
                    at += size
        except (IndexError, UnicodeDecodeError) as error:
            raise BridgeError(f"a PUBLISH that is none: {error}", reason="mqtt_malformed") from error
        if at > end or qos == 3 or not topic or (qos and not packet_id):
            raise BridgeError("a PUBLISH that is none", reason="mqtt_malformed")
        message = Message(topic, data[at:end], qos, bool(head & 1), bool(head & 8), properties)
        return Arriving(message, packet_id, subscriptions)

    def _properties(self, raw: bytes) -> tuple[Properties, tuple[int, ...]]:
        known = self._known.get(raw)
        if known is None:
            known = decode_properties(raw)
            if len(raw) <= _KNOWN_BYTES:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[raw] = known
        return known


_NO_IDS: tuple[int, ...] = ()


def decode_properties(raw: bytes) -> tuple[Properties, tuple[int, ...]]:
    """Those of a PUBLISH (3.3.2.3), and its subscription identifiers. Raises BridgeError."""
    found: dict[str, object] = {}
    user: list[tuple[str, str]] = []
    subscriptions: list[int] = []
    at, end = 0, len(raw)
    try:
        while at < end:
            kind = raw[at]
            at += 1
            if kind == 0x26:
                name, at = _text(raw, at)
                value, at = _text(raw, at)
                user.append((name, value))
            elif kind == 0x01:
                found["text"] = raw[at] == 1
                at += 1
            elif kind == 0x02:
                found["expiry_s"] = _u32.unpack_from(raw, at)[0]
                at += 4
            elif kind == 0x03:
                found["content_type"], at = _text(raw, at)
            elif kind == 0x08:
                found["response_topic"], at = _text(raw, at)
            elif kind == 0x09:
                size = _u16.unpack_from(raw, at)[0]
                found["correlation"] = raw[at + 2 : at + 2 + size]
                at += 2 + size
            elif kind == 0x0B:
                number, at = _length(raw, at, end)
                subscriptions.append(number)
            elif kind == 0x23:
                raise BridgeError("a topic alias, of which none was allowed", reason="mqtt_malformed")
            else:
                raise BridgeError(f"a PUBLISH with property {kind:#04x}", reason="mqtt_malformed")
        if at != end:
            raise BridgeError("properties that are cut short", reason="mqtt_malformed")
    except (IndexError, ValueError, struct.error) as error:
        raise BridgeError(f"properties that are none: {error}", reason="mqtt_malformed") from error
    return Properties(**found, user=tuple(user)), tuple(subscriptions)  # type: ignore[arg-type]


def _text(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + (raw[at] << 8 | raw[at + 1])
    return str(raw[at + 2 : end], "utf-8"), end


def encode_publish(message: Message, packet_id: int, version: int, *, duplicate: bool = False) -> bytes:
    """A whole packet. Raises ValueError for a topic, or properties, that no packet can hold."""
    topic = message.topic.encode()
    qos = message.qos
    head = 0x30 | duplicate << 3 | qos << 1 | message.retain
    if version == VERSION_5:
        properties = b"\0" if message.properties is NO_PROPERTIES else encode_properties(message.properties)
    else:
        properties = b""
    length = 2 + len(topic) + len(properties) + len(message.payload) + (2 if qos else 0)
    parts = [
        bytes((head,)),
        bytes((length,)) if length < 128 else varint(length),
        _sized(topic),
        _u16.pack(packet_id) if qos else b"",
        properties,
        message.payload,
    ]
    return b"".join(parts)


def encode_properties(properties: Properties) -> bytes:
    """With their length in front. Raises ValueError for what does not fit."""
    parts: list[bytes] = []
    if properties.text is not None:
        parts.append(b"\x01\x01" if properties.text else b"\x01\x00")
    if properties.expiry_s is not None:
        parts.append(b"\x02" + _u32.pack(min(max(0, properties.expiry_s), 0xFFFFFFFF)))
    if properties.content_type is not None:
        parts.append(b"\x03" + _sized(properties.content_type.encode()))
    if properties.response_topic is not None:
        parts.append(b"\x08" + _sized(properties.response_topic.encode()))
    if properties.correlation is not None:
        parts.append(b"\x09" + _sized(properties.correlation))
    for name, value in properties.user:
        parts.append(b"\x26" + _sized(name.encode()) + _sized(value.encode()))
    raw = b"".join(parts)
    return varint(len(raw)) + raw


def _sized(raw: bytes) -> bytes:
    if len(raw) > 0xFFFF:
        raise ValueError(f"a text of {len(raw)} bytes; 65535 fit")
    return _u16.pack(len(raw)) + raw


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def decode_acknowledgement(data: bytes, at: int, end: int) -> Acknowledged:
    """PUBACK, PUBREC, PUBREL or PUBCOMP. Raises BridgeError."""
    if end - at < 2:
        raise BridgeError("an acknowledgement of nothing", reason="mqtt_malformed")
    return Acknowledged(data[at] << 8 | data[at + 1], data[at + 2] if end - at > 2 else 0)


def encode_acknowledgement(kind: int, packet_id: int, version: int, reason: int = 0) -> bytes:
    """Version 4 has no reason codes; a reason of 0 needs none (3.4.2.1)."""
    if reason and version == VERSION_5:
        return _ACK_REASON.pack(_ACK_HEADS[kind], 3, packet_id, reason)
    return _ACK.pack(_ACK_HEADS[kind], 2, packet_id)
