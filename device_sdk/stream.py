"""One exchange, of any interaction model, on either side of it."""

import asyncio

from . import RSocketError, const
from .frames import frame

_RR = const(4)
_FNF = const(5)
_STREAM = const(6)
_REQUEST_N = const(8)
_CANCEL = const(9)
_PAYLOAD = const(10)
_COMPLETE = const(0x40)
_NEXT = const(0x20)


class Stream:
    """`async for data, meta in stream` receives, `send` and `complete` send, `cancel` gives up.

    Receiving keeps the peer supplied with credit for `n` payloads, renewed at half; sending waits for the peer's
    credit. One task may receive while another sends.
    """

    task = None  # the handler, when the device is the responder
    err = None  # how it ended, when not well
    deadline = None
    timeout_ms = 0  # longest wait for the next payload; 0: for ever
    n = used = due = credit = 0  # window; read since it was renewed; what the peer may send, and what we may
    rx = tx = False  # which directions are open
    queue = []  # what was received and not read; replaced, never changed in place
    parts = None  # the fragments of an unfinished payload

    def __init__(self, device, home, kind, sid):
        self.device = device
        self.home = home
        self.kind = kind
        self.sid = sid
        self.changed = asyncio.Event()
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
            self.changed.clear()
            await self.changed.wait()
        self.deadline = None
        self.used += 1
        if self.rx and self.used * 2 >= self.n:
            n, self.used = self.used, 0
            self.due += n
            await self.device.ws.send(frame(_REQUEST_N, self.sid, 0, b"", None, n))
        item, self.queue = self.queue[0], self.queue[1:]
        return item

    async def send(self, data, meta=None):
        """Send a payload when there is credit. Raises what ended the stream."""
        while self.tx and self.credit < 1:
            self.changed.clear()
            await self.changed.wait()
        if not self.tx:
            raise self.err or RSocketError(0x203, "canceled")
        self.credit -= 1
        await self.device.send(_PAYLOAD, self.sid, _NEXT, data, meta)

    async def complete(self):
        """Nothing more comes from this side."""
        if self.tx:
            self.close(self.rx)
            self.device.post(_PAYLOAD, self.sid, _COMPLETE)

    async def cancel(self):
        """Give up; the peer is told."""
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
        self.changed.set()
        if not (rx or tx):
            self.home.pop(self.sid, None)
            task = self.task
            # One for fire-and-forget ends when it likes. One inside a write sees `err` at its next send: to cancel it
            # there would cost the connection.
            if task and self.kind != _FNF and task is not asyncio.current_task() and task is not self.device.ws.writing:
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
