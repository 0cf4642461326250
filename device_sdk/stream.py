"""Frames, and the exchanges made of them: RSocket 1.0 as far as a device needs it. `to_bytes` minds the range."""

import asyncio
from hashlib import sha256

from . import RSocketError, const

_RR = const(4)
_FNF = const(5)
_STREAM = const(6)
_REQUEST_N = const(8)
_CANCEL = const(9)
_PAYLOAD = const(10)
_META = const(0x100)
_COMPLETE = const(0x40)
_NEXT = const(0x20)


def number(b, at, size=4):
    return int.from_bytes(b[at : at + size], "big")


def frame(kind, sid, flags=0, data=b"", meta=None, n=0):
    """Any frame with a stream id. `n`: the initial credit of a request, or the credit of REQUEST_N."""
    if meta is not None:
        flags |= _META
    head = sid.to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big")
    if n:
        head += n.to_bytes(4, "big")
    if meta is not None:
        head += len(meta).to_bytes(3, "big") + meta
    return head + data


def short(text):
    """A text of at most 255 bytes behind a byte with its length."""
    text = text.encode()
    return len(text).to_bytes(1, "big") + text


def entry(kind, data):
    """One composite entry. `kind`: 0x80 and a well-known id, or a length less one and a MIME type."""
    return kind + len(data).to_bytes(3, "big") + data


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
        _ = meta[end - 1]  # IndexError when it is cut short
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
    return (
        b"\0\0\0\0\5\0\0\1\0\0"  # stream 0, SETUP with metadata, version 1.0
        + device.keepalive_ms.to_bytes(4, "big")
        + device.lifetime_ms.to_bytes(4, "big")
        + b"\x27message/x.rsocket.composite-metadata.v0\x18application/octet-stream"
        + len(meta).to_bytes(3, "big")
        + meta
    )


class Stream:
    """One exchange, of any interaction model, on either side of it.

    `async for data, meta in stream` receives, `send` and `complete` send, `cancel` gives up.

    Receiving keeps the peer supplied with credit for `n` payloads, renewed at half; sending waits for the peer's
    credit. One task may receive while another sends.
    """

    task = None  # the handler, when the device is the responder
    err = None  # how it ended, when not well
    deadline = None
    timeout_ms = 0  # longest wait for the next payload; 0: for ever
    n = used = due = credit = 0  # window; read since it was renewed; what the peer may send, and what we may
    queue = ()  # what was received and not read
    rx = tx = False  # which directions are open
    parts = None  # the fragments of an unfinished payload

    def __init__(self, device, home, kind, sid):
        self.device = device
        self.home = home
        self.kind = kind
        self.sid = sid
        self.event = asyncio.Event()
        home[sid] = self

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.timeout_ms:
            self.device.arm(self, self.timeout_ms)
        while not self.queue:
            if self.err:
                raise self.err
            if not self.rx:
                raise StopAsyncIteration
            self.event.clear()
            await self.event.wait()
        self.deadline = None
        self.used += 1
        if self.rx and self.used * 2 >= self.n:
            n, self.used = self.used, 0
            self.due += n
            await self.device.send(_REQUEST_N, self.sid, 0, b"", None, n)
        item = self.queue[0]
        self.queue = self.queue[1:]
        return item

    async def send(self, data, meta=None):
        """Send a payload when there is credit. Raises what ended the stream."""
        while self.tx and self.credit < 1:
            self.event.clear()
            await self.event.wait()
        if not self.tx:
            raise self.err or RSocketError(0x203)
        self.credit -= 1
        await self.device.send(_PAYLOAD, self.sid, _NEXT, data, meta)

    async def complete(self):
        """Nothing more comes from this side."""
        if self.tx:
            self.close(self.rx)
            self.device.post(_PAYLOAD, self.sid, _COMPLETE)

    async def cancel(self):
        """Give up; the peer is told, and what it sent is dropped."""
        self.queue = ()
        self.drop()

    def drop(self, err=None):
        """Fail here and CANCEL there, unless it is over."""
        if self.rx or self.tx:
            self.close(False, False, err)
            self.device.post(_CANCEL, self.sid)

    def close(self, rx=False, tx=False, err=None):
        """Set which directions stay open; wake whoever waits, and end the handler with the stream."""
        self.rx = rx
        self.tx = tx
        self.err = err
        self.event.set()
        if not (rx or tx):
            self.home.pop(self.sid, None)
            task = self.task
            # One for fire-and-forget ends when it likes. One inside a write sees `err` at its next send: to cancel it
            # there would cost the connection.
            if task and self.kind != _FNF and task is not asyncio.current_task() and task is not self.device.ws.task:
                task.cancel()

    async def run(self, handler, data, meta):
        """Serve this request with `handler`."""
        device = self.device
        try:
            if self.kind >= _STREAM:
                await handler(data, meta, self)
                await self.complete()
                self.drop()
            else:
                answer = await handler(data, meta)
                if self.tx and self.kind == _RR:
                    data, meta = answer if isinstance(answer, tuple) else (answer, None)
                    await device.send(_PAYLOAD, self.sid, _NEXT | _COMPLETE, data or b"", meta)
        except Exception as e:
            if self.rx or self.tx:
                device.stats["errors"] += 1
                device.refuse(self, getattr(e, "code", 0x201), getattr(e, "text", repr(e)))
        finally:
            self.close()
