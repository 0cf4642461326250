"""Connections without a socket: the node's own services, multicast, and whatever else lives inside the process.

To the data plane they are connections like any other, so hops, credit, grants and counters apply to them unchanged.
What is put into their outbox is delivered to them at the end of the loop turn, frame by frame; what they send enters
through `frame_received`, as if a socket had brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding import recall
from gateway.forwarding.connection import Connection
from gateway.forwarding.outbox import NoCarrier, Outbox
from gateway.forwarding.plane import INTERNAL
from gateway.forwarding.stamp import Form
from gateway.observe.metrics import Counters
from gateway.policy.asking import INSIDE
from gateway.session.stream_ids import CLIENT_FIRST, StreamIds

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane, Snapshot
    from gateway.policy.access import Grant


class InternalOutbox(Outbox):
    """Delivers its frames instead of writing them."""

    __slots__ = ("_delivered", "owner")

    owner: InternalConnection

    def __init__(self, plane: Plane) -> None:
        limits = 1 << 62
        super().__init__(NoCarrier(), plane.flusher, plane.counters, limits, limits)
        self._delivered: list[bytes] = []

    def put(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        self._deliver(stream_id.to_bytes(4, "big") + data[start:end])

    def put_request(self, stream_id: int, head: bytes, metadata: bytes, data: bytes, start: int, end: int) -> None:
        self._deliver(stream_id.to_bytes(4, "big") + head + metadata + data[start:end])

    def _deliver(self, frame: bytes) -> None:
        self._delivered.append(frame)
        if self.untouched:
            self.untouched = False
            self.touched()

    def flush(self) -> None:
        self.untouched = True
        remaining = iter(self._delivered)
        self._delivered = []
        try:
            for frame in remaining:
                self.owner.deliver(frame)
        finally:
            # As in `Flusher.flush`: a bug costs the stream that hit it, not those behind it.
            for frame in remaining:
                self._deliver(frame)


class InternalConnection(Connection):
    """`leg_ids` number the streams that it opens itself, like a client's."""

    __slots__ = ("leg_ids",)

    def __init__(self, plane: Plane, name: str) -> None:
        outbox = InternalOutbox(plane)
        super().__init__(plane, outbox.carrier, outbox, peer=name, kind=INTERNAL)
        outbox.owner = self
        self.form = int(Form.COMPOSITE)
        self.accepted = True
        self.reached = INSIDE
        # What crosses no socket is not traffic; the streams themselves count where their requesters are.
        self.counters = Counters()
        self.leg_ids = StreamIds(CLIENT_FIRST)

    def hold(self, grant: Grant) -> None:
        super().hold(grant)
        # What it passes on has been judged where it came from.
        self.min_fragment = 0

    def deliver(self, frame: bytes) -> None:
        """Take one frame that another connection sent here."""
        raise NotImplementedError

    def send(self, frame: bytes) -> None:
        """Send one frame of our own into the data plane."""
        self.frame_received(frame, 0, len(frame))

    def stray(self, stream_id: int, head: int, size: int) -> None:
        """No budget: what we send crosses the end of a stream now and then, and we cannot be closed for it."""

    def ignore(self, size: int) -> None:
        """As for strays."""

    def judge_again(self, snapshot: Snapshot) -> None:
        """Nobody's token: there is nothing to judge."""
        self.hold(self.plane.nobody)

    def judged_otherwise(self) -> None:
        """What it serves is the node's own, or was declared."""
        recall.judge_streams(self)

    def tick(self, now: float, wall: float) -> None:
        """No deadlines: nothing here can be silent or slow."""

    def drain(self) -> None:
        """Nothing to tell: its streams end with those of the connections that opened them."""
