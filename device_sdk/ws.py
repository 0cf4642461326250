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
    dead = False
    writing = None  # the task inside a write, which began at tx_at
    _w = None
    _posts = 0

    def __init__(self, max_rx, fail):
        self._lock = asyncio.Lock()
        self._max_rx = max_rx
        self.fail = fail

    async def open(self, host, port, path, ctx, addresses):
        """Connect and upgrade. `addresses` keeps what was resolved while it works, because getaddrinfo blocks.

        RSocketError with the HTTP status when refused, ConnectionLost when there is no WebSocket.
        """
        key = b2a_base64(urandom(16))[:-1]
        head = (
            "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
            "13\r\nSec-WebSocket-Protocol: rsocket\r\nSec-WebSocket-Key: %s\r\n\r\n" % (path, host, port, key.decode())
        ).encode()
        if hasattr(asyncio, "core"):  # MicroPython
            import socket

            if not addresses:
                addresses += socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
            sock = socket.socket(*addresses[0][:3])
            self._w = asyncio.StreamWriter(sock)
            sock.setblocking(False)
            sock.setsockopt(6, 1, 1)  # TCP_NODELAY, for which `open_connection` leaves no way
            try:
                sock.connect(addresses[0][-1])
            except OSError as e:
                if e.errno != EINPROGRESS:
                    raise
            if ctx:
                sock = ctx.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            r = w = asyncio.StreamWriter(sock)
            w.out_buf = head  # `drain` waits until the socket is connected, `write` does not
        else:
            r, w = await asyncio.open_connection(host, port, ssl=ctx, server_hostname=host if ctx else None)
            w.write(head)
        self._r = r
        self._w = w
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
        self.rx_at = ticks_ms()

    async def recv(self):
        """One binary message."""
        read = self._r.readexactly
        message = None
        while True:
            head, n = await read(2)
            self.rx_at = ticks_ms()
            op = head & 15
            if n > 127 or head & 0x70 or (n > 125 or head < 128 if op > 7 else op != (2 if message is None else 0)):
                raise ConnectionLost("malformed frame")
            if n > 125:
                n = int.from_bytes(await read(2 if n == 126 else 8), "big")
            if n + len(message or b"") > self._max_rx:
                raise ConnectionLost("message longer than max_rx")
            data = await read(n)
            if op == 9:
                self.post(self.send(data, 10))
            elif op == 8:
                await self.send(data[:2], 8)
                raise ConnectionLost(int.from_bytes(data[:2], "big"), data[2:])
            elif op < 8:
                message = data if message is None else message + data
                if head & 0x80:
                    return message

    async def send(self, data, op=2):
        """Write one message of less than 64 KiB. ConnectionLost when the connection is gone."""
        n = len(data)
        key = urandom(4)
        out = bytearray((0x80 | op, 0x80 | n) if n < 126 else (0x80 | op, 0xFE, n >> 8, n & 255))
        out += key
        for at in range(0, n, _CHUNK):
            part = data[at : at + _CHUNK]
            n = len(part)
            out += (int.from_bytes(part, "little") ^ int.from_bytes((key * 32)[:n], "little")).to_bytes(n, "little")
        await self._lock.acquire()
        try:
            if self.dead:
                raise ConnectionLost
            self.tx_at = ticks_ms()
            self.writing = asyncio.current_task()
            self._w.write(out)
            await self._w.drain()
        except BaseException as e:
            if not self.writing:  # dead already, or woken up by abort()
                raise ConnectionLost("not connected")
            self.writing = None
            # A drain that is cancelled with nothing left to send did no harm.
            if not isinstance(e, asyncio.CancelledError) or getattr(self._w, "out_buf", None):
                self.fail(e)
            raise
        finally:
            self.writing = None
            self._lock.release()

    def post(self, sending):
        """Let a send run by itself: the reader must never wait for a write."""
        self._posts += 1
        if self._posts > _POSTS:
            self.fail("nobody reads")
        asyncio.create_task(self._post(sending))

    async def _post(self, sending):
        try:
            await sending
        except Exception:
            pass  # send has told `fail`
        self._posts -= 1

    def abort(self):
        """Drop the socket at once and wake whoever is inside a write."""
        self.dead = True
        w, self._w = self._w, None
        if hasattr(w, "transport"):
            w.transport.abort()
        elif w:
            # MicroPython polls by file descriptor: the writer must have left before it is closed.
            if self.writing and self.writing is not asyncio.current_task():
                self.writing.cancel()
                self.writing = None
            w.s.close()
