"""The connection a device has: its reader, its streams, keepalive and deadlines. Knows no reconnecting."""

import asyncio

from . import Busy, ConnectionLost, RSocketError, const, ticks_add, ticks_diff, ticks_ms
from .stream import Stream, frame, number, route_of, routing

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
    ws = error = None  # the socket; why the last connection ended: an exception or a text
    runner = _keeper = None  # tasks; there are none before SETUP

    def request(self, kind, route, data, meta, n=0):
        """A Stream under the next id (P20), and the coroutine that sends it. ConnectionLost or Busy."""
        if not self.runner:
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

    def lose(self, err):
        """End the connection now: wake who waits, cancel the handlers, drop the socket. Returns why it ended first."""
        ws = self.ws
        if ws and not ws.done:
            self.error = err
            text = str(err) or "closed"
            ws.abort()
            for stream in list(self.asking.values()) + list(self.serving.values()):
                stream.close(False, False, ConnectionLost(text))
            for task in (self.runner, self._keeper):
                if task and task is not asyncio.current_task():
                    task.cancel()
            # A finished task still holds its locals, and through them the socket.
            self.ws = self.runner = self._keeper = None
            if not self.down.is_set():
                self.stats["lost"] += 1
                self.up.clear()
                self.down.set()
                if self.on_state:
                    self.on_state("down", text)
        return self.error

    def arm(self, stream, timeout_ms):
        """Have the keeper end the stream's wait in time."""
        stream.deadline = ticks_add(ticks_ms(), timeout_ms)
        if ticks_diff(stream.deadline, self._wake) < 0:
            self._keeper.cancel()
            self._keeper = asyncio.create_task(self._keep(self.ws))

    async def _keep(self, ws):
        while self.ws is ws:
            now = ticks_ms()
            stuck = ws.task and ticks_diff(now, ws.tx_at) >= self.timeout_ms
            if stuck or ticks_diff(now, ws.rx_at) >= self.lifetime_ms:
                self.lose("timeout")
            else:
                wait = ticks_diff(self._ping, now)
                if wait <= 0:
                    wait = self.keepalive_ms
                    self._ping = ticks_add(now, wait)
                    self.post(_KEEPALIVE, 0, _RESPOND, bytes(8))
                for stream in list(self.asking.values()):
                    if stream.deadline is not None:
                        left = ticks_diff(stream.deadline, now)
                        if left > 0:
                            wait = min(wait, left)
                        else:
                            self.stats["timeouts"] += 1
                            stream.drop(asyncio.TimeoutError())
                self._wake = ticks_add(now, wait)
                await asyncio.sleep(wait / 1000)

    def _frame(self, b):
        kind = b[4] >> 2
        flags = b[5]
        sid = number(b, 0) & _MAX_N
        home = self.asking if sid & 1 else self.serving
        stream = home.get(sid)
        if kind == _KEEPALIVE:
            if flags & _RESPOND:
                self.post(_KEEPALIVE, 0, 0, bytes(8) + b[14:])
        elif kind == _ERROR:
            try:
                text = b[10:].decode()
            except ValueError:
                text = "?"
            err = RSocketError(number(b, 6), text)
            if stream:
                stream.close(False, False, err)
            elif not sid and err.code != 0x102:
                self.lose(err)
            elif not sid:  # CONNECTION_CLOSE: the gateway waits for the streams, then closes
                self.up.clear()
        elif not stream:
            if _RR <= kind <= _CHANNEL:
                stream = Stream(self, home, kind, sid)
                if len(home) > self.max_serving:
                    self.refuse(stream, 0x202, "busy")
                elif kind < _STREAM:
                    self._payload(stream, flags, b, 6)
                else:
                    stream.credit = number(b, 6)
                    self._payload(stream, flags, b, 10)
        elif kind == _PAYLOAD:
            self._payload(stream, flags, b, 6)
        elif kind == _REQUEST_N:
            stream.credit = min(stream.credit + number(b, 6), _MAX_N)
            stream.event.set()
        elif kind == _CANCEL:
            stream.close(stream.rx and not stream.task)  # a responder's ends what we send, a requester's everything

    def _payload(self, stream, flags, b, at):
        meta = None
        if b[4] & _META:
            end = at + 3 + number(b, at, 3)
            _ = b[end - 1]  # P24: IndexError ends the connection
            meta = b[at + 3 : end]
            at = end
        data = b[at:]
        if stream.parts or flags & _FOLLOWS:
            from .fragment import collect

            meta, data = collect(self, stream, b, meta, data)
            if data is None:
                return
            flags |= _NEXT
        kind = stream.kind
        if stream.rx or stream.task:
            if stream.rx and flags & _NEXT:
                stream.due -= 1
                if stream.due < 0:
                    stream.drop(RSocketError(0x204))
                    return
                stream.queue += ((data, meta),)
                stream.event.set()
            if flags & _COMPLETE or kind == _RR:  # P34: the answer completes, flag or not
                stream.close(False, stream.tx)
            return
        try:
            route = route_of(meta)
        except (ValueError, IndexError):
            route = None
        handler = self._on.get((kind >> 1, route))
        for name in self.services:
            size = len(name)
            if not handler and route and route[:size] == name and route[size : size + 1] in "./":
                handler = self._on.get((kind >> 1, route[size + 1 :]))
        if not handler:
            self.refuse(stream, 0x202, "no handler")
            return
        stream.tx = True
        if kind == _CHANNEL and not flags & _COMPLETE:
            stream.rx = True
            stream.n = stream.due = _WINDOW
            self.post(_REQUEST_N, stream.sid, 0, b"", None, _WINDOW)
        stream.task = asyncio.create_task(stream.run(handler, data, meta))
