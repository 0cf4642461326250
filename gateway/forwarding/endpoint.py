"""One side of the streams that cross the node: what other connections touch when they send it frames.

`requesting` holds the streams that this side opened, by its own ids; `serving` those opened towards it, by ids that the
node allots. `Connection` adds what its own peer's frames do. The split keeps imports one-way: streams, endings, flow
control and openings work on endpoints and are used by connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.errors import ConnectionFailed
from gateway.forwarding.assembly import Assembly
from gateway.forwarding.links import LOCAL
from gateway.forwarding.outbox import Carrier, Outbox
from gateway.forwarding.stamp import Form
from gateway.forwarding.strays import Strays
from gateway.forwarding.stream_table import StreamTable
from gateway.session.stream_ids import CLIENT_FIRST, SERVER_FIRST, StreamIds
from gateway.wire.frames import COMPLETE, FOLLOWS, IGNORE, MAX_FRAME_BYTES, METADATA, NEXT, FrameType
from gateway.wire.sink import FrameSink

if TYPE_CHECKING:
    from gateway.forwarding.awaiting import Awaiting, Offer
    from gateway.forwarding.budgets import Budgets
    from gateway.forwarding.call import Call
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.partial import Partial
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.stream import Stream
    from gateway.policy.access import Grant
    from gateway.routing.route import Route
    from gateway.session.lease import GrantedLease, HeldLease

_PAYLOAD = int(FrameType.PAYLOAD)
_REQUEST_STREAM = int(FrameType.REQUEST_STREAM)
_REQUEST_FLAGS = FOLLOWS | COMPLETE | IGNORE
#: Type and flags of every request frame that can go out, as its bytes 4 and 5.
_HEADS = [
    head.to_bytes(2, "big")
    if head >> 10 >= FrameType.REQUEST_RESPONSE and not head & 0x3FF & ~(_REQUEST_FLAGS | METADATA)
    else b""
    for head in range(FrameType.REQUEST_CHANNEL + 1 << 10)
]


class Endpoint(FrameSink):
    """`pending`: streams it serves, the balancer's load. `stamp`: the composite entry that says who it is. `form`: what
    its metadata is. `decisions`: its cache, by raw metadata; `latest`: the last one that answered, to
    `latest_metadata`. `paused_by`: full outboxes that it feeds; None: it is read from. `granted`, `held`: the
    leases that this node gave the peer and got from it, where SETUP asked for leases. `side`: which side of this
    node it is on (`links`); `place`: the labels of the node that a link leads to. `awaiting`: its requests for
    which a route is looked for; `asking_again`: one of them is gone through again, which came at `asked_at`; `avoided`:
    where it has been.
    `held_since`: since when the one that is gone through was held back on purpose, else 0. `retried`: the call of
    which it is a further try. `offered`: of a link,
    requests of clients to which nothing has come back, by its stream ids."""

    __slots__ = (
        "__weakref__",
        "accepted",
        "asked_at",
        "asking_again",
        "assembly",
        "avoided",
        "awaiting",
        "budgets",
        "by_device",
        "carrier",
        "closed",
        "counters",
        "decisions",
        "draining",
        "form",
        "grant",
        "granted",
        "held",
        "held_since",
        "ids",
        "latest",
        "latest_metadata",
        "look_at",
        "max_streams",
        "min_fragment",
        "offered",
        "outbox",
        "partials",
        "paused_by",
        "peer_parity",
        "place",
        "plane",
        "rate",
        "requesting",
        "retried",
        "serving",
        "side",
        "stamp",
        "strays",
        "tokens",
        "tokens_at",
    )

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox) -> None:
        now = plane.monotonic()
        self.plane = plane
        self.decisions: dict[bytes, Decision] = {}
        self.latest: Decision | None = None
        self.latest_metadata: bytes | None = None
        self.counters = plane.counters
        self.carrier = carrier
        self.outbox = outbox
        self.granted: GrantedLease | None = None
        self.held: HeldLease | None = None
        self.hold(plane.nobody)
        self.form = int(Form.OPAQUE)
        self.stamp = b""
        self.by_device = False
        self.requesting = StreamTable()
        self.serving = StreamTable()
        self.partials: dict[int, Partial] | None = None
        self.side = LOCAL
        self.place: Mapping[str, str] | None = None
        self.awaiting: dict[int, Awaiting] | None = None
        self.asking_again = False
        self.asked_at = 0.0
        self.avoided: Endpoint | None = None
        self.held_since = 0.0
        self.retried: Call | None = None
        self.offered: dict[int, Offer] | None = None
        self.ids = StreamIds(SERVER_FIRST)
        self.peer_parity = CLIENT_FIRST & 1
        self.pending = 0
        self.paused_by: set[Outbox | Budgets] | None = None
        self.tokens = 0.0
        self.tokens_at = now
        self.strays = Strays(now)
        self.budgets: Budgets | None = None
        self.assembly: Assembly | None = None
        #: When its deadlines are looked at next, by the plane's clock; 0: every time, because something is held back.
        self.look_at = 0.0
        self.accepted = False
        self.draining = False
        self.closed = False

    def hold(self, grant: Grant) -> None:
        """Be bound by `grant` from now on; what was decided under another one is forgotten."""
        self.grant = grant
        self.max_streams = grant.limits.max_streams
        self.min_fragment = grant.limits.min_fragment_bytes
        # Requests under a lease are counted whatever the rate is.
        self.rate = grant.limits.requests_per_second or int(self.granted is not None)
        self.outbox.high = grant.limits.high_water_bytes
        self.outbox.hard = grant.limits.hard_water_bytes
        self.forget_decisions()

    def forget_decisions(self) -> None:
        self.decisions.clear()
        self.latest = None
        self.latest_metadata = None

    # Frames out

    def send_request(
        self, stream_id: int, kind: int, head: int, n: int, metadata: bytes, data: bytes, at: int, end: int
    ) -> None:
        """Append a request frame to this side's outbox.

        `metadata`: what goes between head and data, its length in front; empty for none.
        """
        flags = head & _REQUEST_FLAGS
        if metadata:
            flags |= METADATA
        start = _HEADS[kind << 10 | flags]
        if kind >= _REQUEST_STREAM:
            start += n.to_bytes(4, "big")
        room = MAX_FRAME_BYTES - 4 - len(start) - len(metadata)
        if end - at <= room:
            self.outbox.put_request(stream_id, start, metadata, data, at, end)
            return
        # The stamp made the largest frame there is too large (P43): it goes on in a fragment.
        start = _HEADS[kind << 10 | (flags | FOLLOWS) & ~COMPLETE] + start[2:]
        self.outbox.put_request(stream_id, start, metadata, data, at, at + room)
        rest = (_PAYLOAD << 10 | NEXT | flags & (FOLLOWS | COMPLETE)).to_bytes(2, "big")
        self.outbox.put_request(stream_id, rest, b"", data, at + room, end)

    #: Whether it asks of each request which topic it is for, and judges that.
    judges_topics = False

    def spread(self, stream: Stream, routes: list[Route]) -> None:
        """Take a multicast stream; only the node's own multicast connection is ever asked to."""
        raise NotImplementedError

    def relieved(self, stream: Stream) -> None:
        """The outbox of a consumer of `stream` has drained: its held credit may go on."""
        raise NotImplementedError

    # Pausing

    def block(self, now: float) -> None:
        """The carrier takes no more for now."""
        self.outbox.block(now)
        self.look_at = 0.0

    def pause_for(self, outbox: Outbox) -> None:
        """Stop reading from this peer until `outbox`, which it feeds, has drained. Counted per outbox.

        An outbox that is given up for slow stops nobody but the peer whose own it is.
        """
        if self.closed or (outbox.slow and outbox is not self.outbox):
            return
        if outbox.feeders is None:
            outbox.feeders = set()
            outbox.feeders_since = self.plane.monotonic()
        outbox.feeders.add(self)
        self._pause(outbox)

    def pause_when_congested(self) -> None:
        """This peer was sent an answer. One that does not read its answers gets to ask no more (faults 29 and 31)."""
        # Not for what is unconfirmed: the confirmation has to be read.
        if self.outbox.blocked and self.outbox.congested:
            self.pause_for(self.outbox)

    def rest(self, budgets: Budgets) -> None:
        """Stop reading from this peer until `budgets` has recovered; its owner looks."""
        if not self.closed:
            self._pause(budgets)

    def _pause(self, reason: Outbox | Budgets) -> None:
        if self.paused_by is None:
            self.paused_by = set()
            self.carrier.pause_reading()
            self.look_at = 0.0
        self.paused_by.add(reason)

    def resume_after(self, outbox: Outbox | Budgets) -> None:
        """`outbox` has drained or is gone."""
        paused_by = self.paused_by
        if paused_by is not None:
            paused_by.discard(outbox)
            if paused_by:
                return
            self.paused_by = None
        if not self.closed:
            self.carrier.resume_reading()

    def never_mind_others(self) -> None:
        """This side is over and feeds nobody any more."""
        paused_by, self.paused_by = self.paused_by, None
        if paused_by:
            for outbox in paused_by:
                if outbox.feeders is not None:
                    outbox.feeders.discard(self)
            # The peer is read on, and what it sends dropped, so that its own last frame gets noticed.
            self.carrier.resume_reading()

    # Messages that are partly there

    def assemble(self) -> Assembly:
        """The account of what the node holds of this peer's messages until they are complete."""
        self.look_at = 0.0
        if self.assembly is None:
            self.assembly = Assembly()
        return self.assembly

    def broke_message(self) -> None:
        """A message in fragments was over a limit. Raises ConnectionFailed when that comes too often (fault 34)."""
        if self.assemble().broke(self.grant.limits, self.plane.now):
            raise ConnectionFailed("too many messages over the limits of fragments", reason="broken_messages")

    # Frames that mean nothing

    def stray(self, stream_id: int, head: int, size: int) -> None:
        """A PAYLOAD that belongs to no stream any more. Raises ConnectionFailed beyond the budget for such frames."""
        self.counters.ignored_frames += 1
        self.strays.payload(stream_id, head, size, self.grant.limits, self.plane.monotonic())

    def ignore(self, size: int) -> None:
        """A frame that the specification says to ignore: do, but on a budget. Raises ConnectionFailed beyond it."""
        self.counters.ignored_frames += 1
        self.strays.meter(size, self.grant.limits, self.plane.monotonic())
