"""Requests that something inside the node answers: put together, handed to a handler, ended once.

Whoever serves is an internal connection whose handlers take an `Exchange`: the node's own services, a bridge.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import ConnectionFailed, FrameError, RequestError, RequestInvalid
from gateway.forwarding.assembly import BREAKING
from gateway.forwarding.connection import Connection
from gateway.forwarding.exchange import Exchange, Request
from gateway.forwarding.internal import InternalConnection
from gateway.wire.frames import ErrorCode, Payload, RequestFnf, RequestN, decode, peek_stream_id
from gateway.wire.metadata import decode_routing, iter_composite
from gateway.wire.mimetypes import ROUTING

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane

Handler = Callable[[Exchange], object]


class _Bug(RequestError):
    """A handler raised what it should not have."""

    code = ErrorCode.APPLICATION_ERROR
    reason = "internal_error"


class Exchanges(InternalConnection, metaclass=ABCMeta):
    """Serves what `handler` knows."""

    __slots__ = ("_exchanges",)

    def __init__(self, plane: Plane, name: str) -> None:
        super().__init__(plane, name)
        self._exchanges: dict[int, Exchange] = {}

    @abstractmethod
    def handler(self, exchange: Exchange) -> Handler:
        """What answers this route and interaction. Raises RequestError."""

    def fired(self, request: Request) -> None:
        """A whole fire-and-forget. It has no stream, so there is nobody to tell anything."""

    def deliver(self, frame_bytes: bytes) -> None:
        stream_id = peek_stream_id(frame_bytes)
        exchange = self._exchanges.get(stream_id)
        try:
            frame = decode(frame_bytes)
            if isinstance(frame, Request):
                self._begin(frame)
            elif exchange is None:
                return
            elif isinstance(frame, Payload):
                self._continue(exchange, frame)
            elif isinstance(frame, RequestN):
                exchange.grant(frame.n)
            else:  # CANCEL, or ERROR of a channel's requester
                exchange.cancel()
        except RequestError as error:
            self._fail(stream_id, error)
        except Exception:
            # A bug: whoever asked must not wait for ever, and learns nothing of it.
            self._fail(stream_id, _Bug("internal error"))
            raise

    def _fail(self, stream_id: int, error: RequestError) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:  # a handler may have answered before it raised
            self.plane.counters.refuse(error.reason)
            exchange.fail(error)
            if error.reason in BREAKING:
                self._broke(exchange.caller)

    @staticmethod
    def _broke(caller: Connection) -> None:
        try:
            caller.broke_message()
        except ConnectionFailed as failure:
            caller.fail(failure)

    def _begin(self, request: Request) -> None:
        stream = self.serving.find(request.stream_id)
        if stream is None:
            if not request.follows and isinstance(request, RequestFnf):
                self.fired(request)
            return  # else who asked has gone
        caller = stream.requester
        assert isinstance(caller, Connection)
        exchange = Exchange(caller, request, self.send, self._ended)
        self._exchanges[request.stream_id] = exchange
        exchange.route = route_of(request)
        self.handler(exchange)
        if exchange.reassembly is None:
            self._serve(exchange)
            return
        exchange.reassembly.add(request)
        exchange.origin = stream.requester_id
        caller.assemble().begin(
            stream.requester_id,
            exchange.reassembly.size,
            caller.grant.limits,
            self.plane.now,
            lambda error: self._fail(request.stream_id, error),
        )

    def _ended(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.stream_id]
        self._let_go(exchange)

    @staticmethod
    def _let_go(exchange: Exchange) -> None:
        """Nothing of its message is held any more."""
        if exchange.origin:
            exchange.caller.assemble().end(exchange.origin)
            exchange.origin = 0

    def _continue(self, exchange: Exchange, fragment: Payload) -> None:
        if exchange.reassembly is None:
            return
        before = exchange.reassembly.size
        whole = exchange.reassembly.add(fragment)
        if whole is None:
            caller = exchange.caller
            size = exchange.reassembly.size - before
            caller.assemble().grow(exchange.origin, size, caller.grant.limits, self.plane.now)
        else:
            self._let_go(exchange)
            exchange.reassembly = None
            exchange.data = whole.data
            self._serve(exchange)

    def _serve(self, exchange: Exchange) -> None:
        handler = self.handler(exchange)
        try:
            handler(exchange)
        except FrameError as error:
            raise RequestInvalid(f"{exchange.route}: {error}") from error


def route_of(request: Request) -> str:
    metadata = request.metadata or b""
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime == ROUTING:
            tags = decode_routing(metadata[entry.content_start : entry.end])
            return tags[0].replace("/", ".") if tags else ""
    return ""
