"""What this node itself asks another one over a link: its routes, whether it is ready, the members it knows.

One internal connection for all of it. Unlike a client's request, an inquiry names the connection that it goes to, so
nothing is decided or located.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.forwarding.credit import Credit
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.stream import REQUEST_RESPONSE, REQUEST_STREAM, new_stream
from gateway.observe.metrics import ServiceStats
from gateway.wire.frames import (
    MAX_REQUEST_N,
    Cancel,
    Error,
    Payload,
    Reassembly,
    decode,
    encode,
    peek_stream_id,
)
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane

#: Bytes and fragments of one answer.
_MAX_BYTES = 16 * 1024 * 1024
_MAX_FRAGMENTS = 4096


class Inquiry:
    """One question. `on_item(data)` for each answer; `on_end(text)` once, with None when it ended well."""

    __slots__ = ("_desk", "_on_end", "_on_item", "_series", "open", "stream_id")

    def __init__(
        self,
        desk: InquiryDesk,
        stream_id: int,
        on_item: Callable[[bytes], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        self._desk = desk
        self._on_item = on_item
        self._on_end = on_end
        self._series: Reassembly | None = None
        self.stream_id = stream_id
        self.open = True

    def cancel(self) -> None:
        """No answer is wanted any more; nobody is told."""
        if self.open:
            self.open = False
            self._desk.forget(self.stream_id)
            self._desk.send(encode(Cancel(self.stream_id)))

    def take(self, payload: Payload) -> None:
        if self._series is None and payload.follows:
            self._series = Reassembly(_MAX_BYTES, _MAX_FRAGMENTS)
        if self._series is not None:
            whole = self._series.add(payload)
            if whole is None:
                return
            self._series = None
            assert isinstance(whole, Payload)
            payload = whole
        if payload.next:
            self._on_item(payload.data)
        if payload.complete:
            self.over(None)

    def over(self, text: str | None) -> None:
        if self.open:
            self.open = False
            self._desk.forget(self.stream_id)
            self._on_end(text)


class InquiryDesk(InternalConnection):
    """Asks, and hands each answer to its inquiry."""

    __slots__ = ("_inquiries", "_stats")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane, "inquiries")
        self._inquiries: dict[int, Inquiry] = {}
        # What the node asks on its own behalf is nobody's traffic.
        self._stats = ServiceStats()

    def ask(
        self,
        target: Connection,
        route: str,
        data: bytes,
        on_item: Callable[[bytes], None],
        on_end: Callable[[str | None], None],
        *,
        stream: bool = False,
    ) -> Inquiry:
        """Ask `route` of `target`: one answer, or with `stream` as many as come, without a bound on credit."""
        stream_id = self.leg_ids.allocate(self._inquiries)
        inquiry = self._inquiries[stream_id] = Inquiry(self, stream_id, on_item, on_end)
        kind = REQUEST_STREAM if stream else REQUEST_RESPONSE
        responder_id = target.ids.allocate(target.serving)
        hop = new_stream(kind, self, stream_id, target, responder_id, self._stats, self.plane.now)
        n = 0
        if stream:
            n = MAX_REQUEST_N
            hop.down = Credit()
            # Route streams are as fast as the link: what limits them is its outbox.
            hop.down.outstanding = n
        self.requesting.insert(stream_id, hop)
        target.serving.insert(responder_id, hop)
        target.pending += 1
        self.plane.counters.streams_open += 1
        metadata = encode_composite([(ROUTING, encode_routing([route]))])
        section = len(metadata).to_bytes(3, "big") + metadata
        target.send_request(responder_id, kind, kind << 10, n, section, data, 0, len(data))
        return inquiry

    def deliver(self, frame_bytes: bytes) -> None:
        inquiry = self._inquiries.get(peek_stream_id(frame_bytes))
        if inquiry is None:
            return
        frame = decode(frame_bytes)
        if isinstance(frame, Error):
            inquiry.over(frame.text or f"error 0x{frame.code:03x}")
        elif isinstance(frame, Payload):
            inquiry.take(frame)
        elif isinstance(frame, Cancel):
            inquiry.over("canceled")

    def forget(self, stream_id: int) -> None:
        self._inquiries.pop(stream_id, None)
