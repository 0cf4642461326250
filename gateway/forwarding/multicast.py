"""One request to many responders (ADDRESS with M): the first answer of a request/response, the merged items of streams.

A multicast request is a stream like any other between its requester and this internal connection, which opens one leg
to each candidate. What each interaction model means here:

- fire-and-forget: every candidate gets it.
- request/response: the first candidate to answer wins and the rest are canceled; only when every candidate failed does
  the requester get an error, the last one.
- request stream: items of all legs are merged in the order in which they are complete. A leg that fails ends alone; the
  stream completes when every leg has ended, and fails when all of them failed. Each leg gets credit for a few items
  ahead of the requester's demand, never more in total than `_AHEAD` or one a leg.
- request channel: as a stream; every item of the requester goes to all legs, as fast as the slowest one asks. A leg
  that cancels its input gets no more of it and holds nobody back; when all have, so is the requester told.

Fragments of one item stay together: a leg's item is passed on when its last fragment is here, so it is bounded.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from gateway.errors import NoRoute, RequestInvalid
from gateway.forwarding import leasing
from gateway.forwarding.credit import Credit
from gateway.forwarding.ending import CANCELED, OK, finish, requester_done
from gateway.forwarding.flow import refill
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.stamp import Form, rewrite
from gateway.forwarding.stream import (
    REQUEST_CHANNEL,
    REQUEST_FNF,
    REQUEST_RESPONSE,
    REQUEST_STREAM,
    REQUEST_UNFINISHED,
    REQUESTER_DONE,
    Stream,
    new_stream,
)
from gateway.observe.metrics import ServiceStats
from gateway.routing.route import Route
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    MAX_REQUEST_N,
    NEXT,
    Cancel,
    Error,
    FrameType,
    Payload,
    RequestN,
    encode,
    peek_flags,
    peek_n,
    peek_stream_id,
    peek_type,
)
from gateway.wire.frames import metadata_span as span_of
from gateway.wire.octets import id_bytes

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane

#: Items that the legs of one merged stream may be ahead of their requester, all together.
_AHEAD = 64


class Leg:
    """One responder's part.

    `ahead`: items asked of it and not yet passed on. `owed`: items passed on and not yet asked for again. `asked`: what
    it asked of the requester in all; `takes`: it has not canceled that. `item`: the fragments of its unfinished item.
    `answering`: its half of the stream is open.
    """

    __slots__ = ("ahead", "answering", "asked", "item", "item_bytes", "owed", "stream_id", "takes", "target")

    def __init__(self, stream_id: int, target: Endpoint, takes: bool) -> None:
        self.stream_id = stream_id
        self.target = target
        self.takes = takes
        self.answering = True
        self.ahead = 0
        self.owed = 0
        self.asked = 0
        self.item: list[bytes] = []
        self.item_bytes = 0


class Merge:
    """One multicast request: its legs, the requester's unused credit, and whole items that wait for it.

    `granted`: items that the requester of a channel was asked for in all. `completed`: a leg has ended well.
    `answered`: nothing more goes to the requester.
    """

    __slots__ = (
        "answered",
        "completed",
        "credit",
        "failure",
        "granted",
        "interaction",
        "legs",
        "stream",
        "waiting",
        "winner",
    )

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.interaction = stream.interaction
        self.legs: dict[int, Leg] = {}
        self.credit = 0
        self.granted = 0
        self.waiting: deque[tuple[Leg, list[bytes]]] = deque()
        self.winner = False
        self.completed = False
        self.answered = False
        self.failure: bytes | None = None


class Multicast(InternalConnection):
    __slots__ = ("_leg_stats", "_merges", "_merges_by_leg", "_routes")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane, "multicast")
        self._merges: dict[int, Merge] = {}
        self._merges_by_leg: dict[int, Merge] = {}
        self._routes: dict[int, tuple[Stream, list[Route]]] = {}
        # The request is counted once, on the requester's stream; its legs count nowhere.
        self._leg_stats = ServiceStats()

    def spread(self, stream: Stream, routes: list[Route]) -> None:
        self._routes[stream.responder_id] = (stream, routes)

    def deliver(self, frame: bytes) -> None:
        stream_id = peek_stream_id(frame)
        kind = peek_type(frame)
        if REQUEST_RESPONSE <= kind <= REQUEST_CHANNEL:
            self._begin(*self._routes.pop(stream_id), frame)
            return
        merge = (self._merges_by_leg if stream_id & 1 else self._merges).get(stream_id)
        if merge is None:
            return
        if stream_id & 1:
            self._from_leg(merge, merge.legs[stream_id], kind, frame)
        else:
            self._from_requester(merge, kind, frame)
        if merge.answered and not merge.legs:
            self._forget(merge)

    # The requester's side

    def _begin(self, stream: Stream, routes: list[Route], frame: bytes) -> None:
        flags = peek_flags(frame)
        merge = Merge(stream)
        # Some may have gone since they were chosen.
        owners = cast("list[Connection]", [route.owner for route in routes])
        live = [owner for owner in owners if not owner.closed]
        targets = [owner for owner in live if leasing.may_send(owner, self.plane.monotonic())]
        window = 0
        if merge.interaction >= REQUEST_STREAM:
            merge.credit = peek_n(frame, 0, len(frame))
            window = max(1, min(_AHEAD // max(1, len(targets)), merge.credit))
        self._merges[stream.responder_id] = merge
        sections = _sections(frame, stream.requester.form)
        for target in targets:
            self._open_leg(merge, target, flags, window, sections[target.form], frame)
        if merge.interaction == REQUEST_FNF:
            if not flags & FOLLOWS:
                self._all_fired(merge)
        elif not targets:
            error = leasing.exhausted() if live else NoRoute("no route: the last candidate has left")
            merge.failure = encode(Error(stream.responder_id, error.code, str(error)))
            self._finish(merge)
            self._forget(merge)

    def _open_leg(self, merge: Merge, target: Connection, flags: int, n: int, section: bytes, frame: bytes) -> None:
        kind = merge.interaction
        leg_id = self.leg_ids.allocate(self._merges_by_leg)
        responder_id = target.ids.allocate(target.serving)
        leg = Leg(leg_id, target, takes=kind == REQUEST_CHANNEL and not flags & COMPLETE)
        if kind != REQUEST_FNF or flags & FOLLOWS:
            stream = new_stream(kind, self, leg_id, target, responder_id, self._leg_stats, self.plane.now)
            if leg.takes:
                stream.state = 0
            if flags & FOLLOWS:
                stream.state |= REQUEST_UNFINISHED
            if kind >= REQUEST_STREAM:
                stream.down = Credit()
                leg.ahead = stream.down.grant(n, False)
                if kind == REQUEST_CHANNEL:
                    stream.up = Credit()
            self.requesting.insert(leg_id, stream)
            target.serving.insert(responder_id, stream)
            target.pending += 1
            self.plane.counters.streams_open += 1
        merge.legs[leg_id] = leg
        self._merges_by_leg[leg_id] = merge
        at = _data_start(frame)
        target.send_request(responder_id, kind, kind << 10 | flags, n, section, frame, at, len(frame))
        self._slow_down(merge.stream.requester, target)

    def _from_requester(self, merge: Merge, kind: int, frame: bytes) -> None:
        if kind == FrameType.REQUEST_N:
            merge.credit = min(merge.credit + peek_n(frame, 0, len(frame)), MAX_REQUEST_N)
            self._pass_on(merge)
        elif kind == FrameType.PAYLOAD:
            self._to_legs(merge, frame)
        else:  # CANCEL, or ERROR of a channel's requester
            self._end_legs(merge, frame)
            self._forget(merge)

    def _to_legs(self, merge: Merge, frame: bytes) -> None:
        """A further fragment of the request, or an item of a channel."""
        flags = peek_flags(frame)
        last = not flags & FOLLOWS
        for leg in list(merge.legs.values()):
            stream = self.requesting.find(leg.stream_id)
            if stream is None:
                continue
            if stream.state & REQUEST_UNFINISHED:
                if last:
                    stream.state &= ~REQUEST_UNFINISHED
            elif stream.state & REQUESTER_DONE:
                continue
            elif last and stream.up is not None:
                stream.up.outstanding -= 1
                refill(stream)
            leg.target.outbox.put(stream.responder_id, frame, 4, len(frame))
            self._slow_down(merge.stream.requester, leg.target)
            if last and merge.interaction == REQUEST_FNF:
                finish(stream, OK)
            elif flags & COMPLETE and not stream.state & REQUESTER_DONE:
                requester_done(stream)
                self._drop_if_over(merge, leg)
        if last and merge.interaction == REQUEST_FNF:
            self._all_fired(merge)

    def _end_legs(self, merge: Merge, frame: bytes) -> None:
        for leg in merge.legs.values():
            stream = self.requesting.find(leg.stream_id)
            if stream is not None:
                leg.target.outbox.put(stream.responder_id, frame, 4, len(frame))
                finish(stream, CANCELED)

    def _all_fired(self, merge: Merge) -> None:
        self._forget(merge)
        if merge.stream.responder_id in self.serving:
            finish(merge.stream, OK)

    # The legs' side

    def _from_leg(self, merge: Merge, leg: Leg, kind: int, frame: bytes) -> None:
        if kind == FrameType.PAYLOAD:
            if merge.interaction == REQUEST_RESPONSE:
                self._answer(merge, leg, frame)
            else:
                self._item(merge, leg, frame)
        elif kind == FrameType.ERROR:
            self._failed(merge, leg, frame)
        elif kind == FrameType.REQUEST_N:
            leg.asked += peek_n(frame, 0, len(frame))
            self._ask_requester(merge)
        else:  # CANCEL: this leg of a channel wants no more items
            leg.takes = False
            self._drop_if_over(merge, leg)
            self._ask_requester(merge)

    def _answer(self, merge: Merge, leg: Leg, frame: bytes) -> None:
        if not merge.winner:
            merge.winner = True
            for other in [other for other in merge.legs.values() if other is not leg]:
                self._drop_leg(merge, other)
        self._to_requester(merge, frame)
        self._slow_down(leg.target, merge.stream.requester)
        if not peek_flags(frame) & FOLLOWS:
            self._forget(merge)

    def _item(self, merge: Merge, leg: Leg, frame: bytes) -> None:
        flags = peek_flags(frame)
        leg.item.append(frame)
        leg.item_bytes += len(frame)
        if flags & FOLLOWS:
            limits = leg.target.grant.limits
            if leg.item_bytes > limits.max_reassembly_bytes or len(leg.item) > limits.max_fragments:
                error = RequestInvalid("responder: an item is over the limits of a message")
                self.plane.counters.refuse("max_reassembly_bytes")
                self._failed(merge, leg, encode(Error(leg.stream_id, error.code, str(error))))
            return
        item, leg.item, leg.item_bytes = leg.item, [], 0
        if flags & NEXT or len(item) > 1:
            # COMPLETE is this leg's, not the merged stream's.
            item[-1] = frame[:4] + (FrameType.PAYLOAD << 10 | flags & ~COMPLETE | NEXT).to_bytes(2, "big") + frame[6:]
            merge.waiting.append((leg, item))
        if flags & COMPLETE:
            leg.answering = False
            merge.completed = True
            self._drop_if_over(merge, leg)
        self._pass_on(merge)

    def _failed(self, merge: Merge, leg: Leg, error: bytes) -> None:
        merge.failure = error
        leg.answering = False
        self._drop_leg(merge, leg)
        self._ask_requester(merge)
        self._pass_on(merge)

    def _pass_on(self, merge: Merge) -> None:
        """Give the requester what waits, as far as its credit goes, and ask the legs for as much again."""
        chunk = max(1, _AHEAD // max(1, len(merge.legs)) // 2)
        while merge.waiting and merge.credit > 0:
            leg, item = merge.waiting.popleft()
            merge.credit -= 1
            for frame in item:
                self._to_requester(merge, frame)
            leg.ahead -= 1
            leg.owed += 1
        for leg in merge.legs.values():
            if leg.answering and leg.owed and merge.credit > 0 and (leg.owed >= chunk or leg.ahead <= 0):
                n = min(leg.owed, merge.credit)
                leg.owed -= n
                leg.ahead += n
                self.send(encode(RequestN(leg.stream_id, n)))
        if not merge.waiting and not any(leg.answering for leg in merge.legs.values()):
            self._finish(merge)

    def _finish(self, merge: Merge) -> None:
        """No leg has anything more to say."""
        if merge.answered:
            return
        merge.answered = True
        merge.waiting.clear()
        stream_id = merge.stream.responder_id
        if stream_id in self.serving:
            if merge.failure is not None and not merge.completed:
                self.send(id_bytes(stream_id) + merge.failure[4:])
            else:
                self.send(encode(Payload(stream_id, None, b"", complete=True)))
        # Legs of a channel may still take what the requester sends.
        self._ask_requester(merge)

    def _ask_requester(self, merge: Merge) -> None:
        """Ask a channel's requester for as many items as every leg wants, or to stop when none wants any."""
        stream = merge.stream
        if stream.state & REQUESTER_DONE or stream.responder_id not in self.serving:
            return
        wanted = [leg.asked for leg in merge.legs.values() if leg.takes]
        if wanted:
            n = min(*wanted, MAX_REQUEST_N) - merge.granted
            if n > 0:
                merge.granted += n
                self.send(encode(RequestN(stream.responder_id, n)))
        else:
            self.send(encode(Cancel(stream.responder_id)))

    def _to_requester(self, merge: Merge, frame: bytes) -> None:
        if merge.stream.responder_id in self.serving:
            self.send(id_bytes(merge.stream.responder_id) + frame[4:])

    @staticmethod
    def _slow_down(source: Endpoint, target: Endpoint) -> None:
        """What is between the two has no carrier that could be paused: whoever feeds it is."""
        if target.outbox.size > target.outbox.hard:
            source.pause_for(target.outbox)

    # Ends

    def _drop_if_over(self, merge: Merge, leg: Leg) -> None:
        """A leg of a channel is there until both its halves have ended."""
        if leg.stream_id not in self.requesting:
            self._drop_leg(merge, leg)

    def _drop_leg(self, merge: Merge, leg: Leg) -> None:
        if leg.stream_id in self.requesting:
            self.send(encode(Cancel(leg.stream_id)))
        del merge.legs[leg.stream_id]
        del self._merges_by_leg[leg.stream_id]

    def _forget(self, merge: Merge) -> None:
        self._merges.pop(merge.stream.responder_id, None)
        for leg in list(merge.legs.values()):
            self._drop_leg(merge, leg)


def _data_start(frame: bytes) -> int:
    span = span_of(frame, 0, len(frame))
    assert span is not None  # a stamped request has metadata
    return span[2]


def _sections(frame: bytes, source: int) -> dict[int, bytes]:
    """By form of a responder, the metadata section it gets, as `decision.section` would make it from what came."""
    span = span_of(frame, 0, len(frame))
    assert span is not None
    stamped = frame[span[0] : span[1]]
    routing = rewrite(stamped, Form.COMPOSITE, Form.ROUTING, b"")
    opaque = rewrite(stamped, Form.COMPOSITE, Form.OPAQUE, b"") if source == Form.COMPOSITE else routing
    by_form = {Form.COMPOSITE: stamped, Form.ROUTING: routing, Form.OPAQUE: opaque}
    return {
        int(form): len(metadata).to_bytes(3, "big") + metadata if metadata else b""
        for form, metadata in by_form.items()
    }
