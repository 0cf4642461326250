"""One request to a service of the node's own, from its first frame to its last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import RequestError, RequestInvalid
from gateway.wire.frames import (
    MAX_REQUEST_N,
    Error,
    FrameType,
    Payload,
    Reassembly,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    encode,
)

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.internal import InternalConnection

Request = RequestResponse | RequestFnf | RequestStream | RequestChannel


class Exchange:
    """What a handler sees: who asks (`caller`), what (`route`, `data`), and how much it may send (`credit`).

    A handler answers with `reply`, or with `send` within its credit and `complete`, or with `fail`. It may set
    `on_credit`, called when credit arrives, and `on_cancel`, called once when the caller has gone or wants no more.
    """

    __slots__ = (
        "_connection",
        "_stream_id",
        "caller",
        "credit",
        "data",
        "interaction",
        "on_cancel",
        "on_credit",
        "open",
        "reassembly",
        "request",
        "route",
    )

    def __init__(self, connection: InternalConnection, caller: Connection, request: Request) -> None:
        limits = caller.grant.limits
        self._connection = connection
        self._stream_id = request.stream_id
        self.caller = caller
        self.request = request
        self.interaction = {
            RequestResponse: FrameType.REQUEST_RESPONSE,
            RequestFnf: FrameType.REQUEST_FNF,
            RequestStream: FrameType.REQUEST_STREAM,
            RequestChannel: FrameType.REQUEST_CHANNEL,
        }[type(request)]
        self.credit = request.initial_n if isinstance(request, RequestStream | RequestChannel) else 1
        self.route = ""
        self.data = request.data
        self.reassembly: Reassembly | None = None
        if request.follows:
            self.reassembly = Reassembly(limits.max_reassembly_bytes, limits.max_fragments)
        self.open = True
        self.on_credit: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None

    def grant(self, n: int) -> None:
        self.credit = min(self.credit + n, MAX_REQUEST_N)
        if self.on_credit is not None and self.open:
            self.on_credit()

    def cancel(self) -> None:
        if self.open:
            self.open = False
            if self.on_cancel is not None:
                self.on_cancel()

    def reply(self, data: bytes) -> None:
        """Answer a request/response, or send the last item of a stream."""
        self._end(Payload(self._stream_id, None, data, next=True, complete=True))

    def send(self, data: bytes) -> None:
        """Send one item. Raises RequestInvalid when there is no credit for it."""
        if self.credit <= 0:
            raise RequestInvalid("no credit")
        self.credit -= 1
        self._connection.send(encode(Payload(self._stream_id, None, data, next=True)))

    def complete(self) -> None:
        self._end(Payload(self._stream_id, None, b"", complete=True, next=False))

    def fail(self, error: RequestError) -> None:
        if self.interaction is FrameType.REQUEST_FNF:
            self.open = False
        else:
            self._end(Error(self._stream_id, error.code, str(error)))

    def _end(self, frame: Payload | Error) -> None:
        if self.open:
            self.open = False
            self._connection.send(encode(frame))
