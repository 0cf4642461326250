"""A WebSocket client (RFC 6455) and the socket below it. Knows nothing of RSocket.

One writer at a time holds the lock. On MicroPython a drain that is cancelled half-way repeats bytes when it is
resumed, so whatever interrupts a write that has begun ends the connection: `fail` is called with the reason.
"""

import asyncio
from binascii import b2a_base64
from errno import EINPROGRESS
from hashlib import sha1
from os import urandom

from . import ConnectionLost, RSocketError, const, ticks_ms

_POSTS = const(16)  # replies that may wait for a peer that does not read
_CHUNK = const(128)  # masking by big integers of this size beats a loop over bytes


class WebSocket:
    done = False
    task = None  # the task inside a write, which began at tx_at
    stream = None
    waiting = 0

    def __init__(self, max_rx, fail):
        self.lock = asyncio.Lock()
        self.rx_at = ticks_ms()
        self.max_rx = max_rx
        self.fail = fail

    async def open(self, host, port, path, ctx, dns):
        """Connect and upgrade. `dns` keeps what was resolved while it works, because getaddrinfo blocks.

        RSocketError with the HTTP status when refused, ConnectionLost when there is no WebSocket.
        """
        key = b2a_base64(urandom(16))[:-1]
        head = (
            "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
            "13\r\nSec-WebSocket-Protocol: rsocket\r\nSec-WebSocket-Key: %s\r\n\r\n" % (path, host, port, key.decode())
        ).encode()
        if hasattr(asyncio, "core"):  # MicroPython
            import socket

            if not dns:
                dns += socket.getaddrinfo(host, port, 0, 1)  # SOCK_STREAM
            sock = socket.socket(*dns[0][:3])
            self.stream = asyncio.StreamWriter(sock)
            sock.setblocking(False)
            sock.setsockopt(6, 1, 1)  # TCP_NODELAY, for which `open_connection` leaves no way
            try:
                sock.connect(dns[0][-1])
            except OSError as e:
                if e.errno != EINPROGRESS:
                    raise
            if ctx:
                sock = ctx.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            r = w = asyncio.StreamWriter(sock)
            w.out_buf = head  # `drain` waits until the socket is connected, `write` does not
        else:
            from .cpython import connect

            r, w = await connect(host, port, ctx, head)
        self.read = r.readexactly
        self.stream = w
        await w.drain()
        status = (await r.readline())[9:12]
        headers = {}
        while True:
            name, colon, value = (await r.readline()).partition(b":")
            if not colon:
                break
            headers[name.lower()] = value.strip()
        if status != b"101":
            error = RSocketError(int(status or 0), "HTTP")
            error.retry_s = int(headers.get(b"retry-after", 0))
            raise error
        key = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        if headers.get(b"sec-websocket-accept", b"") != b2a_base64(key)[:-1]:
            raise ConnectionLost("not a WebSocket")

    async def run(self, handler):
        """Hand each binary message to `handler`, until the connection ends."""
        read = self.read
        message = None
        try:
            while not self.done:
                head, n = await read(2)
                self.rx_at = ticks_ms()
                op = head & 15
                if n > 127 or head & 0x70 or (n > 125 or head < 128 if op > 7 else op != (2 if message is None else 0)):
                    raise ConnectionLost("malformed")
                if n > 125:
                    n = int.from_bytes(await read(2 if n == 126 else 8), "big")
                if n + len(message or b"") > self.max_rx:
                    raise ConnectionLost("too long")
                data = await read(n)
                if op == 9:
                    self.post(self.send(data, 10))
                elif op == 8:
                    await self.send(data[:2], 8)
                    raise ConnectionLost(int.from_bytes(data[:2], "big"), data[2:])
                elif op < 8:
                    message = data if message is None else message + data
                    if head & 0x80:
                        handler(message)
                        message = None
        except Exception as e:
            self.fail(e)

    async def send(self, data, op=2):
        """Write one message of less than 64 KiB. ConnectionLost when the connection is gone."""
        n = len(data)
        key = urandom(4)
        head = bytes((0x80 | op, 0x80 | n) if n < 126 else (0x80 | op, 0xFE, n >> 8, n & 255)) + key
        i = len(head)
        out = bytearray(i + n)
        out[:i] = head
        for at in range(0, n, _CHUNK):
            part = data[at : at + _CHUNK]
            n = len(part)
            part = int.from_bytes(part, "big") ^ int.from_bytes((key * 32)[:n], "big")
            out[i : i + n] = part.to_bytes(n, "big")
            i += n
        await self.lock.acquire()
        try:
            if self.done:
                raise ConnectionLost
            self.tx_at = ticks_ms()
            self.task = asyncio.current_task()
            self.stream.write(out)
            await self.stream.drain()
        except BaseException as e:
            if not self.task:  # dead already, or woken up by abort()
                raise ConnectionLost
            self.task = None
            # A drain that is cancelled with nothing left to send did no harm.
            if not isinstance(e, asyncio.CancelledError) or getattr(self.stream, "out_buf", None):
                self.fail(e)
            raise
        finally:
            self.task = None
            self.lock.release()

    def post(self, coro):
        """Let a send run by itself: the reader must never wait for a write."""
        self.waiting += 1
        if self.waiting > _POSTS:
            self.fail("nobody reads")
        asyncio.create_task(self._post(coro))

    async def _post(self, coro):
        try:
            await coro
        except Exception:
            pass  # send has told `fail`
        self.waiting -= 1

    def abort(self):
        """Drop the socket at once and wake whoever is inside a write."""
        self.done = True
        w, self.stream = self.stream, None
        if w:
            # MicroPython polls by file descriptor: the writer must have left before it is closed.
            if getattr(w, "out_buf", None) and self.task and self.task is not asyncio.current_task():
                self.task.cancel()
                self.task = None
            w.s.close()
