"""The connection a device has: its reader, its streams, keepalive and deadlines. Knows no reconnecting."""

import asyncio

from . import Busy, ConnectionLost, RSocketError, const, ticks_add, ticks_diff, ticks_ms
from .frames import frame, number, route_of, routing
from .stream import Stream

_KEEPALIVE = const(3)
_RR = const(4)
_FNF = const(5)
_STREAM = const(6)
_CHANNEL = const(7)
_REQUEST_N = const(8)
_CANCEL = const(9)
_PAYLOAD = const(10)
_ERROR = const(11)
_META = const(1)  # in the byte that it shares with the frame type
_RESPOND = const(0x80)
_FOLLOWS = const(0x80)
_COMPLETE = const(0x40)
_NEXT = const(0x20)
_MAX_N = const(0x7FFFFFFF)
_WINDOW = const(8)  # what a channel's handler is sent ahead of its reading


class Connection:
    ws = None
    error = None  # why the last connection ended
    _reader = None  # a task; there is none before SETUP

    def request(self, kind, route, data, meta, n=0):
        """A Stream under the next id (P20), and the coroutine that sends it. ConnectionLost or Busy."""
        if not self._reader:
            raise ConnectionLost("not connected")
        if len(self.asking) >= self.max_inflight:
            raise Busy
        sid = self._next
        while sid in self.asking:
            sid = sid + 2 & _MAX_N
        self._next = sid + 2 & _MAX_N
        stream = Stream(self, self.asking, kind, sid)
        stream.due = n or 1
        stream.rx = True
        return stream, self.send(kind, sid, 0, data, routing(route) + meta, n)

    async def send(self, kind, sid, flags=0, data=b"", meta=None, n=0):
        ws = self.ws
        if len(data) + len(meta or b"") + 13 <= self.max_tx_frame:
            await ws.send(frame(kind, sid, flags, data, meta, n))
        else:
            from .fragment import fragments

            for f in fragments(self.max_tx_frame, kind, sid, flags, data, meta, n):
                await ws.send(f)

    def post(self, *args):
        """Send without waiting."""
        self.ws.post(self.send(*args))

    def refuse(self, stream, code, text):
        """End a request with ERROR; fire-and-forget without (P35)."""
        stream.close()
        if stream.kind != _FNF:
            self.post(_ERROR, stream.sid, 0, code.to_bytes(4, "big") + text[:200].encode())

    def lose(self, why):
        """End the connection now: wake who waits, cancel the handlers, drop the socket. Returns why it ended first."""
        ws = self.ws
        if ws and not ws.dead:
            if isinstance(why, (str, EOFError)):
                why = ConnectionLost(str(why) or "closed by the peer")
            self.error = why
            ws.abort()
            for stream in list(self.asking.values()) + list(self.serving.values()):
                stream.close(False, False, ConnectionLost(str(why)))
            for task in (self._reader, self._keeper):
                if task and task is not asyncio.current_task():
                    task.cancel()
            # A finished task still holds its locals, and through them the socket.
            self.ws = self._reader = self._keeper = None
            if self.up.is_set():
                self.stats["lost"] += 1
                self.up.clear()
                self.down.set()
                if self.on_state:
                    self.on_state("down", str(why))
        return self.error

    def arm(self, stream, ms):
        """Have the keeper end the stream's wait in `ms`."""
        stream.deadline = ticks_add(ticks_ms(), ms)
        if ticks_diff(stream.deadline, self._wake_at) < 0:
            self._keeper.cancel()
            self._keeper = asyncio.create_task(self._keep(self.ws))

    async def _keep(self, ws):
        while self.ws is ws:
            now = ticks_ms()
            if ticks_diff(now, ws.rx_at) >= self.lifetime_ms:
                self.lose("the gateway is silent")
            elif ws.writing and ticks_diff(now, ws.tx_at) >= self.timeout_ms:
                self.lose("a write takes too long")
            else:
                wait = ticks_diff(self._ping_at, now)
                if wait <= 0:
                    wait = self.keepalive_ms
                    self._ping_at = ticks_add(now, wait)
                    self.post(_KEEPALIVE, 0, _RESPOND, bytes(8))
                for stream in list(self.asking.values()):
                    if stream.deadline is not None:
                        left = ticks_diff(stream.deadline, now)
                        if left > 0:
                            wait = min(wait, left)
                        else:
                            self.stats["timeouts"] += 1
                            stream.drop(asyncio.TimeoutError())
                self._wake_at = ticks_add(now, wait)
                await asyncio.sleep(wait / 1000)

    async def _read(self, ws):
        try:
            while self.ws is ws:
                self._frame(await ws.recv())
        except Exception as e:
            self.lose(e)

    def _frame(self, m):
        kind = m[4] >> 2
        sid = number(m, 0) & _MAX_N
        home = self.asking if sid & 1 else self.serving
        stream = home.get(sid)
        if kind == _PAYLOAD and stream:
            self._payload(stream, m, 6)
        elif kind == _KEEPALIVE:
            if m[5] & _RESPOND:
                self.post(_KEEPALIVE, 0, 0, bytes(8) + m[14:])
        elif kind == _ERROR:
            text = m[10:]
            try:
                text = text.decode()
            except UnicodeError:
                text = repr(text)
            err = RSocketError(number(m, 6), text)
            if stream:
                stream.close(False, False, err)
            elif not sid and err.code != 0x102:  # CONNECTION_CLOSE: the gateway waits for the streams, then closes
                self.lose(err)
        elif _RR <= kind <= _CHANNEL and sid and not stream:
            stream = Stream(self, home, kind, sid)
            if len(home) > self.max_serving:
                self.refuse(stream, 0x202, "busy")
            elif kind < _STREAM:
                self._payload(stream, m, 6)
            else:
                stream.credit = number(m, 6)
                self._payload(stream, m, 10)
        elif not stream:
            return
        elif kind == _CANCEL:
            # From a responder it ends what we send, from a requester everything.
            stream.close(stream.rx and not stream.task, False, asyncio.CancelledError())
        elif kind == _REQUEST_N:
            stream.credit = min(stream.credit + number(m, 6), _MAX_N)
            stream.changed.set()

    def _payload(self, stream, m, at):
        flags = m[5]
        kind = stream.kind
        meta = None
        if m[4] & _META:
            end = at + 3 + number(m, at, 3)
            if end > len(m):
                raise ConnectionLost("malformed frame")
            meta = m[at + 3 : end]
            at = end
        data = m[at:]
        if stream.parts or flags & _FOLLOWS:
            from .fragment import collect

            whole = collect(self, stream, m, meta, data)
            if not whole:
                return
            meta, data = whole
            flags |= _NEXT
        if stream.rx or stream.task:
            if stream.rx and flags & _NEXT:
                stream.due -= 1
                if stream.due < 0:
                    stream.drop(RSocketError(0x204, "no credit"))
                    return
                stream.queue = stream.queue + [(data, meta)]
            stream.changed.set()
            if flags & _COMPLETE or kind == _RR:  # P34: the answer completes, flag or not
                stream.close(False, stream.tx)
            return
        try:
            route = route_of(meta)
        except (ValueError, IndexError):
            route = None
        handler = self._handlers.get((kind >> 1, route))
        for name in self.services:
            size = len(name)
            if route and not handler and route[:size] == name and route[size : size + 1] in "./":
                handler = self._handlers.get((kind >> 1, route[size + 1 :]))
        if not handler:
            self.refuse(stream, 0x202, "no handler for %s" % route)
            return
        stream.tx = True
        if kind == _CHANNEL and not flags & _COMPLETE:
            stream.rx = True
            stream.n = stream.due = _WINDOW
            self.post(_REQUEST_N, stream.sid, 0, b"", None, _WINDOW)
        stream.task = asyncio.create_task(stream.run(handler, data, meta))
