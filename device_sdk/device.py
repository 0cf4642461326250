"""`Device`: what firmware talks to. Keeps one connection to the gateway, and gets it back when it is lost."""

import asyncio
import gc
import json

from . import RSocketError, const, ticks_add, ticks_ms

# What stays must not end up among what was only needed to load it: a small heap would be in pieces from the start.
gc.collect()
from .connection import Connection  # noqa: E402
from .stream import setup  # noqa: E402

gc.collect()
from .ws import WebSocket  # noqa: E402

gc.collect()

_RR = const(4)
_FNF = const(5)
_STREAM = const(6)
_CHANNEL = const(7)


class Device(Connection):
    """A device on the gateway at `url` (ws:// or wss://), known there as `device_id`, let in by `token`.

    Further settings by keyword, each an attribute below.
    """

    tls = None  # dict(ca=PEM or DER[, cert=, key=]), or a ready SSLContext
    insecure = False  # wss:// without verification
    services = None  # names it serves under; the device id alone unless told
    keepalive_ms = 20000
    lifetime_ms = 90000  # silence of the gateway that ends the connection
    timeout_ms = 10000  # for an answer, and for a write
    max_rx = 8192  # longest message that is taken
    max_tx_frame = 1400  # longest frame that is sent; longer payloads are fragmented
    max_payload = 16384  # longest payload put together from fragments, which count 22 bytes each
    max_inflight = 8  # requests open at once; Busy above
    max_serving = 4  # handlers running at once; REJECTED above
    backoff_ms = (1000, 60000)  # first and longest pause between attempts, before jitter
    net = None  # its coroutine `ensure_up()` brings the network up before each attempt
    clock = None  # called with the gateway's time, Unix ms, each time the connection is up
    on_state = None  # called with "up" or "down", and the reason
    resume = 0  # bytes kept to go on where a lost connection was; 0: each connection is a new one
    lease = False  # ask only what the gateway has lent
    ready = None  # the gateway's answer: node, session, services, ...
    supervise = None  # the task that does

    def __init__(self, url, device_id, token=b"", **settings):
        for name in settings:
            getattr(self, name)  # AttributeError: no such setting
            setattr(self, name, settings[name])
        if url[:5] != "ws://" and not (url[:6] == "wss://" and (self.tls or self.insecure)):
            raise ValueError("wss needs tls")
        self.url, self.device_id = url, device_id
        self.token = token
        self.services = self.services or (device_id,)
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.wait_up = self.up.wait  # a coroutine function
        self.down.set()
        self.stats = {"connects": 0, "lost": 0, "timeouts": 0, "errors": 0}
        self._on, self._dns = {}, []
        self.asking = self.serving = {}
        if self.resume:
            from .resume import attach

            attach(self)
        if self.lease:
            from .lease import attach

            attach(self)

    async def connect(self, timeout_ms=15000):
        """One attempt, until `gateway.ready` has answered. OSError, asyncio.TimeoutError; RSocketError: it said no."""
        await asyncio.wait_for(self._connect(), timeout_ms / 1000)

    async def _connect(self):
        self.lose("")
        self.error = None
        # Old buffers and TLS contexts must be gone before new ones are made: a board has no room for both.
        gc.collect()
        scheme, _, host, path = (self.url + "/").split("/", 3)
        host, _, port = host.partition(":")
        ctx = None
        if scheme == "wss:":
            from .tls import context

            ctx = context(self)
        ws = self.ws = WebSocket(self.max_rx, self.lose)
        try:
            await ws.open(host, int(port or (443 if ctx else 80)), "/" + path[:-1], ctx, self._dns)
            await ws.send(self.setup())
            self._ping = self._wake = ticks_add(ticks_ms(), self.keepalive_ms)
            self._keeper = asyncio.create_task(self._keep(ws))
            self.runner = asyncio.create_task(ws.run(self._frame))
            await self.wait()
        except BaseException as e:
            if self._dns:
                self._dns.pop(0)
            error = self.lose(e)
            raise error if isinstance(error, RSocketError) else e
        self.stats["connects"] += 1
        self.down.clear()
        self.up.set()
        if self.on_state:
            self.on_state("up", "")

    def setup(self):
        self.asking = {}  # requests of the device, by stream id
        self.serving = {}  # requests to it
        self._next = 1
        return setup(self)

    async def wait(self):
        self.ready = json.loads((await self.request_response("gateway.ready"))[0])
        if self.clock:
            self.clock(self.ready.get("time"))

    def start(self):
        """Keep the device connected from now on. Never raises; the network may come later."""
        if not self.supervise:
            from .supervise import supervise

            self.supervise = asyncio.create_task(supervise(self))

    async def close(self):
        """Say goodbye and stay down."""
        if self.supervise:
            self.supervise.cancel()
            self.supervise = None
        if self.ws:
            self.ws.post(self.ws.send(b"\x03\xe8", 8))
            try:
                await asyncio.wait_for(self.down.wait(), 1)
            except Exception:
                pass
            self.lose("closed")

    async def request_response(self, route, data=b"", meta=b"", timeout_ms=None):
        """The answer as (data, metadata or None). A `route` that is a tuple holds `key=value` tags, too; `meta` is
        further composite entries. RSocketError, ConnectionLost, Busy, or asyncio.TimeoutError: that cancels it."""
        stream, coro = self.request(_RR, route, data, meta)
        self.arm(stream, timeout_ms or self.timeout_ms)
        try:
            await coro
            coro = None  # its locals hold the request
            while stream.rx:
                stream.event.clear()
                await stream.event.wait()
            if stream.err:
                raise stream.err
            return stream.queue[0] if stream.queue else (b"", None)
        finally:
            stream.drop()

    async def fire_and_forget(self, route, data=b"", meta=b""):
        """Returns when it is written. ConnectionLost when down."""
        stream, coro = self.request(_FNF, route, data, meta)
        try:
            await coro
        finally:
            stream.close()

    def request_stream(self, route, data=b"", meta=b"", n=8, timeout_ms=0, kind=_STREAM):
        """A Stream to iterate over. `timeout_ms` bounds the wait for each payload."""
        stream, coro = self.request(kind, route, data, meta, n)
        stream.n = n
        stream.timeout_ms = timeout_ms
        stream.tx = kind == _CHANNEL
        self.ws.post(coro)
        return stream

    def request_channel(self, route, data=b"", meta=b"", n=8, timeout_ms=0):
        """A Stream to iterate over and to send on; `data` is the first payload sent."""
        return self.request_stream(route, data, meta, n, timeout_ms, _CHANNEL)

    def on(self, route, kind=2):
        """Decorator: `async def handler(data, meta)` answers requests with bytes, or with (bytes, metadata), and takes
        what is fired and forgotten at the same route.

        `route` is looked for as it comes, then without the service's name in front: "led.set" serves "dev-1.led.set",
        and "" a request for "dev-1" alone.
        """

        def register(handler):
            self._on[kind, route] = handler
            return handler

        return register

    on_fnf = on

    def on_stream(self, route):
        """Decorator: `async def handler(data, meta, out)`; `await out.send(b"...")` waits for credit. It takes
        channels, too: iterate over `out` for what the requester sends after `data`."""
        return self.on(route, 3)

    on_channel = on_stream
