"""One RSocket connection of the data plane: frames in, frames out to other connections. The hot path.

A frame on a known stream is patched (four bytes) and appended to the other side's outbox, and nothing else. A request
frame opens a stream: the decision cache answers, the balancer picks, the pair of hops is set. Stream 0 belongs to the
session. Whatever a peer sends, nothing is raised out of here: a `RequestError` becomes an ERROR frame on its stream, a
`ProtocolError` an ERROR frame on stream 0 and the end of the connection (DESIGN 3).

Ordering: hops are removed before anything is told about a stream's end.

Must not know: sockets, coroutines, logging, tokens, settings, storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import ConnectionEnded, ConnectionFailed, FrameError, ProtocolError
from gateway.forwarding import acceptor, leasing, overdue, resuming, retrying
from gateway.forwarding.awaiting import ask_again, forget, keep
from gateway.forwarding.budgets import PREMATURE_S
from gateway.forwarding.closing import CloseReason, reason_for_refusal
from gateway.forwarding.credit import LARGE_ITEM_BYTES
from gateway.forwarding.ending import CANCELED, FAILED, OK, break_stream, finish, requester_done
from gateway.forwarding.flow import refill, request_n
from gateway.forwarding.lifecycle import Lifecycle
from gateway.forwarding.links import LOCAL
from gateway.forwarding.opening import drop_partial, grant_partial, open_request, resume_partial
from gateway.forwarding.outbox import Carrier, Outbox
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
from gateway.session import keepalive
from gateway.session.session import Event
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    IGNORE,
    METADATA,
    NEXT,
    Cancel,
    FrameType,
    encode,
    peek_type,
)

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.plane import Plane
    from gateway.policy.retrying import Failure

_PAYLOAD = int(FrameType.PAYLOAD)
_REQUEST_N = int(FrameType.REQUEST_N)
_CANCEL = int(FrameType.CANCEL)
_ERROR = int(FrameType.ERROR)
_ENDS = (_CANCEL, _ERROR)
_KNOWN = frozenset(int(kind) for kind in FrameType) - {int(FrameType.EXT)}
_FOLLOWS_COMPLETE = FOLLOWS | COMPLETE
_NEXT_COMPLETE = NEXT | COMPLETE
_CANCEL_FRAME = encode(Cancel(1))


class Connection(Lifecycle):
    """`frames_in` and `bytes_in`: what its peer sent."""

    __slots__ = ("bytes_in", "frames_in")

    def __init__(self, plane: Plane, carrier: Carrier, outbox: Outbox, *, peer: str, kind: str = "client") -> None:
        self.frames_in = 0
        self.bytes_in = 0
        super().__init__(plane, carrier, outbox, peer=peer, kind=kind)

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
        call = stream.watch
        if call is not None:
            call.answered()
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
            if self.awaiting is not None and forget(self, stream_id):
                return True
            # P41: CANCEL inside a fragment series drops what was there.
            if self.partials is not None and drop_partial(self, stream_id):
                return True
            return self.strays.forget(stream_id)
        if kind == _ERROR:
            if self.offered is not None and ask_again(stream, data[start:end]):
                return True
            if stream.watch is not None:
                code = int.from_bytes(data[start + 6 : start + 10], "big")
                if stream.watch.failed(stream, code, data[start + 10 : end]):
                    return True
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

    def try_again(self, call: Call, stream: Stream, failure: Failure) -> bool:
        """A request of this peer has failed. Returns whether it was taken back, to be tried once more."""
        return retrying.again(call, stream, failure)

    def overdue(self, call: Call) -> None:
        """A request of this peer has had its time."""
        overdue.end(call)

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
        if self.awaiting is not None and stream_id in self.awaiting:
            keep(self, stream_id, data[start:end])
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
                self.outbox.put_first(detail)
                self.pause_when_congested()
            if not detail:
                self.plane.soundings.answered(self.number, data[start + 14 : end])
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
            if self.side != LOCAL and self.plane.links is not None:
                self.plane.links.drained(self)
        else:
            if event is Event.PUSHED and self.budgets is not None and not self.budgets.push(self.plane.now):
                self.counters.refuse("pushes_per_second")
            self.ignore(end - start)

    def read(self, feed: Callable[[bytes], bool], data: bytes) -> bool:
        """The carrier has read `data`, which `feed` cuts into frames. Returns what `feed` does: whether some wait."""
        self.session.last_received = self.plane.wake()
        behind = feed(data)
        budgets = self.budgets
        if budgets is not None and budgets.read(len(data), self.plane.now):
            self.counters.refuse("bytes_per_second")
            self.rest(budgets)
        if self.outbox.size > self.outbox.hard:
            # It asks faster than it reads the answers (faults 29, 31).
            self.pause_for(self.outbox)
        return behind


def _torn(data: bytes, start: int, end: int) -> bool:
    """Whether the metadata of a PAYLOAD goes beyond it."""
    at = start + 9
    return at > end or at + (data[at - 3] << 16 | data[at - 2] << 8 | data[at - 1]) > end


def _without_follows(data: bytes, start: int, end: int) -> tuple[bytes, int, int]:
    """COMPLETE ends a series whatever FOLLOWS says (P34): the frame goes on without it."""
    frame = data[start : start + 5] + bytes((data[start + 5] & ~FOLLOWS,)) + data[start + 6 : end]
    return frame, 0, len(frame)
