"""A request that somebody watches: a document that governs it, its deadline, the flow log, a trace.

Most requests have none, and cost one test for it. A call outlives its stream where the request is tried again. `finish`
lets go of it, because a stream is not followed by the garbage collector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding import flow_log

if TYPE_CHECKING:
    from gateway.forwarding.awaiting import Request
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.governed import Governed
    from gateway.forwarding.stream import Stream
    from gateway.routing.route import Route

# What `ending.finish` calls it, which cannot be imported here.
_OK = 0


class Call:
    """`attempt`: from 1. `opened_at`: when the first one began, by the plane's clock. `size`: bytes of the request's
    data. `code`: of the ERROR frame that ended it, 0 without one. `request`: as its requester sent it, where it may be
    sent once more. `route`, `stream`: of the attempt under way; `stream` is None before it and after its end, and for
    fire-and-forget that is only passed on."""

    __slots__ = (
        "attempt",
        "code",
        "decision",
        "governed",
        "kind",
        "opened_at",
        "request",
        "requester",
        "requester_id",
        "route",
        "size",
        "stream",
    )

    def __init__(
        self, requester: Endpoint, requester_id: int, kind: int, decision: Decision, opened_at: float, size: int
    ) -> None:
        self.requester = requester
        self.requester_id = requester_id
        self.kind = kind
        self.decision = decision
        self.governed: Governed | None = decision.governed
        self.opened_at = opened_at
        self.size = size
        self.attempt = 1
        self.code = 0
        self.route: Route | None = None
        self.stream: Stream | None = None
        self.request: Request | None = None

    def begun(self, stream: Stream) -> None:
        """Its pair of hops is set; the request goes out next."""
        self.stream = stream

    def passed_on(self) -> None:
        """Fire-and-forget: it is sent, and over with that."""
        if self.requester.plane.flows is not None:
            flow_log.ended(self.requester.plane.flows, self, None, _OK)

    def failed(self, stream: Stream, code: int, text: bytes) -> bool:
        """The attempt ends with an ERROR frame, or its responder is gone.

        Returns whether the request was taken back to be tried elsewhere: its hops are gone then, and its requester is
        told nothing.
        """
        self.code = code
        return False

    def ended(self, stream: Stream, outcome: int) -> None:
        """Its hops are gone, and it is not tried again; `outcome` as for `finish`."""
        self.stream = None
        if self.requester.plane.flows is not None:
            flow_log.ended(self.requester.plane.flows, self, stream, outcome)
