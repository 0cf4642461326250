"""Sessions that outlive their link: what a connection is beyond its socket, and how another socket takes its place.

A connection whose SETUP asked to be resumable counts what comes in (`Counting`, in front of it) and keeps what goes
out until the peer has confirmed it (`RetainingOutbox`, in place of its outbox). When its link is lost it is parked: it
stays in the table, its streams and their credit stay, and what is sent to it is kept. A RESUME on a new link makes that
link the connection's; a parked connection that waits too long, or for which more is sent than is kept, ends as one
whose socket was lost.

Ordering of a resume: find and judge, which change nothing; drop the old link; attach the new one; forget what the peer
has; RESUME_OK; what the peer lacks; then whatever is sent from then on (`session.resume`). Connections that did not
ask to be resumable have none of this, on the hot path nor elsewhere.

Must not know: sockets, what a frame of a stream means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.errors import ConnectionFailed, ProtocolError, RejectedResume, RejectedSetup, TokenError
from gateway.forwarding import leasing
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.outbox import Carrier, NoCarrier, Outbox
from gateway.session import keepalive
from gateway.session.parking import Holder
from gateway.session.resume import Received, Retained, answer, judge, resume_frame
from gateway.wire.frames import HEADER_BYTES, Error, FrameType, ResumeOk, encode, peek_stream_id, peek_type
from gateway.wire.sink import FrameSink

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.policy.limits import LimitsProfile
    from gateway.policy.principal import Principal

#: What a parked connection adds to its load, so that the balancer takes those with a link before it.
PARKED_LOAD = 1 << 30
#: Bytes of stream frames with which one KEEPALIVE is in order: a device keeps little of what it sent, and asks often
#: what has arrived.
ASKED_BYTES = 256
_TAKEN_OVER = "the session was resumed over another link"


class Counting(FrameSink):
    """In front of a connection: counts what comes, whether or not the connection has a use for it (P50)."""

    __slots__ = ("_asked_at", "_connection", "_received")

    def __init__(self, connection: Connection, received: Received) -> None:
        self._connection = connection
        self._received = received
        self._asked_at = received.position

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        if end - start >= HEADER_BYTES:
            kind, position = peek_type(data, start), self._received.position
            self._received.take(kind, peek_stream_id(data, start), end - start)
            if kind == FrameType.KEEPALIVE and position - self._asked_at >= ASKED_BYTES:
                self._asked_at = position
                if self._connection.budgets is not None:
                    self._connection.budgets.expect_keepalive()
        self._connection.frame_received(data, start, end)


class RetainingOutbox(Outbox):
    """Keeps what it sends until that is confirmed; while `parked` it sends nothing.

    It counts as congested when it keeps more than three quarters of what it may, so that producers are held by their
    credit before frames have to be given up.
    """

    __slots__ = ("_full", "parked", "resumption", "retained")

    resumption: Resumption

    def __init__(self, replaced: Outbox, retained: Retained) -> None:
        super().__init__(
            replaced.carrier,
            replaced.flusher,
            replaced.counters,
            replaced.high,
            replaced.hard,
            prefixed=replaced.prefixed,
        )
        self.retained = retained
        self.parked = False
        self._full = retained.limit * 3 // 4

    def put(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        self._retain(stream_id.to_bytes(4, "big") + data[start:end])
        if not self.parked:
            super().put(stream_id, data, start, end)

    def put_request(self, stream_id: int, head: bytes, metadata: bytes, data: bytes, start: int, end: int) -> None:
        self._retain(stream_id.to_bytes(4, "big") + head + metadata + data[start:end])
        if not self.parked:
            super().put_request(stream_id, head, metadata, data, start, end)

    def put_first(self, frame: bytes) -> None:
        """In its turn: what it sends is counted in order."""
        self.put_frame(frame)

    def _retain(self, frame: bytes) -> None:
        retained = self.retained
        retained.append(frame)
        if self.parked and retained.overflowed and self.untouched:
            # Whoever is sending is in the middle of something: the session ends with the loop turn.
            self.untouched = False
            self.touched()

    @property
    def full(self) -> bool:
        """Whether so much is unconfirmed that producers should wait."""
        return self.retained.size > self._full

    @property
    def congested(self) -> bool:
        return self.full or super().congested

    def flush(self) -> None:
        retained = self.retained
        if retained.overflowed:
            self.resumption.overflowed()
        if self.parked:
            self.untouched = True
            return
        if retained.should_ask():
            self.put_frame(keepalive.question(self.resumption.received.position))
            self.resumption.asked()
        super().flush()

    def park(self) -> None:
        """The link is lost: what has not left is dropped, because it is kept, and nobody waits for it to leave."""
        self.parked = True
        self._let_go(NoCarrier())
        self._relieve()

    def attach(self, carrier: Carrier, *, prefixed: bool) -> None:
        self.parked = False
        self._let_go(carrier)
        self.prefixed = prefixed

    def _let_go(self, carrier: Carrier) -> None:
        self.take()
        self.carrier = carrier
        self.blocked = False
        self.size = carrier.buffered()

    def send_again(self, frames: Iterable[bytes]) -> None:
        """Put frames that are kept already, or that need not be."""
        for frame in frames:
            super().put(int.from_bytes(frame[:4], "big"), frame, 4, len(frame))

    def confirmed(self) -> None:
        """The peer has confirmed something: held credit may go on."""
        if self.throttled and not self.congested:
            self._relieve()


class Resumption:
    """What makes a connection resumable. `received`, `retained`: positions both ways. `parked`: it has no link.
    `over`: it cannot be resumed any more, and lives on as any other. `credential`: what its SETUP was let in by."""

    __slots__ = (
        "_connection",
        "_full_at",
        "_full_since",
        "credential",
        "over",
        "parked",
        "received",
        "retained",
        "token",
    )

    def __init__(self, connection: Connection, token: bytes, credential: bytes | None, limit: int) -> None:
        self._connection = connection
        self.token = token
        self.credential = credential
        self.received = Received()
        self.retained = Retained(limit)
        self.parked = False
        self.over = False
        self._full_at = -1
        self._full_since = 0.0

    @property
    def _outbox(self) -> RetainingOutbox:
        outbox = self._connection.outbox
        assert isinstance(outbox, RetainingOutbox)
        return outbox

    def asked(self) -> None:
        """The peer was asked what it has."""
        if self._connection.budgets is not None:
            self._connection.budgets.expect_keepalive()

    def confirm(self, position: int) -> None:
        """The peer's KEEPALIVE says what it has (P54). Raises ConnectionFailed when it cannot have that."""
        self.retained.trim(position)
        self._outbox.confirmed()

    def tick(self, now: float) -> None:
        """A peer that confirms nothing, because it keeps no count, must not hold its producers for ever."""
        if self.over or not self._outbox.full:
            self._full_at = -1
        elif self._full_at != self.retained.first_available:
            self._full_at = self.retained.first_available
            self._full_since = now
        elif now - self._full_since > self._connection.grant.limits.write_deadline_s:
            self.retained.give_up()
            self._outbox.confirmed()
            self.overflowed()

    def overflowed(self) -> None:
        """More is unconfirmed than is kept (fault 48)."""
        if self.parked:
            self._connection.end(CloseReason.RESUME_OVERFLOWED)
        else:
            self.forget()

    def park(self) -> bool:
        """The link is lost. False when the session ends with it."""
        connection = self._connection
        plane = connection.plane
        if self.parked:
            return True
        limits = connection.grant.limits
        if self.over or self.retained.overflowed or connection.draining or not limits.resume_bytes:
            return False
        if not plane.parked.park(self.token, plane.monotonic(), limits.resume_hold_s):
            return False
        connection.carrier.detach()
        connection.carrier = NoCarrier()
        self.parked = True
        connection.pending += PARKED_LOAD
        connection.counters.sessions_parked += 1
        leasing.suspend(connection)
        self._outbox.park()
        return True

    def attach(self, newcomer: Connection, position: int, ok: ResumeOk) -> None:
        """Make the link of `newcomer`, which was a connection only to say RESUME, this connection's."""
        connection = self._connection
        plane = connection.plane
        outbox = self._outbox
        if self.parked:
            self._unpark()
        else:
            self._drop_link()
        carrier = newcomer.carrier
        newcomer.closed = True
        plane.leave(newcomer, CloseReason.RESUMED)
        outbox.attach(carrier, prefixed=newcomer.outbox.prefixed)
        connection.carrier = carrier
        connection.peer = newcomer.peer
        reached, connection.reached = connection.reached, newcomer.reached
        connection.session.last_received = plane.monotonic()
        carrier.attach(connection, Counting(connection, self.received))
        carrier.allow(connection.grant.limits.max_frame_bytes)
        if connection.paused_by:
            carrier.pause_reading()
        self.retained.trim(position)
        plane.parked.attach(self.token)
        outbox.send_again([encode(ok), *self.retained.replay_from(position)])
        leasing.resume(connection)
        outbox.confirmed()
        connection.counters.sessions_resumed += 1
        if connection.reached != reached:
            # What was judged by how it was connected before is judged by how it is now.
            connection.forget_decisions()
            connection.judged_otherwise()

    def forget(self) -> None:
        """The session cannot be resumed any more."""
        if not self.over:
            self.over = True
            self._connection.plane.parked.remove(self.token)
            if self.parked:
                self._unpark()

    def _unpark(self) -> None:
        self.parked = False
        self._connection.pending -= PARKED_LOAD
        self._connection.counters.sessions_parked -= 1

    def _drop_link(self) -> None:
        """One link a session (fault 46). What the old one still brings is not the session's any more."""
        connection = self._connection
        outbox = connection.outbox
        # What has not left is sent again over the other link.
        outbox.take()
        outbox.put_frame(encode(Error(0, ConnectionFailed.code, _TAKEN_OVER)))
        outbox.flush()
        connection.carrier.close(int(CloseReason.TAKEN_OVER.code), _TAKEN_OVER)
        connection.carrier.detach()


