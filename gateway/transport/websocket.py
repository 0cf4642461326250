"""RSocket over WebSocket: devices, phones, browsers, services. `websockets` does the HTTP handshake, sans I/O; then the
connection takes the stream over (`wire.websocket`).

The same port answers `GET /healthz`. What is not a WebSocket handshake for our path gets its HTTP status and is closed
(fault 5); compression is never negotiated (fault 11); an Origin must be this very endpoint or on the list (fault 6).
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from gateway.errors import ConnectionFailed
from gateway.forwarding.closing import CloseReason, reason_for_violation
from gateway.forwarding.connection import Connection
from gateway.forwarding.outbox import WebSocketOutbox
from gateway.forwarding.plane import Plane
from gateway.transport.carrier import SocketCarrier
from gateway.wire.websocket import CloseCode, MessageReader, close_frame, pong_frame

SUBPROTOCOL = Subprotocol("rsocket")
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a handshake must ask for. `origins`: browser origins that are let in besides our own and none at all."""

    paths: frozenset[str] = frozenset({"/rsocket", "/"})
    origins: tuple[str, ...] = ()
    timeout_s: float = 10.0


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    raise NegotiationError(f"subprotocol must be {SUBPROTOCOL}")


def _names_this_endpoint(request: Request) -> bool:
    """Whether Origin is where the request goes: Netty, and with it rsocket-java, fills it in so from the URL.

    A page of another site cannot: the browser writes both headers, and they differ.
    """
    origin = request.headers.get_all("Origin")
    host = request.headers.get_all("Host")
    return len(origin) == len(host) == 1 and origin[0].lower() in (
        f"http://{host[0]}".lower(),
        f"https://{host[0]}".lower(),
    )


class WebSocketCarrier(SocketCarrier):
    """One socket: an HTTP handshake, then one RSocket frame a binary message."""

    __slots__ = ("handshake", "head", "opened_at", "reader")

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop, handshake: Handshake) -> None:
        super().__init__(plane, loop)
        self.handshake = handshake
        self.head = b""
        self.reader: MessageReader | None = None
        self.opened_at = plane.monotonic()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        reader = self.reader
        if reader is None:
            self._handshake(data)
            return
        self.connection.session.last_received = self.plane.monotonic()  # type: ignore[union-attr]
        reader.feed(data)

    # Handshake

    def _handshake(self, data: bytes) -> None:
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0 and len(self.head) <= _MAX_HEAD_BYTES:
            return
        head, rest = self.head[: end + 4] if end >= 0 else self.head, self.head[end + 4 :] if end >= 0 else b""
        self.head = b""
        origins = [None, *(Origin(origin) for origin in self.handshake.origins)]
        protocol = ServerProtocol(
            subprotocols=[SUBPROTOCOL],
            select_subprotocol=_select,
            # "*" lets every page in: for a node that only ever takes tokens from SETUP, never from a cookie.
            origins=None if "*" in self.handshake.origins else origins,
        )
        protocol.receive_data(head)
        if end < 0:
            protocol.receive_eof()
        events = protocol.events_received()
        request = events[0] if events else None
        if not isinstance(request, Request):
            self.plane.counters.close("bad_handshake")
            self.finish(_plain(http.HTTPStatus.BAD_REQUEST, "not an HTTP request"))
            return
        response = self._answer(protocol, request)
        protocol.send_response(response)
        self.write(b"".join(chunk for chunk in protocol.data_to_send() if chunk))
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            if response.status_code != http.HTTPStatus.OK:
                self.plane.counters.close("bad_handshake")
            self.finish(b"")
            return
        self._established()
        if rest:
            self.data_received(rest)

    def _answer(self, protocol: ServerProtocol, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if request.method == "GET" and path == "/healthz":
            return protocol.reject(http.HTTPStatus.OK, "ok\n")
        if request.method == "GET" and path not in self.handshake.paths:
            return protocol.reject(http.HTTPStatus.NOT_FOUND, f"nothing at {path[:100]}; connect to /rsocket\n")
        version = request.headers.get("Sec-WebSocket-Version", "13")
        if version != "13":
            response = protocol.reject(http.HTTPStatus.UPGRADE_REQUIRED, "WebSocket version 13 is needed\n")
            response.headers["Sec-WebSocket-Version"] = "13"
            return response
        if self.plane.draining:
            response = protocol.reject(http.HTTPStatus.SERVICE_UNAVAILABLE, "this node is draining\n")
            response.headers["Retry-After"] = str(self.plane.random.randint(5, 30))
            return response
        if _names_this_endpoint(request):
            protocol.origins = None
        return protocol.accept(request)

    def _established(self) -> None:
        plane = self.plane
        limits = plane.first_limits
        outbox = WebSocketOutbox(self, plane.flusher, plane.counters, limits.high_water_bytes, limits.hard_water_bytes)
        self.connection = Connection(plane, self, outbox, peer=f"websocket {self.peer_name()}")
        self.reader = MessageReader(
            self._first_message,
            self._ping,
            self._pong,
            self._peer_closed,
            self._violation,
            max_message=plane.snapshot.setup_rules.max_bytes,
        )

    # Messages

    def _first_message(self, data: bytes, start: int, end: int) -> None:
        connection = self.connection
        assert connection is not None
        assert self.reader is not None
        connection.frame_received(data, start, end)
        self.reader.max_message = connection.max_frame_bytes
        self.reader.deliver_to(connection.frame_received)

    def _ping(self, payload: bytes) -> None:
        self.write(pong_frame(payload))

    def _pong(self) -> None:
        """An unsolicited pong is a keepalive of a kind; that bytes came was noted already."""

    def _peer_closed(self, code: int, text: str) -> None:
        assert self.connection is not None
        self.connection.lost(CloseReason.PEER_CLOSED)
        self.finish(close_frame(code if code != 1005 else CloseCode.NORMAL))

    def _violation(self, code: CloseCode, text: str) -> None:
        assert self.connection is not None
        self.connection.close(reason_for_violation(code), text, ConnectionFailed(text))

    def close(self, code: int, text: str) -> None:
        if self.reader is not None:
            self.reader.stop()
        self.finish(close_frame(code, text))

    def overdue(self, now: float) -> bool:
        """Whether the handshake has taken too long."""
        return self.reader is None and not self.closing and now - self.opened_at > self.handshake.timeout_s


def _plain(status: http.HTTPStatus, text: str) -> bytes:
    body = text.encode() + b"\n"
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
