"""Payloads that do not fit one frame, out and in. Loaded when the first one comes by."""

from . import RSocketError, const
from .stream import frame

_PAYLOAD = const(10)
_FOLLOWS = const(0x80)
_COMPLETE = const(0x40)
_NEXT = const(0x20)
_HEADERS = const(13)  # frame header, credit and metadata length
_COST = const(16)  # of a fragment on top of its bytes: a flood of empty ones ends, too (P42)


def fragments(limit, kind, sid, flags, data, meta, n):
    """Yield frames of at most `limit` bytes: metadata first, then data (P40)."""
    limit -= _HEADERS
    data = memoryview(data)
    while True:
        part = meta and meta[:limit]
        room = limit - len(part or b"")
        if len(meta or b"") <= limit and len(data) <= room:
            yield frame(kind, sid, flags, data, part, n)
            return
        yield frame(kind, sid, flags & ~_COMPLETE | _FOLLOWS, data[:room], part, n)
        data = data[room:]
        meta = meta and meta[limit:] or None
        kind, n, flags = _PAYLOAD, 0, flags | _NEXT


def collect(device, stream, b, meta, data):
    """Add the fragment `b`. The whole (metadata, data) with the last one. Data is None while there is more to come, and
    when it grew too long and the stream was ended (P42)."""
    # One growing bytearray: small parts all over the heap would leave no room to join them.
    parts = stream.parts = stream.parts or [0, None, bytearray()]
    parts[0] += len(b) + _COST
    if meta is not None:
        parts[1] = (parts[1] or b"") + meta
    flags = b[5]
    if parts[0] > device.max_payload:
        if stream.rx:
            stream.drop(RSocketError(0x204, "payload longer than max_payload"))
        else:
            device.refuse(stream, 0x202, "payload too long")
        return None, None
    parts[2].extend(data)
    if flags & _FOLLOWS and not flags & _COMPLETE:  # P34: F with C means C
        return None, None
    stream.parts = None
    return parts[1], bytes(parts[2])
