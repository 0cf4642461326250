"""Payloads of Sparkplug B, as far as a bridge must read and change them (Sparkplug 3.0, 6.4; protobuf wire format).

Read are `seq` (field 3 of the payload) and, of metrics (field 2), `name` (1) and a whole number (10, 11). Written is
one metric, for a rebirth. `is_historical` (field 5 of a metric) is set in the bytes as they came, so what this program
does not know stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.errors import FrameError

_METRIC, _SEQ, _TIMESTAMP = 2, 3, 1
_NAME, _METRIC_TIMESTAMP, _DATATYPE, _HISTORICAL, _INT, _LONG, _BOOLEAN = 1, 3, 4, 5, 10, 11, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DATATYPE_INT64: Final = 4
_DATATYPE_BOOLEAN: Final = 11
_IS_HISTORICAL: Final = bytes((_HISTORICAL << 3 | _VARINT, 1))
#: A varint of 64 bits.
_MAX_VARINT: Final = 10


def seq_of(payload: bytes) -> int | None:
    """Raises FrameError for what is no payload."""
    seq = None
    for number, wire, at, end in _fields(payload, 0, len(payload)):
        if number == _SEQ and wire == _VARINT:
            seq = _varint(payload, at, end)[0]
    return seq


def number_of(payload: bytes, metric: str) -> int | None:
    """The whole number that is the value of a metric. Raises FrameError."""
    wanted = metric.encode()
    for number, wire, start, end in _fields(payload, 0, len(payload)):
        if number != _METRIC or wire != _BYTES:
            continue
        name, value = b"", None
        for inner, kind, at, stop in _fields(payload, start, end):
            if inner == _NAME and kind == _BYTES:
                name = payload[at:stop]
            elif inner in (_INT, _LONG) and kind == _VARINT:
                value = _varint(payload, at, stop)[0]
        if name == wanted:
            return value
    return None


def historical(payload: bytes) -> bytes:
    """The payload with every metric marked as history: it tells what was, and is no value of now. Raises FrameError."""
    parts = []
    done = 0
    for number, wire, start, end in _fields(payload, 0, len(payload)):
        if number == _METRIC and wire == _BYTES:
            metric = b"".join((*_without(payload, start, end, _HISTORICAL), _IS_HISTORICAL))
            parts += [_key(_METRIC, _BYTES), _encoded(len(metric)), metric]
        else:
            parts.append(payload[done:end])
        done = end
    return b"".join(parts)


def rebirth(timestamp_ms: int) -> bytes:
    """The command `Node Control/Rebirth`."""
    metric = b"".join(
        (
            _key(_NAME, _BYTES),
            _sized(b"Node Control/Rebirth"),
            _key(_METRIC_TIMESTAMP, _VARINT),
            _encoded(timestamp_ms),
            _key(_DATATYPE, _VARINT),
            _encoded(_DATATYPE_BOOLEAN),
            _key(_BOOLEAN, _VARINT),
            b"\x01",
        )
    )
    return b"".join((_key(_TIMESTAMP, _VARINT), _encoded(timestamp_ms), _key(_METRIC, _BYTES), _sized(metric)))


def death(timestamp_ms: int, session: int) -> bytes:
    """The NDEATH of a session: its `bdSeq`, and no sequence number."""
    metric = b"".join(
        (
            _key(_NAME, _BYTES),
            _sized(b"bdSeq"),
            _key(_METRIC_TIMESTAMP, _VARINT),
            _encoded(timestamp_ms),
            _key(_DATATYPE, _VARINT),
            _encoded(_DATATYPE_INT64),
            _key(_LONG, _VARINT),
            _encoded(session),
        )
    )
    return b"".join((_key(_TIMESTAMP, _VARINT), _encoded(timestamp_ms), _key(_METRIC, _BYTES), _sized(metric)))


def _without(data: bytes, start: int, end: int, number: int) -> Iterator[bytes]:
    done = start
    for found, _, _, stop in _fields(data, start, end):
        if found != number:
            yield data[done:stop]
        done = stop


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the content begins and ends, of each field. Raises FrameError."""
    while at < end:
        key, at = _varint(data, at, end)
        wire = key & 7
        if wire == _VARINT:
            stop = _varint(data, at, end)[1]
        elif wire == _BYTES:
            size, at = _varint(data, at, end)
            stop = at + size
        elif wire in (_FIXED64, _FIXED32):
            stop = at + (8 if wire == _FIXED64 else 4)
        else:
            raise FrameError(f"sparkplug: wire type {wire}")
        if stop > end or not key >> 3:
            raise FrameError("sparkplug: a field is cut short, or has no number")
        yield key >> 3, wire, at, stop
        at = stop


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(end, at + _MAX_VARINT)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise FrameError("sparkplug: a number is cut short")


def _encoded(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _sized(content: bytes) -> bytes:
    return _encoded(len(content)) + content


def _key(number: int, wire: int) -> bytes:
    return _encoded(number << 3 | wire)
