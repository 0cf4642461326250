"""Sockets under rsocket-py: WebSocket (``ws://``, ``wss://``) and TCP (``tcp://``, ``tls://``).

rsocket-py's own transports have no bound on what waits to be sent, close without waiting or not at all, never tell that
the peer is gone, and drop ERROR frames whose code they do not know. Here:

- what waits to be sent is counted in bytes; who produces waits in ``writable()`` above the high-water mark;
- nothing is read ahead of what the receive loop takes (a WebSocket message at a time, 64 KiB of a TCP stream), so a
  slow reader slows the peer down;
- fragments are put together here, within a bound, and every frame is decoded by ``gateway.wire``;
- ``ended`` is set exactly once, with a reason a person can read, however the connection ends.

Must not know: routes, services, reconnecting.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from rsocket.exceptions import RSocketTransportError
from rsocket.frame import Frame
from rsocket.transports.transport import Transport
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from gateway.client.errors import Unreachable
from gateway.client.translation import Inbound, to_bytes
from gateway.errors import FrameError
from gateway.wire import frames
from gateway.wire.prefix import FrameReader, prefix
from gateway.wire.sink import FrameSink

READ_BYTES = 65_536
HIGH_WATER_BYTES = 262_144
LOW_WATER_BYTES = HIGH_WATER_BYTES // 2
FLUSH_SECONDS = 2.0
CLOSE_SECONDS = 1.0
DEFAULT_PORTS = {"tcp": 7879, "tls": 7879, "ws": 80, "wss": 443}


class Socket(Protocol):
    """One frame-preserving duplex link."""

    async def read(self) -> Sequence[bytes] | None:
        """Return at least one frame, or None when the peer has closed. Raises OSError, FrameError."""

    async def write(self, batch: Sequence[bytes]) -> None:
        """Send the frames in order, waiting while the kernel takes no more. Raises OSError."""

    async def close(self) -> None:
        """Close in the transport's polite way."""

    def abort(self) -> None:
        """Drop the connection at once."""

    def closing(self) -> str:
        """What the peer said when it closed, or an empty string."""


class WebSocket:
    """One RSocket frame is one binary message."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def read(self) -> Sequence[bytes] | None:
        try:
            message = await self._connection.recv(decode=False)
        except ConnectionClosed:
            return None
        return (message,)

    async def write(self, batch: Sequence[bytes]) -> None:
        connection = self._connection
        try:
            # One write for the batch; `send` would make a system call of each frame.
            async with connection.send_context():
                for frame in batch:
                    connection.protocol.send_binary(frame)
                connection.transport.write(b"".join(connection.protocol.data_to_send()))
        except ConnectionClosed as closed:
            raise ConnectionResetError(str(closed)) from closed

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._connection.transport.abort()

    def closing(self) -> str:
        return self._connection.close_reason or ""


class TcpSocket(FrameSink):
    """Each frame has a 24-bit length in front of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._cut: list[bytes] = []
        self._broken = ""
        self._frames = FrameReader(self, self._fail, max_frame=frames.MAX_FRAME_BYTES)

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        self._cut.append(data[start:end])

    def _fail(self, text: str) -> None:
        self._broken = text

    async def read(self) -> Sequence[bytes] | None:
        while not self._cut:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return None
            self._frames.feed(data)
            if self._broken:
                raise FrameError(self._broken)
        batch, self._cut = self._cut, []
        return batch

    async def write(self, batch: Sequence[bytes]) -> None:
        pieces: list[bytes] = []
        for frame in batch:
            pieces += (prefix(len(frame)), frame)
        self._writer.write(b"".join(pieces))
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()

    def closing(self) -> str:
        return ""


