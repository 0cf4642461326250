"""A request that somebody watches: a document that governs it, its deadline, the flow log, a trace.

Most requests have none, and cost one test for it. A call outlives its stream where the request is tried again. `finish`
lets go of it, because a stream is not followed by the garbage collector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.errors import DeadlineExceeded, ResponderGone
from gateway.forwarding import flow_log
from gateway.forwarding.admitting import UNKNOWN, WELL, verdict_of
from gateway.forwarding.deadlines import Due
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_RESPONSE
from gateway.policy.retrying import Failure, failure_of

if TYPE_CHECKING:
    from gateway.forwarding.admitting import Guard
    from gateway.forwarding.choosing import Part
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.governed import Governed
    from gateway.forwarding.stream import Stream
    from gateway.forwarding.tracing import Trace
    from gateway.policy.retry_budget import RetryAccount
    from gateway.routing.route import Route

# How what `overdue.exceeded` says begins, on any node.
_EXCEEDED = b"deadline exceeded"
# What `ending.finish` calls them, which cannot be imported here.
_OK = 0
_CANCELED = 2


class Call(Due):
    """`attempt`: from 1. `opened_at`: when the request came, by the plane's clock; `until`: when it is over, 0.0 for
    never; `limited`: because its document says so, and not its caller. `size`: bytes of the request's data. `code`: of
    the ERROR frame that ended it, 0 without one. `kept`: the data of its request, where it may be sent once more, with
    `head`, `n` and `metadata` as they came; else None. `part`: of its service, where a document governs it. `route`,
    `stream`: of the attempt under way; `stream` is None before it and after its end, and for fire-and-forget that is
    only passed on. `guard`: who let it go on, by `ticket`, and is to be told of its end. `trace`: what is recorded of
    it; None: nothing. `account`: the budget that it counts in; `been`: where tries before this one have been; `try_s`:
    how long one may take, in seconds, 0.0: as long as it likes."""

    __slots__ = (
        "account",
        "attempt",
        "been",
        "code",
        "decision",
        "governed",
        "guard",
        "head",
        "kept",
        "kind",
        "limited",
        "metadata",
        "n",
        "opened_at",
        "part",
        "requester",
        "requester_id",
        "route",
        "size",
        "stream",
        "ticket",
        "trace",
        "try_s",
        "until",
    )

    def came(
        self, requester: Endpoint, requester_id: int, kind: int, decision: Decision, opened_at: float, size: int
    ) -> None:
        """Begin. No constructor, whose arguments would cross into compiled code boxed: this runs once a request."""
        self.requester = requester
        self.requester_id = requester_id
        self.kind = kind
        self.decision = decision
        self.governed: Governed | None = decision.governed
        self.opened_at = opened_at
        self.until = 0.0
        self.limited = False
        self.try_s = 0.0
        self.been: tuple[Route, ...] = ()
        self.account: RetryAccount | None = None
        self.size = size
        self.attempt = 1
        self.code = 0
        self.part: Part | None = None
        self.route: Route | None = None
        self.stream: Stream | None = None
        self.kept: bytes | None = None
        self.tick = 0
        self._before = self._after = None
        self.guard: Guard | None = None
        self.ticket = 0
        self.trace: Trace | None = None

    def admit(self) -> None:
        """Ask whoever guards the service whether it may go on. Raises RateLimited, Overloaded."""
        governed = self.governed
        if governed is not None and governed.state.guard is not None:
            guard = governed.state.guard
            requester = self.requester
            plane = requester.plane
            self.ticket = guard.admit(
                requester, self.decision, self.kind, governed.priority, governed.here, plane.now, plane.overload
            )
            self.guard = guard

    def keep(self, head: int, n: int, metadata: bytes, data: bytes) -> None:
        """It may be sent once more: keep it, and count it among those that bring retries along."""
        governed = self.governed
        assert governed is not None
        self.head = head
        self.n = n
        self.metadata = metadata
        self.kept = data
        self.try_s = governed.try_s
        self.account = governed.state.account
        self.account.begin()

    def unkeep(self) -> None:
        """It is for somebody else to send it once more."""
        self._settle()
        self.kept = None
        self.try_s = 0.0

    def _settle(self) -> None:
        account = self.account
        if account is not None:
            self.account = None
            account.end(self.attempt > 1)

    def give_up(self) -> None:
        """It was admitted, and is not sent: nobody is to blame."""
        self._settle()
        self._over(UNKNOWN, -1.0)

    def given_up(self) -> None:
        """It was to be tried again, and is not: its caller has gone, or was told why."""
        self.give_up()
        if self.trace is not None:
            self.trace.ended(_CANCELED, text="not tried again")

    def tried(self, verdict: int) -> None:
        """The attempt under way is over, well or not, as far as its instance is concerned."""
        stream, governed = self.stream, self.governed
        if self.guard is not None and stream is not None and self.route is not None and governed is not None:
            now = stream.requester.plane.now
            seconds = now - stream.opened_at if self.kind == REQUEST_RESPONSE else -1.0
            self.guard.tried(self.route, verdict, seconds, now, len(governed.candidates))

    def _over(self, verdict: int, seconds: float) -> None:
        guard, governed = self.guard, self.governed
        if guard is not None and governed is not None:
            self.guard = None
            now = self.requester.plane.now
            guard.over(self.ticket, governed.priority, governed.here, self.kind, verdict, seconds, now)

    def begun(self, stream: Stream) -> None:
        """Its pair of hops is set; the request goes out next."""
        self.stream = stream
        if self.kind == REQUEST_FNF:
            return
        plane = self.requester.plane
        at = self.until
        if self.try_s > 0.0 and (at == 0.0 or plane.now + self.try_s < at):
            at = plane.now + self.try_s
        if at > 0.0:
            plane.deadlines.put(self, at, plane.now)

    def passed_on(self) -> None:
        """Fire-and-forget: it is sent, and over with that."""
        self._over(UNKNOWN, -1.0)
        if self.requester.plane.flows is not None:
            flow_log.ended(self.requester.plane.flows, self, None, _OK)
        if self.trace is not None:
            self.trace.ended(0)

    def answered(self) -> None:
        """An item of its stream has come, or a part of one: a stream that runs has no deadline."""
        if self.tick:
            self.requester.plane.deadlines.take(self)

    def failed(self, stream: Stream, code: int, text: bytes) -> bool:
        """The attempt ends with an ERROR frame, or its responder is gone.

        Returns whether the request was taken back to be tried elsewhere: its hops are gone then, and its requester is
        told nothing. Or it was the timeout of a document here, and is told so.
        """
        self.code = code
        if self.trace is not None:
            self.trace.text = text
        connection = cast("Connection", self.requester)
        if self.kept is not None and connection.try_again(self, stream, failure_of(code)):
            return True
        if not self.limited or code != DeadlineExceeded.code or stream.responder.side == LOCAL:
            return False
        if not text.startswith(_EXCEEDED):
            return False
        # A node further on was first: it had less, and does not know whose time it was.
        self.try_s = 0.0
        connection.overdue(self)
        return True

    def gone(self, stream: Stream) -> bool:
        """The responder is gone. Returns as `failed` does."""
        self.code = ResponderGone.code
        if self.trace is not None:
            self.trace.text = b"responder disconnected"
        return self.kept is not None and cast("Connection", self.requester).try_again(self, stream, Failure.GONE)

    def overdue(self) -> None:
        cast("Connection", self.requester).overdue(self)

    def ended(self, stream: Stream, outcome: int) -> None:
        """Its hops are gone, and it is not tried again; `outcome` as for `finish`."""
        if self.guard is not None:
            verdict = WELL if outcome == 0 else verdict_of(self.code) if outcome == 1 else UNKNOWN
            self.tried(verdict)
            self._over(verdict, self.requester.plane.now - self.opened_at)
        self.stream = None
        self._settle()
        if self.tick:
            self.requester.plane.deadlines.take(self)
        if self.requester.plane.flows is not None:
            flow_log.ended(self.requester.plane.flows, self, stream, outcome)
        if self.trace is not None:
            self.trace.ended(outcome, self.code)

    def forgotten(self) -> None:
        """Its hops are gone as if it had never been asked."""
        self.stream = None
        if self.tick:
            self.requester.plane.deadlines.take(self)
        self.give_up()
        if self.trace is not None:
            self.trace.ended(1, text="asked again elsewhere")
