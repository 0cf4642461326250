"""One side of the streams that cross the node: what other connections touch when they send it frames.

`requesting` holds the streams that this side opened, by its own ids; `serving` those opened towards it, by ids that the
node allots. `Connection` adds what its own peer's frames do. The split keeps imports one-way: streams, endings, flow
control and openings work on endpoints and are used by connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding.outbox import Carrier, Outbox
from gateway.forwarding.stamp import Form
from gateway.forwarding.strays import Strays
from gateway.session.stream_ids import CLIENT_FIRST, SERVER_FIRST, StreamIds
from gateway.wire.frames import COMPLETE, FOLLOWS, IGNORE, MAX_FRAME_BYTES, METADATA, NEXT, FrameType

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.partial import Partial
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.stream import Stream
    from gateway.routing.route import Route

_PAYLOAD = int(FrameType.PAYLOAD)
_REQUEST_STREAM = int(FrameType.REQUEST_STREAM)
#: Credit and cancellations of one stream that may be on their way when it ends.
_CROSSING = 4


class Endpoint:
    """`pending`: streams it serves, the balancer's load. `stamp`: the composite entry that says who it is. `form`: what
    its metadata is. `decisions`: its cache, by raw metadata. `paused_by`: full outboxes that it feeds."""

    __slots__ = (
        "__weakref__",
        "accepted",
        "by_device",
        "carrier",
        "closed",
        "counters",
        "decisions",
        "draining",
        "form",
        "grant",
        "ids",
        "outbox",
        "partials",
        "paused_by",
        "peer_parity",
        "pending",
        "plane",
        "requesting",
        "serving",
        "stamp",
        "strays",
        "tokens",
        "tokens_at",
    )

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox) -> None:
        now = plane.monotonic()
        self.plane = plane
        self.counters = plane.counters
        self.carrier = carrier
        self.outbox = outbox
        self.grant = plane.nobody
        self.form = Form.OPAQUE
        self.stamp = b""
        self.by_device = False
        self.requesting: dict[int, Stream] = {}
        self.serving: dict[int, Stream] = {}
        self.partials: dict[int, Partial] | None = None
        self.decisions: dict[bytes, Decision] = {}
        self.ids = StreamIds(SERVER_FIRST)
        self.peer_parity = CLIENT_FIRST & 1
        self.pending = 0
        self.paused_by: set[Outbox] = set()
        self.tokens = 0.0
        self.tokens_at = now
        self.strays = Strays(now)
        self.accepted = False
        self.draining = False
        self.closed = False

    # Frames out

    def send_request(
        self, stream_id: int, kind: int, head: int, n: int, metadata: bytes, data: bytes, at: int, end: int
    ) -> None:
        """Append a request frame with these metadata and `data[at:end]` to this connection's outbox."""
        flags = head & (FOLLOWS | COMPLETE | IGNORE)
        credit = n.to_bytes(4, "big") if kind >= _REQUEST_STREAM else b""
        if metadata:
            flags |= METADATA
            body = credit + len(metadata).to_bytes(3, "big") + metadata
        else:
            body = credit
        prefix = stream_id.to_bytes(4, "big")
        outbox = self.outbox
        room = MAX_FRAME_BYTES - 6 - len(body)
        if end - at <= room:
            frame = (kind << 10 | flags).to_bytes(2, "big") + body + data[at:end]
            outbox.put(prefix, frame, 0, len(frame))
            return
        # The stamp made the largest frame there is too large (P43): it goes on in a fragment.
        frame = (kind << 10 | (flags | FOLLOWS) & ~COMPLETE).to_bytes(2, "big") + body + data[at : at + room]
        outbox.put(prefix, frame, 0, len(frame))
        rest = (_PAYLOAD << 10 | NEXT | flags & (FOLLOWS | COMPLETE)).to_bytes(2, "big") + data[at + room : end]
        outbox.put(prefix, rest, 0, len(rest))

    def spread(self, stream: Stream, routes: list[Route]) -> None:
        """Take a multicast stream; only the node's own multicast connection is ever asked to."""
        raise NotImplementedError

    def relieved(self, stream: Stream) -> None:
        """The outbox of a consumer of `stream` has drained: its held credit may go on."""
        raise NotImplementedError

    # Pausing

    def pause_for(self, outbox: Outbox) -> None:
        """Stop reading from this peer until `outbox`, which it feeds, has drained. Counted per outbox."""
        if self.closed or outbox is self.outbox:
            return
        if outbox.feeders is None:
            outbox.feeders = set()
        outbox.feeders.add(self)
        if not self.paused_by:
            self.carrier.pause_reading()
        self.paused_by.add(outbox)

    def resume_after(self, outbox: Outbox) -> None:
        """`outbox` has drained or is gone."""
        self.paused_by.discard(outbox)
        if not self.paused_by and not self.closed:
            self.carrier.resume_reading()

    # Frames that mean nothing

    def stray(self, stream_id: int, head: int, size: int) -> None:
        """A PAYLOAD that belongs to no stream any more. Raises ConnectionFailed beyond the budget for such frames."""
        self.counters.ignored_frames += 1
        self.strays.payload(stream_id, head, size, self.grant.limits, self.plane.monotonic())

    def ignore(self, size: int) -> None:
        """A frame that the specification says to ignore: do, but on a budget. Raises ConnectionFailed beyond it."""
        self.counters.ignored_frames += 1
        self.strays.meter(size, self.grant.limits, self.plane.monotonic())
