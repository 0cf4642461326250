"""One side of the streams that cross the node: what other connections touch when they send it frames.

`requesting` holds the streams that this side opened, by its own ids; `serving` those opened towards it, by ids that the
node allots. `Connection` adds what its own peer's frames do. The split keeps imports one-way: streams, endings, flow
control and openings work on endpoints and are used by connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import ConnectionFailed
from gateway.forwarding.credit import Credit
from gateway.forwarding.outbox import Carrier, Outbox
from gateway.forwarding.stamp import Form
from gateway.forwarding.stream_table import StreamTable
from gateway.session.stream_ids import CLIENT_FIRST, SERVER_FIRST, StreamIds
from gateway.wire.frames import COMPLETE, FOLLOWS, IGNORE, MAX_FRAME_BYTES, METADATA, NEXT, FrameType
from gateway.wire.sink import FrameSink

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.partial import Partial
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.stream import Stream
    from gateway.policy.access import Grant
    from gateway.routing.route import Route

_PAYLOAD = int(FrameType.PAYLOAD)
_REQUEST_STREAM = int(FrameType.REQUEST_STREAM)
_REQUEST_FLAGS = FOLLOWS | COMPLETE | IGNORE
#: Type and flags of every request frame that can go out, as its bytes 4 and 5.
_HEADS = {
    kind << 10 | flags: (kind << 10 | flags).to_bytes(2, "big")
    for kind in range(FrameType.REQUEST_RESPONSE, FrameType.REQUEST_CHANNEL + 1)
    for flags in range(0x400)
    if not flags & ~(_REQUEST_FLAGS | METADATA)
}
#: Bounds of what an endpoint remembers for the sake of a peer that could not know better yet.
_MAX_ABANDONED = 64
_MAX_EXCUSED = 1 << 20


class Endpoint(FrameSink):
    """`pending`: streams it serves, the balancer's load. `stamp`: the composite entry that says who it is. `form`: what
    its metadata is. `decisions`: its cache, by raw metadata. `paused_by`: full outboxes that it feeds."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "accepted",
        "by_device",
        "carrier",
        "closed",
        "counters",
        "decisions",
        "draining",
        "excused",
        "form",
        "grant",
        "ids",
        "ignored_bytes",
        "ignored_frames",
        "ignored_since",
        "max_streams",
        "outbox",
        "partials",
        "paused_by",
        "peer_parity",
        "pending",
        "plane",
        "rate",
        "requesting",
        "serving",
        "stamp",
        "tokens",
        "tokens_at",
    )

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox) -> None:
        now = plane.monotonic()
        self.plane = plane
        self.decisions: dict[bytes, Decision] = {}
        self.counters = plane.counters
        self.carrier = carrier
        self.outbox = outbox
        self.hold(plane.nobody)
        self.form = int(Form.OPAQUE)
        self.stamp = b""
        self.by_device = False
        self.requesting = StreamTable()
        self.serving = StreamTable()
        self.partials: dict[int, Partial] | None = None
        self.abandoned: set[int] = set()
        self.ids = StreamIds(SERVER_FIRST)
        self.peer_parity = CLIENT_FIRST & 1
        self.pending = 0
        self.paused_by: set[Outbox] = set()
        self.tokens = 0.0
        self.tokens_at = now
        self.excused = 0
        self.ignored_since = now
        self.ignored_frames = 0
        self.ignored_bytes = 0
        self.accepted = False
        self.draining = False
        self.closed = False

    def hold(self, grant: Grant) -> None:
        """Be bound by `grant` from now on; what was decided under another one is forgotten."""
        self.grant = grant
        self.max_streams = grant.limits.max_streams
        self.rate = grant.limits.requests_per_second
        self.decisions.clear()

    # Frames out

    def send_request(
        self, prefix: bytes, kind: int, head: int, n: int, metadata: bytes, data: bytes, at: int, end: int
    ) -> None:
        """Append a request frame to this side's outbox.

        `prefix`: its stream id. `metadata`: what goes between head and data, its length in front; empty for none.
        """
        flags = head & _REQUEST_FLAGS
        if metadata:
            flags |= METADATA
        start = _HEADS[kind << 10 | flags]
        if kind >= _REQUEST_STREAM:
            start += n.to_bytes(4, "big")
        room = MAX_FRAME_BYTES - 4 - len(start) - len(metadata)
        if end - at <= room:
            self.outbox.put_request(prefix, start, metadata, data, at, end)
            return
        # The stamp made the largest frame there is too large (P43): it goes on in a fragment.
        start = _HEADS[kind << 10 | (flags | FOLLOWS) & ~COMPLETE] + start[2:]
        self.outbox.put_request(prefix, start, metadata, data, at, at + room)
        rest = (_PAYLOAD << 10 | NEXT | flags & (FOLLOWS | COMPLETE)).to_bytes(2, "big")
        self.outbox.put_request(prefix, rest, b"", data, at + room, end)

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

    def abandon(self, stream_id: int) -> None:
        """A request of this peer was refused or ended inside its series of fragments: drop those that still come."""
        if len(self.abandoned) < _MAX_ABANDONED:
            self.abandoned.add(stream_id)

    def excuse(self, credit: Credit | None) -> None:
        """A stream ended early: what its producer had sent by then is no offence."""
        self.excused = min(_MAX_EXCUSED, self.excused + 1 + (credit.outstanding if credit is not None else 0))

    def ignore(self, size: int) -> None:
        """A frame that the specification says to ignore: do, but on a budget. Raises ConnectionFailed beyond it."""
        self.counters.ignored_frames += 1
        if self.excused > 0:
            self.excused -= 1
            return
        limits = self.grant.limits
        if not limits.ignored_frames:
            return
        now = self.plane.monotonic()
        if now - self.ignored_since > limits.ignored_window_s:
            self.ignored_since = now
            self.ignored_frames = self.ignored_bytes = 0
        self.ignored_frames += 1
        self.ignored_bytes += size
        if self.ignored_frames > limits.ignored_frames or self.ignored_bytes > limits.ignored_bytes:
            raise ConnectionFailed("too many frames that mean nothing", reason="ignored_frames")
