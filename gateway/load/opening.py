"""Opening a connection: TCP or TLS, the WebSocket handshake, SETUP, and the proof that it was accepted.

The proof is a KEEPALIVE that asks for an answer: a broker answers it only on a connection that it has let in, and every
kind of broker does. All three go out without waiting for each other where the handshake allows it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from gateway.errors import GatewayError
from gateway.load.endpoint import Endpoint, error_text
from gateway.load.templates import Framing
from gateway.wire import brokering, metadata, mimetypes
from gateway.wire.brokering import RouteSetup
from gateway.wire.frames import FrameType, KeepAlive, Setup, encode

KEEPALIVE_MS = 20_000
LIFETIME_MS = 90_000
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_BINARY = 0x82
_MAX_HEAD_BYTES = 16_384
_MAX_WHY = 200
_PROTOCOL = ("get_buffer", "buffer_updated", "eof_received", "connection_lost", "pause_writing", "resume_writing")


class Refused(GatewayError):
    """The broker did not let a connection in. `retry_after` is the pause, in seconds, that it asked for."""

    def __init__(self, text: str, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(text, reason=reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is. `context` is for wss and tls."""

    scheme: str
    host: str
    port: int
    path: str
    context: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, authority: str | None = None) -> Address:
        """Read a ws, wss, tcp or tls URL; `authority` is a PEM file of whom to trust."""
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "tls")
        port = parts.port or (443 if parts.scheme == "wss" else 80 if parts.scheme == "ws" else 7879)
        context = ssl.create_default_context(cafile=authority) if secure else None
        return cls(parts.scheme, parts.hostname or "", port, parts.path or "/", context)

    @property
    def prefixed(self) -> bool:
        return self.scheme in ("tcp", "tls")

    def framing(self, mask: bytes) -> Framing:
        return Framing(None if self.prefixed else mask)


def setup_frame(token: str | None, service: str | None, route_id: bytes = b"") -> bytes:
    """A SETUP with a bearer token and the registration of one service, each where there is one."""
    entries = []
    if token is not None:
        entries.append((mimetypes.AUTHENTICATION, metadata.encode_bearer(token.encode())))
    if service is not None:
        entries.append((mimetypes.BROKER_FRAME, brokering.encode(RouteSetup(route_id, service))))
    return encode(
        Setup(
            keepalive_ms=KEEPALIVE_MS,
            lifetime_ms=LIFETIME_MS,
            metadata_mime=mimetypes.COMPOSITE,
            data_mime="application/octet-stream",
            metadata=metadata.encode_composite(entries) if entries else None,
        )
    )


async def connect(address: Address, setup: bytes, endpoint: Endpoint, timeout: float) -> None:
    """Open a connection and hand it to `endpoint`.

    Raises Refused when the broker says no, closes or does not answer within `timeout` seconds, and when there is none.
    """
    loop = asyncio.get_running_loop()
    opening = _Opening(loop, address, setup, endpoint)
    try:
        async with asyncio.timeout(timeout):
            await loop.create_connection(
                lambda: opening,
                address.host,
                address.port,
                ssl=address.context,
                server_hostname=address.host if address.context else None,
            )
            await opening.accepted
    except TimeoutError:
        opening.abort()
        raise Refused(f"no answer within {timeout:g} s", "timeout") from None
    except OSError as error:
        opening.abort()
        where = f"{address.host}:{address.port}"
        raise Refused(f"cannot connect to {where}: {error.strerror or error}", "unreachable") from None
    except BaseException:
        opening.abort()
        raise


class _Opening(asyncio.Protocol):
    """Has the connection until the broker has accepted it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address, setup: bytes, endpoint: Endpoint) -> None:
        self.accepted: asyncio.Future[None] = loop.create_future()
        self._address = address
        self._setup = setup
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._upgraded = address.prefixed
        self._data = b""

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._upgraded:
            self._send_setup()
            return
        address = self._address
        self._transport.write(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: rsocket\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded and not self._read_head():
            return
        while not self.accepted.done():
            frame = self._next_frame()
            if frame is None:
                return
            kind = frame[4] >> 2
            if frame[:4] == bytes(4) and kind == FrameType.ERROR:
                self._refuse(error_text(frame, 0, len(frame)), "setup_refused")
            elif frame[:4] == bytes(4) and kind == FrameType.KEEPALIVE and not frame[5] & 0x80:
                self._hand_over()

    def connection_lost(self, exc: Exception | None) -> None:
        self._refuse(f"closed before it was accepted{f': {exc}' if exc else ''}", "closed")

    def _refuse(self, text: str, reason: str, retry_after: float = 0.0) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(Refused(text, reason, retry_after))
            self.abort()

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > _MAX_HEAD_BYTES:
                self._refuse("the answer is no HTTP", "handshake")
            return False
        head, self._data = self._data[:end].decode("latin-1"), self._data[end + 4 :]
        status, *lines = head.split("\r\n")
        if not status.startswith("HTTP/1.1 101"):
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            pause = headers.get("retry-after", "")
            code = status.split(" ")[1] if status.count(" ") else "none"
            why = self._data.decode("utf-8", "replace").strip()[:_MAX_WHY]
            text = f"{status}: {why}" if why else status
            self._refuse(text, f"http_{code}", float(pause) if pause.isdigit() else 0.0)
            return False
        self._upgraded = True
        self._send_setup()
        return True

    def _send_setup(self) -> None:
        assert self._transport is not None
        carry = self._endpoint.framing.carry
        self._transport.write(carry(self._setup) + carry(encode(KeepAlive(respond=True))))

    def _next_frame(self) -> bytes | None:
        """Cut the next frame off what has come; it is a small one."""
        data = self._data
        if self._address.prefixed:
            if len(data) < 3:
                return None
            start, length = 3, int.from_bytes(data[:3], "big")
        else:
            if len(data) < 4:
                return None
            if data[0] != _BINARY:
                self._refuse("closed before it was accepted", "closed")
                return None
            start, length = (4, int.from_bytes(data[2:4], "big")) if data[1] == 126 else (2, data[1])
        if len(data) < start + length:
            return None
        frame, self._data = data[start : start + length], data[start + length :]
        return frame if length >= 6 else bytes(6)

    def _hand_over(self) -> None:
        assert self._transport is not None
        self.accepted.set_result(None)
        self._transport.set_protocol(_Handed(self._endpoint))
        self._endpoint.attach(self._transport, self._data)


class _Handed(asyncio.BufferedProtocol):
    """What asyncio sees of an endpoint, which may be compiled and then inherits from nothing."""

    def __init__(self, endpoint: Endpoint) -> None:
        for name in _PROTOCOL:
            setattr(self, name, getattr(endpoint, name))
