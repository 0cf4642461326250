"""One request to a service of the node's own, from its first frame to its last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import RequestError, RequestInvalid
from gateway.forwarding.stamp import Form
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

Request = RequestResponse | RequestFnf | RequestStream | RequestChannel


class Exchange:
    """What a handler sees: who asks (`caller`), what (`route`, `data`), and how much it may send (`credit`).

    A handler answers with `reply`, or with `send` within its credit and `complete`, or with `fail`. It may set
    `on_credit`, called when credit arrives, and `on_end`, called once when the exchange is over, whoever ended it.
    """

    __slots__ = (
        "_ended",
        "_send",
        "caller",
        "credit",
        "data",
        "interaction",
        "on_credit",
        "on_end",
        "open",
        "origin",
        "reassembly",
        "request",
        "route",
        "stream_id",
    )

    def __init__(
        self,
        caller: Connection,
        request: Request,
        send: Callable[[bytes], None],
        ended: Callable[[Exchange], None],
    ) -> None:
        """`send` takes each frame of the answer; `ended` is told when nothing more goes either way."""
        limits = caller.grant.limits
        self._send = send
        self._ended = ended
        self.stream_id = request.stream_id
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
        #: The caller's own id of the stream, by which it keeps account of what is not complete.
        self.origin = 0
        if request.follows:
            self.reassembly = Reassembly(limits.max_reassembly_bytes, limits.max_fragments)
        self.open = True
        self.on_credit: Callable[[], None] | None = None
        self.on_end: Callable[[], None] | None = None

    def grant(self, n: int) -> None:
        self.credit = min(self.credit + n, MAX_REQUEST_N)
        if self.on_credit is not None and self.open:
            self.on_credit()

    def cancel(self) -> None:
        """The caller has gone or wants no more."""
        self._close()

    def reply(self, data: bytes, metadata: bytes | None = None) -> None:
        """Answer a request/response, or send the last item of a stream. `metadata`: composite, for callers that have
        it."""
        self._end(Payload(self.stream_id, self._told(metadata), data, next=True, complete=True))

    def send(self, data: bytes, metadata: bytes | None = None) -> None:
        """Send one item. Raises RequestInvalid when there is no credit for it."""
        if self.credit <= 0:
            raise RequestInvalid("no credit")
        self.credit -= 1
        self._send(encode(Payload(self.stream_id, self._told(metadata), data, next=True)))

    def _told(self, metadata: bytes | None) -> bytes | None:
        return metadata if self.caller.form == Form.COMPOSITE else None

    def complete(self) -> None:
        self._end(Payload(self.stream_id, None, b"", complete=True, next=False))

    def fail(self, error: RequestError) -> None:
        """Refuse or break off; fire-and-forget is not told (P35)."""
        self._end(None if self.interaction is FrameType.REQUEST_FNF else Error(self.stream_id, error.code, str(error)))

    def _end(self, frame: Payload | Error | None) -> None:
        if self._close() and frame is not None:
            self._send(encode(frame))

    def _close(self) -> bool:
        if not self.open:
            return False
        self.open = False
        self._ended(self)
        if self.on_end is not None:
            self.on_end()
        return True