def admit(connection: Connection, token: bytes, principal: Principal, limits: LimitsProfile) -> None:
    """Enter the session of an authenticated SETUP. Raises RejectedSetup, with nothing entered (P05, P53)."""
    if not limits.resume_bytes:
        raise RejectedSetup("resume is not supported", reason="resume_unsupported")
    replaced = connection.plane.parked.admit(token, _holder(principal), connection)
    if replaced is not None:
        replaced.end(CloseReason.RESUME_EXPIRED)


def begin(connection: Connection, token: bytes, credential: bytes | None) -> None:
    """Make an admitted connection resumable; it has no streams yet."""
    resumption = Resumption(connection, token, credential, connection.grant.limits.resume_bytes)
    outbox = RetainingOutbox(connection.outbox, resumption.retained)
    outbox.resumption = resumption
    connection.outbox = outbox
    connection.resumption = resumption
    connection.session.received = resumption.received
    connection.carrier.attach(connection, Counting(connection, resumption.received))


def resume(newcomer: Connection, data: bytes, start: int, end: int) -> None:
    """A link that begins with RESUME: hand it to its session, or say why not (P51, P52; faults 46, 47, 50)."""
    plane = newcomer.plane
    try:
        if plane.draining:
            raise RejectedResume("this node is draining; connect to another", reason="draining")
        frame = resume_frame(data, start, end)
        connection = plane.parked.find(frame.token, _proved(newcomer), plane.monotonic())
        resumption = connection.resumption
        assert resumption is not None
        _judge_again(connection)
        ok = judge(frame, resumption.received, resumption.retained)
    except ProtocolError as error:
        plane.counters.refuse_resume(error.reason)
        refusal = answer(error)
        newcomer.close(CloseReason.REFUSED_RESUME, str(refusal), refusal)
        return
    resumption.attach(newcomer, frame.server_position, ok)


