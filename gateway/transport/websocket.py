"""RSocket over WebSocket: devices, phones, browsers, services. `websockets` does the HTTP handshake, sans I/O; then the
connection takes the stream over (`wire.websocket`).

The same port answers `GET /healthz`, and gives browsers the pages that it was handed. What is not a WebSocket handshake
for our path gets its HTTP status and is closed (fault 5); compression is never negotiated (fault 11); an Origin must be
this very endpoint or on the list (fault 6).
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from gateway.errors import ConnectionFailed
from gateway.forwarding.closing import CloseReason, reason_for_violation
from gateway.forwarding.connection import Connection
from gateway.forwarding.outbox import Outbox
from gateway.forwarding.plane import Plane
from gateway.transport.admission import Refusal
from gateway.transport.carrier import FRAMES_AT_ONCE, House, SocketCarrier
from gateway.transport.pages import Page
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import CloseCode, MessageReader, close_frame, pong_frame

SUBPROTOCOL = Subprotocol("rsocket")
_MAX_HEAD_BYTES = 64 * 1024
_RETRY_AFTER_S = (5, 30)
#: Where `websockets` says that a handshake came; no line a connection, and no headers, reach the node's log.
_silent = logging.getLogger(f"{__name__}.handshake")
_silent.setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a handshake must ask for. `origins`: browser origins that are let in besides our own and none at all.

    `max_line_bytes` bounds the request line and each header, their line ends included; `max_fragments` the frames of
    one message behind the handshake. `authority`: the certificate that vouches for the node's own, as `GET /ca.pem`
    gives it to nodes that want to join. `websockets` takes no more than the defaults of both bounds of the head.
    """

    paths: frozenset[str] = frozenset({"/rsocket", "/"})
    origins: tuple[str, ...] = ()
    timeout_s: float = 10.0
    max_line_bytes: int = 8_192
    max_headers: int = 128
    max_fragments: int = 1_024
    authority: bytes = b""
    #: Files for browsers, by their path.
    pages: Mapping[str, Page] = field(default_factory=dict)


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


def _bearer(request: Request) -> bytes | None:
    """The token in the head of a handshake: SETUP has its own, a RESUME has none and is judged by it (fault 46)."""
    for value in request.headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip().encode()
    return None


