"""The frames of the RSocket broker protocol that ride in metadata: ROUTE_SETUP … ADDRESS.

The bytes are those of rsocket-broker-client, not of the specification draft: ADDRESS has no metadata section and no
wrapped metadata. A frame has no length of its own and ends with the composite entry it is in. Header: u16 major 0, u16
minor 1, u16 type (6 bits) and flags (10 bits).

Must not know: the routing table, who may register what.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, TypeAlias

from gateway.errors import FrameError
from gateway.wire.header import Buffer

Tags: TypeAlias = tuple[tuple[str, str], ...]
"""Key and value in the order they were written. A key may occur twice."""


class BrokerFrameType(IntEnum):
    ROUTE_SETUP = 1
    ROUTE_JOIN = 2
    ROUTE_REMOVE = 3
    BROKER_INFO = 4
    ADDRESS = 5


class Cast(IntEnum):
    """To whom an address sends, by its flag bit: one route, all of them, or the one that owns a shard."""

    UNICAST = 0x80
    MULTICAST = 0x40
    SHARD = 0x20


_PREFIX: Final = "io.rsocket.broker."
_DRAFT_PREFIX: Final = "io.rsocket.routing."

SERVICE_NAME: Final = "io.rsocket.broker.ServiceName"
ROUTE_ID: Final = "io.rsocket.broker.RouteId"
INSTANCE_NAME: Final = "io.rsocket.broker.InstanceName"
CLUSTER_NAME: Final = "io.rsocket.broker.ClusterName"
PROVIDER: Final = "io.rsocket.broker.Provider"
REGION: Final = "io.rsocket.broker.Region"
ZONE: Final = "io.rsocket.broker.Zone"
DEVICE: Final = "io.rsocket.broker.Device"
OS: Final = "io.rsocket.broker.OS"
USER_NAME: Final = "io.rsocket.broker.UserName"
USER_ID: Final = "io.rsocket.broker.UserId"
MAJOR_VERSION: Final = "io.rsocket.broker.MajorVersion"
MINOR_VERSION: Final = "io.rsocket.broker.MinorVersion"
PATCH_VERSION: Final = "io.rsocket.broker.PatchVersion"
VERSION: Final = "io.rsocket.broker.Version"
ENVIRONMENT: Final = "io.rsocket.broker.Environment"
TEST_CELL: Final = "io.rsocket.broker.TestCell"
DNS: Final = "io.rsocket.broker.DNS"
IPV4: Final = "io.rsocket.broker.IPv4"
IPV6: Final = "io.rsocket.broker.IPv6"
COUNTRY: Final = "io.rsocket.broker.Country"
TIME_ZONE: Final = "io.rsocket.broker.TimeZone"
SHARD_KEY: Final = "io.rsocket.broker.ShardKey"
SHARD_METHOD: Final = "io.rsocket.broker.ShardMethod"
STICKY_ROUTE_KEY: Final = "io.rsocket.broker.StickyRouteKey"
LB_METHOD: Final = "io.rsocket.broker.LBMethod"
BROKER_EXTENSION: Final = "io.rsocket.broker.BrokerExtension"
WELL_KNOWN_EXTENSION: Final = "io.rsocket.broker.WellKnownExtension"
BROKER_PROXY_URI: Final = "io.rsocket.broker.BrokerProxyUri"
BROKER_CLUSTER_URI: Final = "io.rsocket.broker.BrokerClusterUri"

WELL_KNOWN_KEYS: Final[dict[int, str]] = {
    0x01: SERVICE_NAME,
    0x02: ROUTE_ID,
    0x03: INSTANCE_NAME,
    0x04: CLUSTER_NAME,
    0x05: PROVIDER,
    0x06: REGION,
    0x07: ZONE,
    0x08: DEVICE,
    0x09: OS,
    0x0A: USER_NAME,
    0x0B: USER_ID,
    0x0C: MAJOR_VERSION,
    0x0D: MINOR_VERSION,
    0x0E: PATCH_VERSION,
    0x0F: VERSION,
    0x10: ENVIRONMENT,
    0x11: TEST_CELL,
    0x12: DNS,
    0x13: IPV4,
    0x14: IPV6,
    0x15: COUNTRY,
    0x1A: TIME_ZONE,
    0x1B: SHARD_KEY,
    0x1C: SHARD_METHOD,
    0x1D: STICKY_ROUTE_KEY,
    0x1E: LB_METHOD,
    0x1F: BROKER_EXTENSION,
    0x20: WELL_KNOWN_EXTENSION,
    0x21: BROKER_PROXY_URI,
    0x22: BROKER_CLUSTER_URI,
}

_KEY_BY_ID: Final[tuple[str, ...]] = tuple(WELL_KNOWN_KEYS.get(id, f"id:0x{id:02x}") for id in range(128))
_ID_BY_KEY: Final[dict[str, int]] = {key: id for id, key in enumerate(_KEY_BY_ID)}

MAX_TAG_BYTES: Final = 127


@dataclass(frozen=True, slots=True)
class RouteSetup:
    """A connection serves ``service``. ``route_id`` is the 16 bytes of a UUID."""

    route_id: bytes
    service: str
    tags: Tags = ()
    frame_type: ClassVar[BrokerFrameType] = BrokerFrameType.ROUTE_SETUP


@dataclass(frozen=True, slots=True)
class RouteJoin:
    """Broker ``broker_id`` tells of a route of its own; ``timestamp_ms`` is Unix time."""

    broker_id: bytes
    route_id: bytes
    timestamp_ms: int
    service: str
    tags: Tags = ()
    frame_type: ClassVar[BrokerFrameType] = BrokerFrameType.ROUTE_JOIN


@dataclass(frozen=True, slots=True)
class RouteRemove:
    broker_id: bytes
    route_id: bytes
    timestamp_ms: int
    frame_type: ClassVar[BrokerFrameType] = BrokerFrameType.ROUTE_REMOVE


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    broker_id: bytes
    timestamp_ms: int
    tags: Tags = ()
    frame_type: ClassVar[BrokerFrameType] = BrokerFrameType.BROKER_INFO


@dataclass(frozen=True, slots=True)
class Address:
    """Send this request to the routes that have all of ``tags``. ``encrypted``: the payload is, end to end."""

    origin_route_id: bytes
    tags: Tags = ()
    cast: Cast = Cast.UNICAST
    encrypted: bool = False
    frame_type: ClassVar[BrokerFrameType] = BrokerFrameType.ADDRESS


BrokerFrame: TypeAlias = RouteSetup | RouteJoin | RouteRemove | BrokerInfo | Address

_HEADER = struct.Struct(">HHH")
_TIMESTAMP = struct.Struct(">Q")
_MAJOR = 0
_MINOR = 1
_ID_BYTES = 16
_ENCRYPTED = 0x100
_CASTS = Cast.UNICAST | Cast.MULTICAST | Cast.SHARD


def normalise_key(key: str) -> str:
    """The one spelling of a tag key: ``io.rsocket.routing.*`` of the draft is ``io.rsocket.broker.*``."""
    if key.startswith(_DRAFT_PREFIX):
        return _PREFIX + key[len(_DRAFT_PREFIX) :]
    return key


def encode(frame: BrokerFrame) -> bytes:
    """The bytes of ``frame``.

    Raises ValueError for an id that has not 16 bytes, a service above 255 bytes, a key that is empty or above 127, a
    value above 127, or a timestamp that is no u64.
    """
    return _ENCODERS[type(frame)](frame)


def decode(data: Buffer) -> BrokerFrame:
    """The frame that ``data`` is. Raises FrameError for anything malformed, and for a major version other than 0."""
    raw = bytes(data)
    if len(raw) < _HEADER.size:
        raise FrameError("broker frame is shorter than its header")
    major, minor, kind = _HEADER.unpack_from(raw)
    if major != _MAJOR:
        raise FrameError(
            f"broker frame of version {major}.{minor}; this node speaks {_MAJOR}.x: upgrade the older node first"
        )
    decoder = _DECODERS.get(kind >> 10)
    if decoder is None:
        raise FrameError(f"unknown broker frame type 0x{kind >> 10:02x}")
    return decoder(raw, kind & 0x3FF)


# Encoding.


def _header(kind: BrokerFrameType, flags: int = 0) -> bytes:
    return _HEADER.pack(_MAJOR, _MINOR, kind << 10 | flags)


def _id(value: bytes) -> bytes:
    if len(value) != _ID_BYTES:
        raise ValueError(f"id of {len(value)} bytes, not {_ID_BYTES}")
    return value


def _timestamp(value: int) -> bytes:
    if not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
        raise ValueError(f"timestamp {value} is no u64")
    return _TIMESTAMP.pack(value)


def _service(name: str) -> bytes:
    raw = name.encode()
    if len(raw) > 255:
        raise ValueError(f"service name of {len(raw)} bytes is above 255")
    return bytes((len(raw),)) + raw


def encode_tags(tags: Tags) -> bytes:
    """``tags`` as key byte, key, value byte, value; the value byte's top bit says that more follow.

    An empty value is written with its length 0, which rsocket-broker-client's own encoder fails to do. Raises
    ValueError as ``encode``.
    """
    parts = []
    last = len(tags) - 1
    for index, (key, value) in enumerate(tags):
        known = _ID_BY_KEY.get(normalise_key(key))
        if known is not None:
            parts.append(bytes((0x80 | known,)))
        else:
            name = key.encode()
            if not 0 < len(name) <= MAX_TAG_BYTES:
                raise ValueError(f"tag key of {len(name)} bytes is not within 1 to {MAX_TAG_BYTES}")
            parts.append(bytes((len(name),)) + name)
        raw = value.encode()
        if len(raw) > MAX_TAG_BYTES:
            raise ValueError(f"tag value of {len(raw)} bytes is above {MAX_TAG_BYTES}")
        parts.append(bytes((len(raw) | (0x80 if index < last else 0),)) + raw)
    return b"".join(parts)


def _encode_route_setup(frame: RouteSetup) -> bytes:
    header = _header(frame.frame_type)
    return b"".join((header, _id(frame.route_id), _service(frame.service), encode_tags(frame.tags)))


def _encode_route_join(frame: RouteJoin) -> bytes:
    return b"".join(
        (
            _header(frame.frame_type),
            _id(frame.broker_id),
            _id(frame.route_id),
            _timestamp(frame.timestamp_ms),
            _service(frame.service),
            encode_tags(frame.tags),
        )
    )


def _encode_route_remove(frame: RouteRemove) -> bytes:
    header = _header(frame.frame_type)
    return b"".join((header, _id(frame.broker_id), _id(frame.route_id), _timestamp(frame.timestamp_ms)))


def _encode_broker_info(frame: BrokerInfo) -> bytes:
    header = _header(frame.frame_type)
    return b"".join((header, _id(frame.broker_id), _timestamp(frame.timestamp_ms), encode_tags(frame.tags)))


def _encode_address(frame: Address) -> bytes:
    header = _header(frame.frame_type, frame.cast | (_ENCRYPTED if frame.encrypted else 0))
    return b"".join((header, _id(frame.origin_route_id), encode_tags(frame.tags)))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    RouteSetup: _encode_route_setup,
    RouteJoin: _encode_route_join,
    RouteRemove: _encode_route_remove,
    BrokerInfo: _encode_broker_info,
    Address: _encode_address,
}


# Decoding. A decoder gets the whole frame and its flags.


def _read_id(raw: bytes, at: int) -> tuple[bytes, int]:
    end = at + _ID_BYTES
    if end > len(raw):
        raise FrameError("broker frame: id is cut short")
    return raw[at:end], end


def _read_timestamp(raw: bytes, at: int) -> tuple[int, int]:
    end = at + _TIMESTAMP.size
    if end > len(raw):
        raise FrameError("broker frame: timestamp is cut short")
    return int.from_bytes(raw[at:end], "big"), end


def _read_service(raw: bytes, at: int) -> tuple[str, int]:
    if at >= len(raw):
        raise FrameError("broker frame: service name is missing")
    return _read_text(raw, at + 1, raw[at], "service name")


def _read_text(raw: bytes, at: int, length: int, what: str) -> tuple[str, int]:
    end = at + length
    if end > len(raw):
        raise FrameError(f"broker frame: {what} is cut short")
    try:
        return raw[at:end].decode(), end
    except UnicodeDecodeError:
        raise FrameError(f"broker frame: {what} is not UTF-8") from None


def decode_tags(raw: bytes, at: int = 0) -> Tags:
    """The tags from ``at`` to the end. Raises FrameError when one goes beyond it or bytes follow the last one.

    rsocket-broker-client's encoder writes a key without its value when the value is empty or too long. At the end of
    the list that is certain and reads as an empty value: dropping the tag would widen an address. It may also leave the
    "more follow" bit set on what became the last tag, which reads as the end. Within the list the next key is taken for
    the value, and most such bytes end in an error here.
    """
    size = len(raw)
    tags: list[tuple[str, str]] = []
    more = True
    while more and at < size:
        first = raw[at]
        at += 1
        if first & 0x80:
            key = _KEY_BY_ID[first & 0x7F]
        elif not first:
            raise FrameError("broker frame: tag key is empty")
        else:
            key, at = _read_text(raw, at, first, "tag key")
            key = normalise_key(key)
        if at == size:
            tags.append((key, ""))
            break
        more = raw[at] > 0x7F
        value, at = _read_text(raw, at + 1, raw[at] & 0x7F, "tag value")
        tags.append((key, value))
    if at < size:
        raise FrameError("broker frame: bytes after the last tag")
    return tuple(tags)


def _decode_route_setup(raw: bytes, flags: int) -> RouteSetup:
    route_id, at = _read_id(raw, _HEADER.size)
    service, at = _read_service(raw, at)
    return RouteSetup(route_id, service, decode_tags(raw, at))


def _decode_route_join(raw: bytes, flags: int) -> RouteJoin:
    broker_id, at = _read_id(raw, _HEADER.size)
    route_id, at = _read_id(raw, at)
    timestamp_ms, at = _read_timestamp(raw, at)
    service, at = _read_service(raw, at)
    return RouteJoin(broker_id, route_id, timestamp_ms, service, decode_tags(raw, at))


def _decode_route_remove(raw: bytes, flags: int) -> RouteRemove:
    broker_id, at = _read_id(raw, _HEADER.size)
    route_id, at = _read_id(raw, at)
    timestamp_ms, at = _read_timestamp(raw, at)
    if at < len(raw):
        raise FrameError("broker frame: bytes after ROUTE_REMOVE")
    return RouteRemove(broker_id, route_id, timestamp_ms)


def _decode_broker_info(raw: bytes, flags: int) -> BrokerInfo:
    broker_id, at = _read_id(raw, _HEADER.size)
    timestamp_ms, at = _read_timestamp(raw, at)
    return BrokerInfo(broker_id, timestamp_ms, decode_tags(raw, at))


def _decode_address(raw: bytes, flags: int) -> Address:
    cast = _CAST_BY_FLAGS.get(flags & _CASTS)
    if cast is None:
        raise FrameError("ADDRESS with not exactly one of unicast, multicast and shard")
    origin_route_id, at = _read_id(raw, _HEADER.size)
    return Address(origin_route_id, decode_tags(raw, at), cast, bool(flags & _ENCRYPTED))


_CAST_BY_FLAGS: Final[dict[int, Cast]] = {cast.value: cast for cast in Cast}

_DECODERS: dict[int, Callable[[bytes, int], BrokerFrame]] = {
    BrokerFrameType.ROUTE_SETUP: _decode_route_setup,
    BrokerFrameType.ROUTE_JOIN: _decode_route_join,
    BrokerFrameType.ROUTE_REMOVE: _decode_route_remove,
    BrokerFrameType.BROKER_INFO: _decode_broker_info,
    BrokerFrameType.ADDRESS: _decode_address,
}