class BoundedTransport(Transport):
    """What rsocket-py drives, and the only owner of the socket."""

    def __init__(self, socket: Socket, *, fragment_bytes: int, max_payload_bytes: int) -> None:
        self._socket = socket
        self._fragment_bytes = fragment_bytes
        self._inbound = Inbound(max_payload_bytes)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._listeners: list[Callable[[str], None]] = []
        self._writer: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        self.reason = ""
        self.last_received = time.monotonic()

    # What rsocket-py calls

    async def connect(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="rsocket writer")

    async def send_frame(self, frame: Frame) -> None:
        self.send(frame)

    async def next_frame_generator(self) -> AsyncIterator[Frame] | None:
        """Return the frames of one read, or None once the connection has ended."""
        if self.ended.is_set():
            return None
        try:
            batch = await self._socket.read()
        except FrameError as broken:
            self._give_up(broken)
            return None
        except OSError as error:
            self.end(_said(error))
            return None
        if batch is None:
            self.end(self._socket.closing() or "closed by the node")
            return None
        self.last_received = time.monotonic()
        return self._decoded(batch)

    async def close(self) -> None:
        """Send what waits, close in the polite way, and leave no task behind; bounded in time."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flushed()
        except TimeoutError:
            pass
        self.end("closed")
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        except (TimeoutError, OSError):
            self._socket.abort()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    # What the connection calls

    def send(self, frame: Frame) -> None:
        """Queue a frame, cut to fragments where it is larger than the fragment size. Silent once ended."""
        if self.ended.is_set():
            return
        for data in to_bytes(frame, self._fragment_bytes):
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._drained.clear()
        self._wake.set()

    async def writable(self) -> None:
        """Wait until less than the low-water mark waits to be sent; returns at once when the connection has ended."""
        await self._drained.wait()

    def on_end(self, listener: Callable[[str], None]) -> None:
        """Call `listener(reason)` once, when the connection ends for whatever cause."""
        self._listeners.append(listener)

    def abort(self, reason: str) -> None:
        """End at once; nothing that waits is sent."""
        self.end(reason)
        self._socket.abort()

    def end(self, reason: str) -> None:
        """Mark the connection as over. The first reason stands."""
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        self._wake.set()
        self._drained.set()
        for listener in self._listeners:
            listener(reason)

    # Private

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = tuple(self._waiting)
                self._waiting.clear()
                try:
                    await self._socket.write(batch)
                except OSError as error:
                    self.end(_said(error))
                    # The receive loop sits in read(); it must see the end now.
                    self._socket.abort()
                    return
                self._waiting_bytes -= sum(map(len, batch))
                if self._waiting_bytes <= LOW_WATER_BYTES:
                    self._drained.set()
            if self.ended.is_set():
                return

    async def _flushed(self) -> None:
        while self._waiting_bytes and not self.ended.is_set():
            self._drained.clear()
            self._wake.set()
            await self._drained.wait()

    async def _decoded(self, batch: Sequence[bytes]) -> AsyncIterator[Frame]:
        for data in batch:
            try:
                frame, answer = self._inbound.accept(data)
            except FrameError as broken:
                self._give_up(broken)
                raise RSocketTransportError(self.reason) from broken
            if answer is not None:
                self.send(answer)
            if frame is not None:
                yield frame

    def _give_up(self, broken: FrameError) -> None:
        self.send(self._inbound.connection_error(broken.text))
        self.end(f"the node sent a malformed frame: {broken.text}")


class _Dialer(websocket_connect):
    """Follows no redirect: the token in SETUP is for the host that the caller named."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def client_context(ca: str | Path | None) -> ssl.SSLContext:
    """Return a TLS 1.2+ context that verifies the certificate and the name, against `ca` or the system's roots."""
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def dial(url: str, *, tls: ssl.SSLContext | None, timeout: float) -> Socket:
    """Connect to `url` (ws, wss, tcp, tls). Raises Unreachable with a text a person can act on."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a gateway: use ws://, wss://, tcp:// or tls://host:port")
    try:
        async with asyncio.timeout(timeout):
            if parts.scheme in ("ws", "wss"):
                return WebSocket(await _dial_websocket(url, parts.hostname, tls if parts.scheme == "wss" else None))
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme], ssl=tls if parts.scheme == "tls" else None
            )
            return TcpSocket(reader, writer)
    except TimeoutError:
        raise Unreachable(f"cannot reach {url}: no answer within {timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"cannot trust {url}: {error.verify_message or error.reason}") from error
    except (OSError, InvalidHandshake, InvalidURI) as error:
        raise Unreachable(f"cannot reach {url}: {_said(error)}") from error


async def _dial_websocket(url: str, host: str, tls: ssl.SSLContext | None) -> ClientConnection:
    return await _Dialer(
        url,
        ssl=tls,
        subprotocols=[Subprotocol("rsocket")],
        compression=None,
        # A proxy set for the web must not swallow what stays on this machine.
        proxy=None if host in ("localhost", "127.0.0.1", "::1") else True,
        max_size=frames.MAX_FRAME_BYTES,
        ping_interval=None,
        open_timeout=None,
        close_timeout=CLOSE_SECONDS,
    )


def _said(error: BaseException) -> str:
    """Return what went wrong in the system's own words ("connection refused"), not in those of asyncio."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    # asyncio folds the failures of several addresses of one name into a text without an errno.
    number = re.search(r"\[Errno (\d+)\]", str(error)) if isinstance(error, OSError) else None
    if number is not None:
        return os.strerror(int(number[1])).lower()
    return str(error) or type(error).__name__