class WebSocketCarrier(SocketCarrier):
    """One socket: an HTTP handshake, then one RSocket frame a binary message."""

    __slots__ = ("_pong_due", "handshake", "head", "reader", "refusal")

    #: Whether this side has dialled: what it sends is masked then, and what comes is not.
    dialled = False

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop, house: House, handshake: Handshake) -> None:
        super().__init__(plane, loop, house)
        self.handshake = handshake
        self.head = b""
        self.reader: MessageReader | None = None
        self.refusal: Refusal | None = None
        self._pong_due: bytes | None = None

    def refuse(self, refusal: Refusal) -> bool:
        self.refusal = refusal
        return True

    @property
    def handshake_timeout_s(self) -> float:  # type: ignore[override]
        return self.handshake.timeout_s

    # Handshake

    def greeted(self, data: bytes) -> None:
        self.head += data
        end = self.head.find(b"\r\n\r\n") + 4
        nonsense = not self.head[:1].isalpha()  # TLS, or RSocket over TCP, on the wrong port: it would never end
        if end < 4 and len(self.head) <= _MAX_HEAD_BYTES and not nonsense:
            return
        if nonsense or end < 4 or end > _MAX_HEAD_BYTES:
            too_large = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            status = http.HTTPStatus.BAD_REQUEST if nonsense else too_large
            self._refuse(_plain(status, "not an HTTP request" if nonsense else "the head of the request is too long"))
            return
        head, rest = self.head[:end], self.head[end:]
        self.head = b""
        if self._beyond_bounds(head):
            return
        if self.refusal is not None:
            # Whatever it asks for; that is not looked at, because those who come in floods have to be cheap.
            status = http.HTTPStatus(self.refusal.status)
            self.finish(_plain(status, self.refusal.text, self._retry_after()))
            return
        protocol = ServerProtocol(
            subprotocols=[SUBPROTOCOL],
            select_subprotocol=_select,
            origins=self._origins(),
            logger=_silent,
        )
        protocol.receive_data(head)
        request = next(iter(protocol.events_received()), None)
        if not isinstance(request, Request):
            # `websockets` has an answer to a head that is too long, and none to one that is no HTTP.
            refusal = b"".join(protocol.data_to_send())
            self._refuse(refusal or _plain(http.HTTPStatus.BAD_REQUEST, "not an HTTP request"))
            return
        page = self.handshake.pages.get(request.path.partition("?")[0]) if request.method == "GET" else None
        if page is not None:
            self._give(page, request)
            return
        response = self._answer(protocol, request)
        protocol.send_response(response)
        answer = b"".join(protocol.data_to_send())
        if response.status_code == http.HTTPStatus.OK:
            self.close_with(CloseCode.NORMAL, answer)
        elif response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(answer)
        else:
            self.write(answer)
            self._established(_bearer(request))
            if rest:
                self.read(rest)

    def _beyond_bounds(self, head: bytes) -> bool:
        """Whether the head has a line that is too long or too many of them; it is answered then (fault 4)."""
        request, *headers = head[:-4].split(b"\r\n")
        longest = self.handshake.max_line_bytes - 2
        too_large = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if len(request) > longest:
            answer = _plain(http.HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
            self._refuse(answer, "http_line_bytes")
        elif any(len(header) > longest for header in headers):
            self._refuse(_plain(too_large, "a header is too long"), "http_line_bytes")
        elif len(headers) > self.handshake.max_headers:
            self._refuse(_plain(too_large, f"more than {self.handshake.max_headers} headers"), "http_headers")
        else:
            return False
        return True

    def _refuse(self, answer: bytes, reason: str = "bad_handshake") -> None:
        self.plane.counters.close(reason)
        self.finish(answer)

    def _give(self, page: Page, request: Request) -> None:
        """Write a page, and be done. Who does not read it is cut off when its handshake takes too long."""
        assert self.transport is not None
        accepts = ",".join(request.headers.get_all("Accept-Encoding"))
        has = ",".join(request.headers.get_all("If-None-Match"))
        self.close_code = CloseCode.NORMAL
        self.house.closing(self)
        self.closing = True
        self.transport.write(page.answer(accepts, has))
        self._listen()
        if self.transport.can_write_eof():
            # What is buffered goes first.
            self.transport.write_eof()

    def _origins(self) -> list[Origin | None] | None:
        # "*" lets every page in: for a node that only ever takes tokens from SETUP, never from a cookie.
        if "*" in self.handshake.origins:
            return None
        return [None, *(Origin(origin) for origin in self.handshake.origins)]

    def _answer(self, protocol: ServerProtocol, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if request.method == "GET" and path == "/healthz":
            return protocol.reject(http.HTTPStatus.OK, "ok\n")
        if request.method == "GET" and path == "/ca.pem" and self.handshake.authority:
            return protocol.reject(http.HTTPStatus.OK, self.handshake.authority.decode())
        if request.method == "GET" and path not in self.handshake.paths:
            return protocol.reject(http.HTTPStatus.NOT_FOUND, f"nothing at {path[:100]}; connect to /rsocket\n")
        if any(version != "13" for version in request.headers.get_all("Sec-WebSocket-Version")):
            response = protocol.reject(http.HTTPStatus.UPGRADE_REQUIRED, "WebSocket version 13 is needed\n")
            response.headers["Sec-WebSocket-Version"] = "13"
            return response
        if self.plane.draining:
            response = protocol.reject(http.HTTPStatus.SERVICE_UNAVAILABLE, "this node is draining\n")
            response.headers["Retry-After"] = str(self._retry_after())
            return response
        if _names_this_endpoint(request):
            protocol.origins = None
        return protocol.accept(request)

    def _retry_after(self) -> int:
        """When to come again is different for each, so that they do not all come at once (fault 86)."""
        return self.plane.random.randint(*_RETRY_AFTER_S)

    def _established(self, credential: bytes | None) -> None:
        plane = self.plane
        limits = plane.first_limits
        outbox = Outbox(self, plane.flusher, plane.counters, limits.high_water_bytes, limits.hard_water_bytes)
        outbox.masked = self.dialled
        self.connection = Connection(plane, self, outbox, peer=f"websocket {self.peer_name()}")
        self.connection.reached = self.reached("websocket")
        self.connection.credential = credential
        self.reader = MessageReader(
            self.connection,
            self._ping,
            self._pong,
            self._peer_closed,
            self._violation,
            max_message=plane.snapshot.setup_rules.max_bytes,
            max_fragments=self.handshake.max_fragments,
            at_once=FRAMES_AT_ONCE,
            masked=not self.dialled,
        )
        self.feed = self.reader.feed
        self.house.established(self)

    # Messages

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        super().attach(connection, sink)
        assert self.reader is not None
        self.reader.redirect(sink)

    def held(self) -> int:
        return self.reader.held if self.reader is not None else 0

    def allow(self, max_frame_bytes: int) -> None:
        assert self.reader is not None
        self.reader.max_message = max_frame_bytes
        super().allow(max_frame_bytes)

    def _ping(self, payload: bytes) -> None:
        """Only the newest ping is answered, once a loop turn and when the peer reads (RFC 6455 5.5.3; fault 12)."""
        if self._pong_due is None:
            self.loop.call_soon(self._answer_ping)
        self._pong_due = payload
        self._meter(len(payload))

    def _answer_ping(self) -> None:
        if self._pong_due is not None and self.connection is not None and not self.connection.outbox.blocked:
            self.write(pong_frame(self._pong_due, masked=self.dialled))
            self._pong_due = None

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer_ping()

    def _pong(self) -> None:
        self._meter(0)

    def _meter(self, size: int) -> None:
        """Pings and pongs say no more than that the peer lives: they share the budget of frames that mean nothing."""
        assert self.connection is not None
        try:
            self.connection.ignore(size)
        except ConnectionFailed as error:
            self.connection.fail(error)

    def _peer_closed(self, code: int, text: str) -> None:
        assert self.connection is not None
        self.connection.lost(CloseReason.PEER_CLOSED)
        self.finish(close_frame(code if code != 1005 else CloseCode.NORMAL, masked=self.dialled))

    def _violation(self, code: CloseCode, text: str) -> None:
        assert self.connection is not None
        assert self.reader is not None
        if code is CloseCode.TOO_BIG:
            self.plane.counters.refuse(self.reader.limit_broken)
        self.connection.close(reason_for_violation(code), text, ConnectionFailed(text))

    def close(self, code: int, text: str) -> None:
        if self.reader is not None:
            self.reader.stop()
        self.close_with(code, close_frame(code, text, masked=self.dialled))


def _plain(status: http.HTTPStatus, text: str, retry_after_s: int = 0) -> bytes:
    body = text.encode() + b"\n"
    retry = f"Retry-After: {retry_after_s}\r\n" if retry_after_s else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n{retry}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
