"""RSocket 1.0 frames and composite metadata, as far as a device needs them. No I/O."""

from hashlib import sha256
from struct import pack

from . import const

_SETUP = const(1)
_META = const(0x100)


def number(m, at, size=4):
    return int.from_bytes(m[at : at + size], "big")


def frame(kind, sid, flags=0, data=b"", meta=None, n=0):
    """Any frame with a stream id. `n`: the initial credit of a request, or the credit of REQUEST_N."""
    if meta is not None:
        data = len(meta).to_bytes(3, "big") + meta + data
        flags |= _META
    if n:
        data = n.to_bytes(4, "big") + data
    return pack(">IH", sid, kind << 10 | flags) + data


def short(text):
    """A text of at most 255 bytes behind a byte with its length."""
    text = text.encode()
    return len(text).to_bytes(1, "big") + text


def entry(mime, content):
    """One composite entry. `mime`: 0x80 and a well-known id, or a length less one and a type's name."""
    return mime + len(content).to_bytes(3, "big") + content


def routing(route):
    """The routing entry. A tuple holds the route and further `key=value` tags."""
    return entry(b"\xfe", short(route) if isinstance(route, str) else b"".join(map(short, route)))


def route_of(meta):
    """The first routing tag in composite metadata, or "". ValueError or IndexError when it is malformed."""
    i = 0
    while meta and i < len(meta):
        start = i
        i += 1 if meta[i] > 127 else meta[i] + 2
        end = i + 3 + number(meta, i, 3)
        if meta[start:i] in (b"\xfe", b"\x1bmessage/x.rsocket.routing.v0"):
            return meta[i + 4 : i + 4 + meta[i + 3]].decode()
        i = end
    return ""


def setup(device):
    """SETUP with the bearer token and a ROUTE_SETUP a service.

    A route id is the same after a reboot, so that the gateway lets go of the dead connection before it, and nobody
    can guess it who does not hold the token.
    """
    token = device.token
    if isinstance(token, str):
        token = token.encode()
    meta = entry(b"\xfc", b"\x81" + token) if token else b""
    for service in device.services:
        service = short(service)
        ident = sha256(device.device_id.encode() + token + service).digest()[:16]
        meta += entry(b"\x20message/x.rsocket.broker.frame.v0", b"\0\0\0\1\4\0" + ident + service)
    head = pack(">HHII", 1, 0, device.keepalive_ms, device.lifetime_ms)
    head += short("message/x.rsocket.composite-metadata.v0") + short("application/octet-stream")
    return frame(_SETUP, 0, _META, head + len(meta).to_bytes(3, "big") + meta)
