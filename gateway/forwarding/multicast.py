"""One request to many responders (ADDRESS with M): the first answer of a request/response, the merged items of streams.

A multicast request is a stream like any other between its requester and this internal connection, which opens one leg
to each candidate. What each interaction model means here:

- fire-and-forget: every candidate gets it.
- request/response: the first candidate to answer wins and the rest are canceled; only when every candidate failed does
  the requester get an error, the last one.
- request stream: items of all legs are merged in the order in which they are complete. A leg that fails ends alone; the
  stream completes when every leg has ended, and fails when all of them failed. Each leg gets credit for a few items
  ahead of the requester's demand, never more in total than `_AHEAD` or one a leg.
- request channel: as a stream; every item of the requester goes to all legs, as fast as the slowest one asks.

Fragments of one item stay together: a leg's item is passed on when its last fragment is here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gateway.forwarding.credit import Credit
from gateway.forwarding.ending import CANCELED, OK, finish, requester_done
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.stamp import Form, rewrite
from gateway.forwarding.stream import (
    REQUEST_CHANNEL,
    REQUEST_FNF,
    REQUEST_RESPONSE,
    REQUEST_STREAM,
    REQUEST_UNFINISHED,
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
    from gateway.forwarding.plane import Plane

#: Items that the legs of one merged stream may be ahead of their requester, all together.
_AHEAD = 64


class Leg:
    """One responder's part. `ahead`: items asked of it and not yet passed on; `asked`: what it asked of the requester
    in all; `item`: the fragments of its unfinished item."""

    __slots__ = ("ahead", "asked", "item", "owed", "stream_id")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.ahead = 0
        self.asked = 0
        self.owed = 0
        self.item: list[bytes] = []


class Merge:
    """One multicast request: its legs, the requester's unused credit, and whole items that wait for it."""

    __slots__ = ("completed", "credit", "failure", "granted", "interaction", "legs", "stream", "waiting", "winner")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.interaction = stream.interaction
        self.legs: dict[int, Leg] = {}
        self.credit = 0
        self.granted = 0
        self.waiting: deque[tuple[Leg, list[bytes]]] = deque()
        self.winner: int | None = None
        self.completed = False
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
            stream, routes = self._routes.pop(stream_id)
            self._begin(stream, routes, frame)
        elif stream_id & 1:
            merge = self._merges_by_leg.get(stream_id)
            if merge is not None:
                self._from_leg(merge, merge.legs[stream_id], kind, frame)
        else:
            merge = self._merges.get(stream_id)
            if merge is not None:
                self._from_requester(merge, kind, frame)

    # The requester's side

    def _begin(self, stream: Stream, routes: list[Route], frame: bytes) -> None:
        kind = stream.interaction
        flags = peek_flags(frame)
        merge = Merge(stream)
        serving_id = stream.responder_id
        span = span_of(frame, 0, len(frame))
        assert span is not None  # a stamped request has metadata
        metadata = frame[span[0] - 3 : span[1]]
        routing = rewrite(metadata[3:], Form.COMPOSITE, Form.ROUTING, b"")
        plain = len(routing).to_bytes(3, "big") + routing if routing else b""
        if kind >= REQUEST_STREAM:
            merge.credit = peek_n(frame, 0, len(frame))
        window = max(1, min(_AHEAD // len(routes), merge.credit)) if kind >= REQUEST_STREAM else 0
        self._merges[serving_id] = merge
        head = kind << 10 | flags
        for route in routes:
            self._open_leg(merge, route, head, window, metadata, plain, frame, span[2])
        if kind == REQUEST_FNF and not flags & FOLLOWS:
            self._forget(merge)
            if serving_id in self.serving:
                finish(stream, OK)

    def _open_leg(
        self, merge: Merge, route: Route, head: int, n: int, metadata: bytes, plain: bytes, frame: bytes, at: int
    ) -> None:
        kind = merge.interaction
        target: Connection = route.owner  # type: ignore[assignment]
        if target.closed:
            return
        leg_id = self.leg_ids.allocate(self._merges_by_leg)
        responder_id = target.ids.allocate(target.serving)
        leg = Leg(leg_id)
        if kind != REQUEST_FNF or head & FOLLOWS:
            stream = new_stream(kind, self, leg_id, target, responder_id, self._leg_stats, self.plane.now)
            stream.state = merge.stream.state
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
        known = plain if target.form == Form.ROUTING else metadata
        target.send_request(id_bytes(responder_id), kind, head, n, known, frame, at, len(frame))

    def _from_requester(self, merge: Merge, kind: int, frame: bytes) -> None:
        if kind == FrameType.REQUEST_N:
            merge.credit = min(merge.credit + peek_n(frame, 0, len(frame)), MAX_REQUEST_N)
            self._pass_on(merge)
        elif kind == FrameType.PAYLOAD:
            self._to_legs(merge, frame)
            if merge.interaction == REQUEST_FNF and not peek_flags(frame) & FOLLOWS:
                self._forget(merge)
        else:  # CANCEL, or ERROR of a channel's requester
            self._to_legs(merge, frame)
            self._forget(merge)

    def _to_legs(self, merge: Merge, frame: bytes) -> None:
        for leg_id in list(merge.legs):
            stream = self.requesting.find(leg_id)
            if stream is None:
                continue
            stream.responder.outbox.put(stream.responder_prefix, frame, 4, len(frame))
            kind = peek_type(frame)
            if kind != FrameType.PAYLOAD:
                finish(stream, CANCELED)
                continue
            flags = peek_flags(frame)
            if not flags & FOLLOWS:
                if stream.state & REQUEST_UNFINISHED:
                    stream.state &= ~REQUEST_UNFINISHED
                    if merge.interaction == REQUEST_FNF:
                        finish(stream, OK)
                        continue
                elif stream.up is not None:
                    stream.up.outstanding -= 1
                if flags & COMPLETE:
                    requester_done(stream)

    # The legs' side

    def _from_leg(self, merge: Merge, leg: Leg, kind: int, frame: bytes) -> None:
        if kind == FrameType.PAYLOAD:
            if merge.interaction == REQUEST_RESPONSE:
                self._answer(merge, leg, frame)
            else:
                self._item(merge, leg, frame)
        elif kind == FrameType.ERROR:
            merge.failure = frame
            self._leg_ended(merge, leg)
        elif kind == FrameType.REQUEST_N:
            leg.asked += peek_n(frame, 0, len(frame))
            self._ask_requester(merge)
        elif kind == FrameType.CANCEL:
            # This leg of a channel wants no more items; it must not hold the others back.
            leg.asked = MAX_REQUEST_N
            self._ask_requester(merge)

    def _answer(self, merge: Merge, leg: Leg, frame: bytes) -> None:
        if merge.winner is None:
            merge.winner = leg.stream_id
            for other in [other for other in merge.legs if other != leg.stream_id]:
                self._cancel_leg(other)
                self._drop_leg(merge, other)
        self._to_requester(merge, frame)
        if not peek_flags(frame) & FOLLOWS:
            self._forget(merge)

    def _item(self, merge: Merge, leg: Leg, frame: bytes) -> None:
        flags = peek_flags(frame)
        leg.item.append(frame)
        if flags & FOLLOWS:
            return
        item, leg.item = leg.item, []
        ends = bool(flags & COMPLETE)
        if flags & NEXT or len(item) > 1:
            # COMPLETE is this leg's, not the merged stream's.
            item[-1] = frame[:4] + (FrameType.PAYLOAD << 10 | flags & ~COMPLETE | NEXT).to_bytes(2, "big") + frame[6:]
            merge.waiting.append((leg, item))
        if ends:
            self._drop_leg(merge, leg.stream_id)
            merge.completed = True
        self._pass_on(merge)

    def _pass_on(self, merge: Merge) -> None:
        """Give the requester what waits, as far as its credit goes, and ask the legs for as much again."""
        legs = max(1, len(merge.legs))
        chunk = max(1, _AHEAD // legs // 2)
        while merge.waiting and merge.credit > 0:
            leg, item = merge.waiting.popleft()
            merge.credit -= 1
            for frame in item:
                self._to_requester(merge, frame)
            leg.ahead -= 1
            leg.owed += 1
        for leg in merge.legs.values():
            if leg.owed and merge.credit > 0 and (leg.owed >= chunk or leg.ahead <= 0):
                n = min(leg.owed, merge.credit)
                leg.owed -= n
                leg.ahead += n
                self.send(encode(RequestN(leg.stream_id, n)))
        if not merge.legs and not merge.waiting:
            self._finish(merge)

    def _finish(self, merge: Merge) -> None:
        self._forget(merge)
        stream_id = merge.stream.responder_id
        if stream_id not in self.serving:
            return
        if merge.failure is not None and not merge.completed:
            self.send(id_bytes(stream_id) + merge.failure[4:])
        else:
            self.send(encode(Payload(stream_id, None, b"", complete=True)))

    def _leg_ended(self, merge: Merge, leg: Leg) -> None:
        self._drop_leg(merge, leg.stream_id)
        leg.item.clear()
        if merge.interaction == REQUEST_RESPONSE:
            if not merge.legs:
                self._finish(merge)
        else:
            self._ask_requester(merge)
            self._pass_on(merge)

    def _ask_requester(self, merge: Merge) -> None:
        if merge.interaction != REQUEST_CHANNEL or not merge.legs:
            return
        lowest = min(leg.asked for leg in merge.legs.values())
        n = min(lowest, MAX_REQUEST_N) - merge.granted
        if n > 0 and merge.stream.responder_id in self.serving:
            merge.granted += n
            self.send(encode(RequestN(merge.stream.responder_id, n)))

    def _to_requester(self, merge: Merge, frame: bytes) -> None:
        if merge.stream.responder_id in self.serving:
            self.send(merge.stream.responder_prefix + frame[4:])

    def _cancel_leg(self, leg_id: int) -> None:
        if leg_id in self.requesting:
            self.send(encode(Cancel(leg_id)))

    def _drop_leg(self, merge: Merge, leg_id: int) -> None:
        merge.legs.pop(leg_id, None)
        self._merges_by_leg.pop(leg_id, None)

    def _forget(self, merge: Merge) -> None:
        self._merges.pop(merge.stream.responder_id, None)
        for leg_id in list(merge.legs):
            self._cancel_leg(leg_id)
            self._drop_leg(merge, leg_id)
