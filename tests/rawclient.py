"""A client that sends and receives single RSocket frames, for tests of what is on the wire.

Nothing happens unasked: no keepalive, no answer to one, no reading ahead. A test that stops calling ``recv`` is a
client that stopped reading. Frames are those of ``gateway.wire.frames``; malformed ones are sent as bytes. The
WebSocket side is written out here, so that the node's own framing is not tested against itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
import socket
import ssl as tls
import struct
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

from gateway.wire import brokering, frames, metadata, mimetypes

BINARY, TEXT, CLOSE, PING, PONG, CONTINUATION = 0x2, 0x1, 0x8, 0x9, 0xA, 0x0
READ_BYTES = 65536
# RFC 6455 1.3: what the server appends to the key before hashing it.
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ConnectionEnded(Exception):
    """The peer ended the connection while a frame was awaited. ``code`` is None where it sent no close code."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"connection ended: {code} {reason}")
        self.code = code
        self.reason = reason


class HandshakeRefused(Exception):
    def __init__(self, status: int, head: str, body: bytes) -> None:
        super().__init__(f"{status}: {head.splitlines()[0]}")
        self.status = status
        self.head = head
        self.body = body


def composite(
    route: str | None = None, *, entries: Iterable[tuple[str, bytes]] = (), token: str | None = None
) -> bytes:
    """Return composite metadata: the bearer token, the route, then ``entries``, of which each part may be absent."""
    listed: list[tuple[str, bytes]] = []
    if token is not None:
        listed.append((mimetypes.AUTHENTICATION, metadata.encode_bearer(token.encode())))
    if route is not None:
        listed.append((mimetypes.ROUTING, metadata.encode_routing([route])))
    return metadata.encode_composite([*listed, *entries])


def route_setup(service: str, *, route_id: bytes | None = None, **tags: str) -> tuple[str, bytes]:
    """Return the composite entry that registers ``service``; the route id is random unless given."""
    frame = brokering.RouteSetup(route_id or uuid.uuid4().bytes, service, tuple(tags.items()))
    return mimetypes.BROKER_FRAME, brokering.encode(frame)


_REQUESTS = frames.RequestResponse | frames.RequestFnf | frames.RequestStream | frames.RequestChannel


