"""A connection from the SETUP that was accepted to its end: whom it belongs to, its deadlines, how it closes.

What its peer's frames do is in `connection.py`. Both are one object; the split keeps what happens a frame apart from
what happens a second, a snapshot or once.

Ordering: routes leave the table before streams end, so that nobody picks a connection whose streams are being ended;
the outbox is flushed before its carrier closes.

Must not know: sockets, coroutines, logging, tokens, settings, storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.errors import ConnectionEnded, ConnectionFailed, ProtocolError, TokenError
from gateway.forwarding import acceptor, leasing, recall
from gateway.forwarding.budgets import Budgets
from gateway.forwarding.closing import CloseReason, reason_for_failure, reason_for_judgement, reason_for_refusal
from gateway.forwarding.ending import end_all, forbid
from gateway.forwarding.endpoint import Endpoint
from gateway.forwarding.links import KINDS, LOCAL
from gateway.forwarding.outbox import DROWNING, Carrier, Outbox
from gateway.forwarding.plane import INTERNAL
from gateway.forwarding.stamp import Form, principal_entry
from gateway.policy.access import Grant
from gateway.policy.asking import UNKNOWN, Caller
from gateway.policy.principal import Principal
from gateway.session.session import Session
from gateway.session.stream_ids import CLIENT_FIRST, SERVER_FIRST, StreamIds
from gateway.wire.frames import Error, Setup, encode

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane, Snapshot
    from gateway.forwarding.resuming import Resumption

#: How long a connection for which nothing is held back may go without a look at its deadlines; with messages that are
#: partly there, less.
LOOK_S = 5.0
LOOK_AT_PARTIALS_S = 1.0
#: How long nothing may come from a peer that was sent elsewhere before it is taken to have gone.
GOODBYE_S = 0.5


class Lifecycle(Endpoint):
    """`number`: unique in this process. `kind`, `principal`, `grant`; `form`: what its metadata is. `opened_at`:
    monotonic. `resumption`: what makes it resumable, where SETUP asked for that. `credential`: what its carrier was
    given to prove who is there, where it has a place for that. `reached`: how its peer is connected, as access rules
    ask for it."""

    __slots__ = (
        "credential",
        "kind",
        "number",
        "opened_at",
        "peer",
        "principal",
        "reached",
        "resumption",
        "session",
    )

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox, *, peer: str, kind: str = "client") -> None:
        super().__init__(plane, carrier, outbox)
        self.peer = peer
        self.kind = kind
        self.opened_at = plane.monotonic()
        self.session = Session(plane.snapshot.setup_rules, self.opened_at)
        self.principal: Principal = plane.nobody.principal
        self.reached = UNKNOWN
        self.resumption: Resumption | None = None
        self.credential: bytes | None = None
        self.number = plane.enter(cast("Connection", self))

    @property
    def caller(self) -> Caller:
        """Who asks, when this connection does in its own name."""
        return Caller.of(self.principal, self.plane.node, self.reached)

    def adopt(self, principal: Principal, grant: Grant, form: Form, stamp: bytes) -> None:
        """The connection belongs to this principal from now on."""
        self.principal = principal
        self.form = int(form)
        self.stamp = stamp
        self.by_device = acceptor.by_device(principal.kind)
        self.tokens = float(grant.limits.request_burst)
        self._be_bound(grant)

    def _be_bound(self, grant: Grant) -> None:
        self.hold(grant)
        self.look_at = 0.0
        limits = grant.limits
        if self.budgets is not None:
            self.budgets.limits = limits
        elif limits.has_budgets:
            setup = self.session.setup
            self.budgets = Budgets(limits, setup.keepalive_ms if setup is not None else 0, self.plane.now)
        self.carrier.allow(grant.limits.max_frame_bytes)

    def call(self, setup: Setup, principal: Principal, side: int) -> None:
        """This side has dialled: send SETUP, and take the other end for `principal` from now on."""
        self.session.dial(setup)
        self.ids = StreamIds(CLIENT_FIRST)
        self.peer_parity = SERVER_FIRST & 1
        self.outbox.put_frame(encode(setup))
        self.adopt(principal, self.plane.snapshot.grant(principal), Form.COMPOSITE, principal_entry(principal, ""))
        self.be_link(side, setup.lifetime_ms / 1000)
        self.accepted = True
        self.plane.register.accepted(cast("Connection", self))

    def be_link(self, side: int, silence_s: float) -> None:
        """The other end is a node, on this side of ours; it is gone when nothing comes for so many seconds."""
        self.counters.connection_turned(self.kind, KINDS[side])
        self.side = side
        self.kind = KINDS[side]
        # What it serves are others' services, and their names may be those of devices.
        self.by_device = True
        self.offered = {}
        self.session.lifetime_s = silence_s
        self.look_at = 0.0

    def judge_again(self, snapshot: Snapshot) -> None:
        """A new snapshot stands: see whether this peer may still be here, derive its grant again and forget what was
        decided under the old one (fault 61). Streams that rest on rights that are gone end."""
        if not self.accepted:
            self.hold(self.plane.nobody)
            return
        try:
            self._be(snapshot.access.judge(self.principal, self.plane.wall()))
        except TokenError as error:
            self.counters.refuse_token(error.reason)
            self.turn_out(reason_for_judgement(error.reason), error.text)
            return
        self._be_judged(snapshot.grant(self.principal))

    def renewed(self, principal: Principal, credential: bytes) -> None:
        """The peer was given a newer token: it goes by that one from now on, without a new SETUP."""
        lapsed = self.principal.renewal_only
        self._be(principal)
        self._be_judged(self.plane.snapshot.grant(principal))
        if self.resumption is not None:
            self.resumption.credential = credential
        if lapsed:
            acceptor.take_over(self)
            acceptor.be_reachable(self)

    def _be_judged(self, grant: Grant) -> None:
        """Be bound by another grant, and end what the one before allowed and this one does not."""
        before = self.grant
        self._be_bound(grant)
        withdrawn = acceptor.withdraw_forbidden(self)
        if withdrawn:
            for stream in list(self.serving.values()):
                forbid(stream)
        if not self.grant.allows_calls_of(before):
            for stream in list(self.requesting.values()):
                responder = cast("Connection", stream.responder)
                if responder.kind != INTERNAL or responder is self.plane.multicast:
                    forbid(stream)
        recall.judge_streams(cast("Connection", self))

    def _be(self, principal: Principal) -> None:
        """What is said of whoever this is has changed, or not."""
        before, self.principal = self.principal, principal
        if self.side == LOCAL and (before.groups, before.labels) != (principal.groups, principal.labels):
            self.stamp = principal_entry(principal, self.plane.node)

    def judged_otherwise(self) -> None:
        """Other `Access` documents stand, or it is connected in another way: end what they do not allow."""
        if acceptor.withdraw_forbidden(self):
            for stream in list(self.serving.values()):
                forbid(stream)
        recall.judge_streams(cast("Connection", self))

    def turn_out(self, reason: CloseReason, text: str) -> None:
        """Close, whether there is a link or not."""
        if self.resumption is not None and self.resumption.parked:
            self.end(reason)
        else:
            self.close(reason, text)

    def forgive(self, seconds: float) -> None:
        """The loop stood still for so long: move every deadline (fault 90)."""
        self.opened_at += seconds
        self.session.last_received += seconds
        self.outbox.blocked_since += seconds
        self.outbox.feeders_since += seconds
        if self.assembly is not None:
            self.assembly.forgive(seconds)

    def tick(self, now: float, wall: float) -> None:
        """Enforce this connection's deadlines (monotonic `now`, Unix `wall`)."""
        if now < self.look_at:
            return
        if self.closed:
            return
        if not self.accepted:
            if now - self.opened_at > self.plane.snapshot.setup_timeout_s:
                self.close(CloseReason.SETUP_TIMEOUT, "no SETUP in time")
            return
        if self.resumption is not None:
            if self.resumption.parked:
                if self.principal.expires_at < wall:
                    self.end(CloseReason.TOKEN_EXPIRED)
                return
            self.resumption.tick(now)
        if self.granted is not None and self.granted.due(now):
            leasing.lend(self)
        if self.assembly is not None:
            try:
                self.assembly.tick(self.grant.limits, now)
            except ProtocolError as error:
                self.fail(error)
                return
        budgets = self.budgets
        if budgets is not None and self.paused_by and budgets in self.paused_by and budgets.rested(now):
            self.resume_after(budgets)
        if self.paused_by:
            # Whoever is not read from cannot be heard: its silence is ours.
            self.session.last_received = now
        if self.session.expired(now):
            if self._abandon_link():
                return
            self.close(CloseReason.KEEPALIVE_TIMEOUT, f"nothing heard for {self.session.lifetime_s:.0f} s")
        elif 0 < self.grant.limits.max_memory_bytes < self.held_bytes:
            limit = self.grant.limits.max_memory_bytes
            text = f"over the limit of {limit} bytes that are held for you"
            self.fail(ConnectionFailed(text, reason="max_memory_bytes"))
            self.carrier.abort()
        elif self._hopeless(now):
            if self._abandon_link():
                return
            self.close(CloseReason.WRITE_TIMEOUT, "what is sent to you is not read")
            self.carrier.abort()
        elif self.principal.expires_at < wall:
            self.close(CloseReason.TOKEN_EXPIRED, "token expired; reconnect with a new one")
        elif self.draining and self._done(now):
            self.close(CloseReason.DRAINED, "drained", ConnectionEnded("drained"))
        else:
            self._look_again(now, wall)

    def _look_again(self, now: float, wall: float) -> None:
        """Nothing to do. When can there be, unless something is held back, which is looked at every time?"""
        outbox = self.outbox
        if outbox.blocked or outbox.feeders or outbox.slow or self.paused_by:
            return
        if self.draining or self.granted is not None or self.resumption is not None:
            return
        again = now + (LOOK_AT_PARTIALS_S if self.assembly is not None and len(self.assembly) else LOOK_S)
        until = min(again, self.session.last_received + self.session.lifetime_s)
        self.look_at = min(until, now + self.principal.expires_at - wall)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that this peer has the node hold, and that others may want."""
        held = self.outbox.size + self.carrier.held()
        if self.assembly is not None:
            held += self.assembly.size
        if self.resumption is not None:
            held += self.resumption.retained.size
        return held

    def _hopeless(self, now: float) -> bool:
        """Whether what is sent to this peer will never be read. Before that, others stop waiting for it."""
        outbox = self.outbox
        if not (outbox.blocked or outbox.feeders or outbox.slow):
            return False
        if outbox.impatient(now):
            outbox.give_up(self)
        if outbox.slow and outbox.size > outbox.hard * DROWNING:
            return True
        return outbox.stuck_for(now) > self.grant.limits.write_deadline_s

    def _done(self, now: float) -> bool:
        """Whether nothing is left to do here. What was sent before the word to go was read is still on its way (P5)."""
        if self.requesting or self.serving or self.outbox.blocked:
            return False
        return now - self.session.last_received > GOODBYE_S

    def _abandon_link(self) -> bool:
        """The link is as good as lost: let go of it if the session can be resumed over another."""
        carrier = self.carrier
        if self.resumption is None or not self.resumption.park():
            return False
        carrier.abort()
        return True

    def drain(self) -> None:
        """This node is going: streams that are open may finish, then the connection closes."""
        if self.resumption is not None and self.resumption.parked:
            # It could come back to no node but this one.
            self.end(CloseReason.DRAINED)
        if not self.closed and not self.draining:
            self.draining = True
            self.look_at = 0.0
            self.plane.table.remove_owner(self)
            if self.granted is not None:
                leasing.lend(self)
            self.outbox.put_frame(encode(Error(0, ConnectionEnded.code, "this node is draining; reconnect elsewhere")))

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the protocol: tell it on stream 0 and close."""
        if self.closed:
            return
        self.counters.refuse(error.reason)
        self.close((reason_for_failure if self.accepted else reason_for_refusal)(error), str(error), error)

    def close(self, reason: CloseReason, text: str, error: ProtocolError | None = None) -> None:
        """Close, telling the peer why: ERROR on stream 0, then the carrier's own close."""
        if self.closed:
            return
        self.closed = True
        if error is None and reason is not CloseReason.PEER_FAILED:
            error = (ConnectionEnded if reason is CloseReason.DRAINED else ConnectionFailed)(text)
        self._release(reason, text)
        if error is not None:
            # Behind what the end of its own streams told it: nothing may follow this frame.
            self.outbox.put_frame(encode(Error(0, error.code, str(error))))
        self.outbox.flush()
        self.outbox.discard()
        self.carrier.close(int(reason.code), text)

    def lost(self, reason: CloseReason) -> None:
        """The carrier is gone already: wait for another, or end."""
        if self.closed:
            return
        if self.resumption is None or not self.resumption.park():
            self.end(reason)

    def end(self, reason: CloseReason) -> None:
        """There is no carrier, and none will come."""
        if self.closed:
            return
        self.closed = True
        self._release(reason)
        self.outbox.discard()

    def _release(self, reason: CloseReason, text: str = "") -> None:
        """Leave the table, then end every stream: requesters get ERROR[CANCELED], responders CANCEL."""
        # What was pipelined behind the end opens nothing any more.
        self.accepted = False
        self.plane.table.remove_owner(self)
        end_all(self)
        if self.resumption is not None:
            self.resumption.forget()
        self.never_mind_others()
        self.partials = None
        self.awaiting = None
        self.offered = None
        self.assembly = None
        self.forget_decisions()
        self.plane.leave(cast("Connection", self), reason, text)