def _proved(newcomer: Connection) -> Holder | None:
    """Who a link has proved to be before its RESUME, which has no room for a credential (fault 46)."""
    if newcomer.credential is None:
        return None
    return _holder(_authenticate(newcomer.plane, newcomer.credential))


def _judge_again(connection: Connection) -> None:
    """Whether who set the session up would be let in now, and as the same (fault 46)."""
    plane = connection.plane
    assert connection.resumption is not None
    if connection.principal.expires_at < plane.wall():
        raise RejectedResume("the token of this session has expired; set up a new one", reason="token_expired")
    if _holder(_authenticate(plane, connection.resumption.credential)) != _holder(connection.principal):
        raise RejectedResume("this session belongs to another; set up a new one", reason="resume_other_holder")
    if not connection.grant.limits.resume_bytes:
        raise RejectedResume("resume is not supported", reason="resume_unsupported")


def _authenticate(plane: Plane, credential: bytes | None) -> Principal:
    try:
        return plane.snapshot.admit(credential, plane.wall())
    except TokenError as error:
        plane.counters.refuse_token(error.reason)
        raise RejectedResume(str(error), reason=f"token_{error.reason.removeprefix('token_')}") from error


def _holder(principal: Principal) -> Holder:
    return Holder(principal.subject, principal.key_id)