class RawClient:
    """One connection. ``skipped`` holds the frames that ``recv_close`` and ``barrier`` read over; ``pongs`` what was in
    the WebSocket pongs.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, websocket: bool) -> None:
        self.websocket = websocket
        self.handshake = ""
        self.skipped: list[frames.Frame] = []
        self.pongs: list[bytes] = []
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._message = bytearray()
        self._ended: ConnectionEnded | None = None
        self._stream_ids = itertools.count(1, 2)
        self._early: list[bytes] = []

    @classmethod
    async def connect_tcp(
        cls, port: int, *, host: str = "127.0.0.1", ssl: tls.SSLContext | None = None, receive_buffer: int | None = None
    ) -> Self:
        """Connect to the RSocket-over-TCP listener. ``receive_buffer`` bounds the kernel's buffer, in bytes."""
        return cls(*await _open(host, port, ssl, receive_buffer), websocket=False)

    @classmethod
    async def connect_ws(
        cls,
        port: int,
        path: str = "/rsocket",
        subprotocol: str | None = "rsocket",
        *,
        host: str = "127.0.0.1",
        ssl: tls.SSLContext | None = None,
        headers: Iterable[tuple[str, str]] = (),
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect and upgrade; raise HandshakeRefused unless the answer is a valid 101."""
        client = cls(*await _open(host, port, ssl, receive_buffer), websocket=True)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
            *(f"{name}: {value}" for name, value in headers),
        ]
        client.send_raw(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            await client._upgrade(key)
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def next_stream_id(self) -> int:
        return next(self._stream_ids)

    def send(self, *sent: frames.Frame | bytes) -> None:
        """Send frames, or the bytes of would-be frames, in one write, each framed as the transport asks."""
        self.send_raw(b"".join(self._framed(item if isinstance(item, bytes) else frames.encode(item)) for item in sent))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are: no frame, no mask, no length."""
        self._writer.write(data)

    def send_message(self, payload: bytes, *, opcode: int = BINARY, final: bool = True, masked: bool = True) -> None:
        """Send one WebSocket frame of any kind."""
        self.send_raw(_ws_frame(payload, opcode=opcode, final=final, masked=masked))

    async def drain(self, timeout: float = 20) -> None:
        """Wait until what was sent is mostly in the kernel's hands."""
        async with asyncio.timeout(timeout):
            await self._writer.drain()

    def setup(
        self,
        token: str | None = None,
        services: Iterable[str | tuple[str, bytes]] = (),
        *,
        entries: Iterable[tuple[str, bytes]] = (),
        **fields: Any,
    ) -> None:
        """Send SETUP: composite metadata of token, one ROUTE_SETUP a service, and ``entries``.

        A service is a name or a made entry (``route_setup``). ``fields`` override those of ``frames.Setup``.
        """
        self.send(self.setup_frame(token, services, entries=entries, **fields))

    @staticmethod
    def setup_frame(
        token: str | None = None,
        services: Iterable[str | tuple[str, bytes]] = (),
        *,
        entries: Iterable[tuple[str, bytes]] = (),
        **fields: Any,
    ) -> frames.Setup:
        """Return what ``setup`` sends."""
        registered = [route_setup(service) if isinstance(service, str) else service for service in services]
        frame = frames.Setup(
            keepalive_ms=20_000,
            lifetime_ms=90_000,
            metadata_mime=mimetypes.COMPOSITE,
            data_mime="application/json",
            metadata=composite(token=token, entries=[*registered, *entries]),
        )
        return replace(frame, **fields)

    def request(
        self, route: str, data: bytes = b"", *, stream_id: int | None = None, entries: Iterable[tuple[str, bytes]] = ()
    ) -> int:
        """Send REQUEST_RESPONSE and return its stream id."""
        number = stream_id or self.next_stream_id()
        self.send(frames.RequestResponse(number, composite(route, entries=entries), data))
        return number

    async def ready(self, timeout: float = 20) -> dict[str, Any]:
        """Ask `gateway.ready` and return its answer: from here on the node has accepted the SETUP.

        Requests that were waiting for this client may come first, on a busy machine a keepalive, too; they are what is
        received next.
        """
        number = self.request("gateway.ready")
        early: list[bytes] = []
        while isinstance(frames.decode(raw := await self.recv_bytes(timeout)), _REQUESTS | frames.KeepAlive):
            early.append(raw)
        self._early += early
        answer = frames.decode(raw)
        if not isinstance(answer, frames.Payload) or answer.stream_id != number:
            raise AssertionError(f"gateway.ready was answered by {answer}")
        return dict(json.loads(answer.data))

    async def recv(self, timeout: float = 20) -> frames.Frame:
        """Return the next frame; raise ConnectionEnded if the connection ends first."""
        return frames.decode(await self.recv_bytes(timeout))

    async def recv_bytes(self, timeout: float = 20) -> bytes:
        """Return the next frame's bytes, without what the transport put around it."""
        if self._early:
            return self._early.pop(0)
        async with asyncio.timeout(timeout):
            while (frame := self._cut()) is None:
                if self._ended is not None:
                    raise self._ended
                await self._read()
            return frame

    async def recv_close(self, timeout: float = 20) -> tuple[int | None, str]:
        """Read on to the end; return the WebSocket close code and reason, (None, "") where none was sent."""
        async with asyncio.timeout(timeout):
            while True:
                try:
                    self.skipped.append(await self.recv(timeout))
                except ConnectionEnded as ended:
                    return ended.code, ended.reason

    async def barrier(self, timeout: float = 20) -> list[frames.Frame]:
        """Return all frames that arrive up to the answer to a KEEPALIVE sent now: what the node sent before it."""
        mark = os.urandom(8)
        self.send(frames.KeepAlive(respond=True, data=mark))
        before: list[frames.Frame] = []
        async with asyncio.timeout(timeout):
            while True:
                frame = await self.recv(timeout)
                if isinstance(frame, frames.KeepAlive) and frame.data == mark:
                    self.skipped += before
                    return before
                before.append(frame)

    async def close(self) -> None:
        """Close without a word (no CLOSE frame), as a client that goes away."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (OSError, tls.SSLError):
            pass

    @property
    def local_port(self) -> int:
        """The port of this end, by which the peer knows it."""
        return int(self._writer.get_extra_info("sockname")[1])

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Close with a TCP reset."""
        found = self._writer.get_extra_info("socket")
        if found is None:  # the node has closed it, and the loop has heard of that
            return
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def _framed(self, frame: bytes) -> bytes:
        if self.websocket:
            return _ws_frame(frame, opcode=BINARY, final=True, masked=True)
        return len(frame).to_bytes(3, "big") + frame

    async def _upgrade(self, key: str) -> None:
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head.split(" ", 2)[1])
            accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET_GUID).digest()).decode()
            if status != 101 or f"\r\nsec-websocket-accept: {accept}\r\n".lower() not in head.lower():
                raise HandshakeRefused(status, head, await self._reader.read(READ_BYTES))
        self.handshake = head

    async def _read(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError:
            data = b""
        if data:
            self._buffer += data
        else:
            self._ended = ConnectionEnded(None, "")

    def _cut(self) -> bytes | None:
        return self._cut_message() if self.websocket else self._cut_prefixed()

    def _cut_prefixed(self) -> bytes | None:
        held = self._buffer
        end = 3 + int.from_bytes(held[:3], "big")
        if len(held) < 3 or len(held) < end:
            return None
        frame = bytes(held[3:end])
        del held[:end]
        return frame

    def _cut_message(self) -> bytes | None:
        while self._ended is None and (cut := self._cut_ws_frame()) is not None:
            opcode, final, payload = cut
            if opcode == PING:
                self.send_message(payload, opcode=PONG)
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else None
                self._ended = ConnectionEnded(code, payload[2:].decode())
            elif opcode == PONG:
                self.pongs.append(payload)
            else:
                self._message += payload
                if final:
                    message = bytes(self._message)
                    self._message.clear()
                    return message
        return None

    def _cut_ws_frame(self) -> tuple[int, bool, bytes] | None:
        held = self._buffer
        if len(held) < 2:
            return None
        if held[0] & 0x70 or held[1] & 0x80:
            raise AssertionError(f"a server's frame may not start with {held[:2].hex()}")
        length, at = held[1], 2
        if length > 125:
            at = 4 if length == 126 else 10
            if len(held) < at:
                return None
            length = int.from_bytes(held[2:at], "big")
        if len(held) < at + length:
            return None
        cut = held[0] & 0x0F, bool(held[0] & 0x80), bytes(held[at : at + length])
        del held[: at + length]
        return cut


async def _open(
    host: str, port: int, ssl: tls.SSLContext | None, receive_buffer: int | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        if receive_buffer is not None:
            # Only before connecting does it bound the window that the peer is told.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().sock_connect(opened, (host, port))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return await asyncio.open_connection(sock=opened, ssl=ssl, server_hostname=host if ssl else None)
    except BaseException:
        opened.close()
        raise


def _ws_frame(payload: bytes, *, opcode: int, final: bool, masked: bool) -> bytes:
    length = len(payload)
    head = bytearray([opcode | (0x80 if final else 0)])
    bit = 0x80 if masked else 0
    if length < 126:
        head.append(bit | length)
    elif length < 65536:
        head.append(bit | 126)
        head += length.to_bytes(2, "big")
    else:
        head.append(bit | 127)
        head += length.to_bytes(8, "big")
    if not masked:
        return bytes(head) + payload
    key = os.urandom(4)
    repeated = (key * (length // 4 + 1))[:length]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
    return bytes(head) + key + body
