"""One RSocket connection of the data plane: frames in, frames out to other connections. The hot path.

A frame on a known stream is patched (four bytes) and appended to the other side's outbox, and nothing else. A request
frame opens a stream: the decision cache answers, the balancer picks, the pair of hops is set. Stream 0 belongs to the
session. Whatever a peer sends, nothing is raised out of here: a `RequestError` becomes an ERROR frame on its stream, a
`ProtocolError` an ERROR frame on stream 0 and the end of the connection (DESIGN 3).

Ordering: hops are removed before anything is told about a stream's end; routes before a connection's streams end; the
outbox is flushed before its carrier closes.

Must not know: sockets, coroutines, logging, tokens, settings, storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from gateway.errors import (
    ConnectionEnded,
    ConnectionFailed,
    FrameError,
    ProtocolError,
    TokenError,
)
from gateway.forwarding import acceptor, leasing, resuming
from gateway.forwarding.budgets import PREMATURE_S, Budgets
from gateway.forwarding.closing import CloseReason, reason_for_failure, reason_for_judgement, reason_for_refusal
from gateway.forwarding.credit import LARGE_ITEM_BYTES
from gateway.forwarding.ending import CANCELED, FAILED, OK, break_stream, end_all, finish, forbid, requester_done
from gateway.forwarding.endpoint import Endpoint
from gateway.forwarding.flow import refill, request_n
from gateway.forwarding.opening import drop_partial, grant_partial, open_request, resume_partial
from gateway.forwarding.outbox import DROWNING, Carrier, Outbox
from gateway.forwarding.plane import INTERNAL
from gateway.forwarding.stamp import Form
from gateway.forwarding.stream import (
    REQUEST_CHANNEL,
    REQUEST_FNF,
    REQUEST_RESPONSE,
    REQUEST_SERIES,
    REQUEST_STREAM,
    REQUEST_UNFINISHED,
    REQUESTER_DONE,
    RESPONDER_DONE,
    RESPONSE_SERIES,
    Stream,
)
from gateway.policy.access import Grant
from gateway.policy.principal import Principal
from gateway.session import keepalive
from gateway.session.session import Event, Session
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    IGNORE,
    METADATA,
    NEXT,
    Cancel,
    Error,
    FrameType,
    encode,
    peek_type,
)

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane, Snapshot
    from gateway.forwarding.resuming import Resumption

_PAYLOAD = int(FrameType.PAYLOAD)
_REQUEST_N = int(FrameType.REQUEST_N)
_CANCEL = int(FrameType.CANCEL)
_ERROR = int(FrameType.ERROR)
_ENDS = (_CANCEL, _ERROR)
_KNOWN = frozenset(int(kind) for kind in FrameType) - {int(FrameType.EXT)}
_FOLLOWS_COMPLETE = FOLLOWS | COMPLETE
#: How long a connection for which nothing is held back may go without a look at its deadlines; with messages that are
#: partly there, less.
LOOK_S = 5.0
LOOK_AT_PARTIALS_S = 1.0
#: How long nothing may come from a peer that was sent elsewhere before it is taken to have gone.
GOODBYE_S = 0.5
_NEXT_COMPLETE = NEXT | COMPLETE
_CANCEL_FRAME = encode(Cancel(1))


class Connection(Endpoint):
    """`requesting`: streams that this peer opened, by its ids. `serving`: streams opened towards it, by ours.

    Attributes that others read: `number` (unique in this process), `kind`, `principal`, `grant`, `form` (what its
    metadata is), `pending` (streams it serves; the balancer's load), `opened_at` (monotonic), `closed`, `frames_in` and
    `bytes_in` (what its peer sent), `resumption` (what makes it resumable, where SETUP asked for that), `credential`
    (what its carrier was given to prove who is there, where it has a place for that).
    """

    __slots__ = (
        "bytes_in",
        "credential",
        "frames_in",
        "kind",
        "number",
        "opened_at",
        "peer",
        "principal",
        "resumption",
        "session",
    )

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox, *, peer: str, kind: str = "client") -> None:
        super().__init__(plane, carrier, outbox)
        self.peer = peer
        self.kind = kind
        self.opened_at = plane.monotonic()
        self.frames_in = 0
        self.bytes_in = 0
        self.session = Session(plane.snapshot.setup_rules, self.opened_at)
        self.principal: Principal = plane.nobody.principal
        self.resumption: Resumption | None = None
        self.credential: bytes | None = None
        self.number = plane.enter(self)

    # Frames in

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        """Take one whole RSocket frame, `data[start:end]`. Never raises for anything that a peer can send."""
        try:
            if end - start < 6:
                raise FrameError(f"frame of {end - start} bytes is shorter than its header")
            counters = self.counters
            counters.frames_in += 1
            counters.bytes_in += end - start
            self.frames_in += 1
            self.bytes_in += end - start
            stream_id = (data[start] & 0x7F) << 24 | data[start + 1] << 16 | data[start + 2] << 8 | data[start + 3]
            head = data[start + 4] << 8 | data[start + 5]
            kind = head >> 10
            if kind == _PAYLOAD:
                stream = self.serving.find(stream_id)
                if stream is not None:
                    self._response(stream, head, data, start, end)
                    return
                stream = self.requesting.find(stream_id)
                if stream is not None:
                    self._request_payload(stream, head, data, start, end)
                    return
            elif 4 <= kind <= 7 and stream_id:
                if self.accepted:
                    open_request(self, kind, head, stream_id, data, start, end)
                    return
            elif kind == _REQUEST_N:
                if request_n(self, stream_id, data, start, end):
                    return
            elif kind in _ENDS and self._end(kind, stream_id, data, start, end):
                return
            self._other(kind, head, stream_id, data, start, end)
        except ProtocolError as error:
            self.fail(error)

    def _response(self, stream: Stream, head: int, data: bytes, start: int, end: int) -> None:
        """A PAYLOAD of the responder."""
        if head & METADATA and _torn(data, start, end):
            self._break_torn(stream, head)
            return
        if head & _FOLLOWS_COMPLETE == _FOLLOWS_COMPLETE:
            data, start, end = _without_follows(data, start, end)
            head &= ~FOLLOWS
        if (head & FOLLOWS or stream.answering) and self._breaks(stream, head, end - start, False):
            return
        outbox = stream.requester.outbox
        if stream.interaction != REQUEST_RESPONSE:
            if not self._response_item(stream, head, data, start, end):
                return
        elif head & FOLLOWS:
            stream.state |= RESPONSE_SERIES
            outbox.put(stream.requester_id, data, start + 4, end)
        elif head & _NEXT_COMPLETE or stream.state & RESPONSE_SERIES:
            # P34: without COMPLETE it is complete all the same.
            outbox.put(stream.requester_id, data, start + 4, end)
            finish(stream, OK)
        else:
            break_stream(stream, self, "PAYLOAD with neither NEXT nor COMPLETE", "empty_payload")
            return
        if outbox.size > outbox.hard:
            self.pause_for(outbox)

    def _response_item(self, stream: Stream, head: int, data: bytes, start: int, end: int) -> bool:
        credit = stream.down
        state = stream.state
        if credit is None or state & RESPONDER_DONE:
            self.stray(stream.responder_id, head, end - start)
            return False
        if end - start > LARGE_ITEM_BYTES:
            credit.narrow(end - start)
        if head & FOLLOWS:
            stream.state = state | RESPONSE_SERIES
            stream.requester.outbox.put(stream.requester_id, data, start + 4, end)
            return True
        if head & NEXT or state & RESPONSE_SERIES:
            credit.outstanding -= 1
            if credit.outstanding < 0:
                break_stream(stream, self, "more payloads than were requested", "credit_exceeded")
                return False
        elif not head & COMPLETE:
            break_stream(stream, self, "PAYLOAD with neither NEXT nor COMPLETE", "empty_payload")
            return False
        if state & RESPONSE_SERIES:
            stream.state = state & ~RESPONSE_SERIES
        stream.requester.outbox.put(stream.requester_id, data, start + 4, end)
        if head & COMPLETE:
            if stream.interaction == REQUEST_STREAM or state & REQUESTER_DONE:
                finish(stream, OK)
            else:
                stream.state |= RESPONDER_DONE
        elif credit.held:
            refill(stream)
        return True

    def _request_payload(self, stream: Stream, head: int, data: bytes, start: int, end: int) -> None:
        """A PAYLOAD of the requester: a further fragment of the request, or an item of a channel."""
        if head & METADATA and _torn(data, start, end):
            self._break_torn(stream, head)
            return
        if head & _FOLLOWS_COMPLETE == _FOLLOWS_COMPLETE:
            data, start, end = _without_follows(data, start, end)
            head &= ~FOLLOWS
        state = stream.state
        responder = stream.responder
        if state & REQUEST_UNFINISHED:
            if head & METADATA:
                # The stamp went out with the metadata; more of it would let a caller forge an identity (fault 38).
                if not head & FOLLOWS:
                    stream.state = state & ~REQUEST_UNFINISHED
                break_stream(stream, self, "metadata after data", "metadata_after_data")
                return
            if self._breaks(stream, head, end - start, True):
                return
            responder.outbox.put(stream.responder_id, data, start + 4, end)
            if not head & FOLLOWS:
                stream.state = state & ~REQUEST_UNFINISHED
                if stream.interaction == REQUEST_FNF:
                    finish(stream, OK)
                elif stream.interaction == REQUEST_CHANNEL and head & COMPLETE:
                    requester_done(stream)
        elif state & REQUESTER_DONE or stream.up is None:
            self.stray(stream.requester_id, head, end - start)
            return
        else:
            if (head & FOLLOWS or stream.coming) and self._breaks(stream, head, end - start, True):
                return
            if end - start > LARGE_ITEM_BYTES:
                stream.up.narrow(end - start)
            if not head & FOLLOWS:
                if head & NEXT or state & REQUEST_SERIES:
                    stream.up.outstanding -= 1
                    if stream.up.outstanding < 0:
                        break_stream(stream, self, "more payloads than were requested", "credit_exceeded")
                        return
                elif not head & COMPLETE:
                    break_stream(stream, self, "PAYLOAD with neither NEXT nor COMPLETE", "empty_payload")
                    return
                stream.state = state & ~REQUEST_SERIES
            else:
                stream.state = state | REQUEST_SERIES
            responder.outbox.put(stream.responder_id, data, start + 4, end)
            if head & COMPLETE:
                requester_done(stream)
            elif stream.up.held:
                refill(stream)
        outbox = responder.outbox
        if outbox.size > outbox.hard:
            self.pause_for(outbox)

    def _breaks(self, stream: Stream, head: int, size: int, coming: bool) -> bool:
        """Whether a fragment is too small, or makes its message too large; its stream is then over (faults 34, 35).

        The node holds none of it, but whoever puts it together does.
        """
        total = size + (stream.coming if coming else stream.answering)
        follows = head & FOLLOWS
        if coming:
            stream.coming = total if follows else 0
        else:
            stream.answering = total if follows else 0
        limits = self.grant.limits
        if follows and size < self.min_fragment:
            break_stream(stream, self, f"fragment below {self.min_fragment} bytes", "min_fragment_bytes")
        elif self.budgets is not None and total > limits.max_reassembly_bytes:
            text = f"message above {limits.max_reassembly_bytes} bytes"
            break_stream(stream, self, text, "max_reassembly_bytes")
        else:
            return False
        self.broke_message()
        return True

    def relieved(self, stream: Stream) -> None:
        if self.requesting.find(stream.requester_id) is stream:  # it may have ended while it waited
            refill(stream)

    # Ends of streams

    def _end(self, kind: int, stream_id: int, data: bytes, start: int, end: int) -> bool:
        """CANCEL or ERROR on a known stream; False when the stream is not known."""
        if kind == _ERROR and end - start < 10:
            raise FrameError("error code is cut short")
        stream = self.requesting.find(stream_id)
        if stream is not None:
            if kind == _ERROR and stream.interaction != REQUEST_CHANNEL:
                # Only a channel's requester has errors to tell; responders of other streams overlook them.
                data, start, end = _CANCEL_FRAME, 0, len(_CANCEL_FRAME)
            stream.responder.outbox.put(stream.responder_id, data, start + 4, end)
            stream.state &= ~REQUEST_UNFINISHED
            finish(stream, CANCELED)
            budgets = self.budgets
            if budgets is not None and self.plane.now - stream.opened_at < PREMATURE_S:
                budgets.premature_end(len(self.requesting))
            return True
        stream = self.serving.find(stream_id)
        if stream is None:
            # P41: CANCEL inside a fragment series drops what was there.
            if self.partials is not None and drop_partial(self, stream_id):
                return True
            return self.strays.forget(stream_id)
        if kind == _ERROR:
            if stream.interaction != REQUEST_FNF:  # P35
                stream.requester.outbox.put(stream.requester_id, data, start + 4, end)
            finish(stream, FAILED)
        elif stream.up is None:
            # Nothing comes from this requester that could be canceled.
            self.ignore(end - start)
        elif not stream.state & REQUESTER_DONE:
            # The responder wants no more items; its own may still come, and the requester's are under way.
            stream.requester.outbox.put(stream.requester_id, data, start + 4, end)
            stream.requester.strays.excused += 1 + stream.up.outstanding
            requester_done(stream)
        return True

    def _break_torn(self, stream: Stream, head: int) -> None:
        """P24: a frame whose metadata goes beyond it costs its sender the connection, or with IGNORE the stream. Passed
        on, it would cost the other side its connection."""
        if not head & IGNORE:
            raise FrameError("metadata length goes beyond the frame")
        break_stream(stream, self, "metadata length goes beyond the frame", "malformed_frame")

    # Everything else

    def _other(self, kind: int, head: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Frames that belong to no stream: the first one, stream 0, fragments that wait, strays."""
        if self.closed:
            return
        if not self.accepted:
            self._first(data, start, end)
            return
        if kind == _PAYLOAD:
            if self.partials is not None and stream_id in self.partials:
                resume_partial(self, self.partials[stream_id], head, data, start, end)
                return
            if stream_id:
                self.stray(stream_id, head, end - start)
                return
        elif kind == _REQUEST_N and self.partials is not None and stream_id in self.partials:
            grant_partial(self, self.partials[stream_id], data, start, end)
            return
        if stream_id == 0:
            self._control(data, start, end)
            return
        if kind not in _KNOWN and not head & IGNORE:
            raise ConnectionFailed(f"unknown frame type 0x{kind:02x}", reason="unknown_frame")
        self.ignore(end - start)

    def _first(self, data: bytes, start: int, end: int) -> None:
        if self.session.resumes(data, start, end):
            resuming.resume(self, data, start, end)
            return
        try:
            setup = self.session.set_up(data, start, end)
            if self.plane.draining:
                raise ConnectionEnded("this node is draining; connect to another", reason="draining")
            acceptor.accept(self, setup)
        except ProtocolError as error:
            self.counters.refuse(error.reason)
            self.close(reason_for_refusal(error), str(error), error)
            return
        self.session.accepted()
        self.accepted = True
        self.plane.register.accepted(self)

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

    def _control(self, data: bytes, start: int, end: int) -> None:
        if end - start > 14 + self.grant.limits.max_keepalive_bytes and peek_type(data, start) == FrameType.KEEPALIVE:
            raise ConnectionFailed("KEEPALIVE carries too much data", reason="max_keepalive_bytes")
        event, detail = self.session.receive(data, start, end)
        if event is Event.KEPT_ALIVE:
            self.counters.keepalives += 1
            budgets = self.budgets
            if budgets is not None:
                budgets.keepalive(self.plane.now)
            if detail and (budgets is None or budgets.may_answer(self.outbox.blocked)):
                assert isinstance(detail, bytes)
                self.outbox.put_frame(detail)
                self.pause_when_congested()
            if self.resumption is not None:
                self.resumption.confirm(keepalive.claimed(data, start, end))
        elif event is Event.LEASED:
            assert isinstance(detail, bytes)
            leasing.heard(self, detail)
        elif event is Event.PEER_FAILED:
            self.close(CloseReason.PEER_FAILED, str(detail))
        elif event is Event.PEER_DRAINS:
            self.draining = True
            self.look_at = 0.0
            self.plane.table.remove_owner(self)
        else:
            if event is Event.PUSHED and self.budgets is not None and not self.budgets.push(self.plane.now):
                self.counters.refuse("pushes_per_second")
            self.ignore(end - start)

    # Life

    def read(self, feed: Callable[[bytes], None], data: bytes) -> None:
        """The carrier has read `data`, which `feed` cuts into frames."""
        self.session.last_received = self.plane.wake()
        feed(data)
        budgets = self.budgets
        if budgets is not None and budgets.read(len(data), self.plane.now):
            self.counters.refuse("bytes_per_second")
            self.rest(budgets)
        if self.outbox.size > self.outbox.hard:
            # It asks faster than it reads the answers (faults 29, 31).
            self.pause_for(self.outbox)

    def judge_again(self, snapshot: Snapshot) -> None:
        """A new snapshot stands: see whether this peer may still be here, derive its grant again and forget what was
        decided under the old one (fault 61). Streams that rest on rights that are gone end."""
        if not self.accepted:
            self.hold(self.plane.nobody)
            return
        try:
            self.principal = snapshot.access.judge(self.principal, self.plane.wall())
        except TokenError as error:
            self.counters.refuse_token(error.reason)
            self._turn_out(reason_for_judgement(error.reason), error.text)
            return
        self._be_judged(snapshot.grant(self.principal))

    def renewed(self, principal: Principal, credential: bytes) -> None:
        """The peer was given a newer token: it goes by that one from now on, without a new SETUP."""
        lapsed = self.principal.renewal_only
        self.principal = principal
        self._be_judged(self.plane.snapshot.grant(principal))
        if self.resumption is not None:
            self.resumption.credential = credential
        if lapsed:
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

    def _turn_out(self, reason: CloseReason, text: str) -> None:
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
        if budgets is not None and budgets in self.paused_by and budgets.rested(now):
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
        self.assembly = None
        self.forget_decisions()
        self.plane.leave(self, reason, text)


def _torn(data: bytes, start: int, end: int) -> bool:
    """Whether the metadata of a PAYLOAD goes beyond it."""
    at = start + 9
    return at > end or at + (data[at - 3] << 16 | data[at - 2] << 8 | data[at - 1]) > end


def _without_follows(data: bytes, start: int, end: int) -> tuple[bytes, int, int]:
    """COMPLETE ends a series whatever FOLLOWS says (P34): the frame goes on without it."""
    frame = data[start : start + 5] + bytes((data[start + 5] & ~FOLLOWS,)) + data[start + 6 : end]
    return frame, 0, len(frame)
