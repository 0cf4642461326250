"""Copies of requests, for a part of the service that is to see them and not to answer (Istio's mirror, a dark launch).

A copy is a request of the node's own, on streams of an internal connection: what it answers goes nowhere, its errors
reach nobody, and no outlier or breaker hears of them. A stream gets as much credit as its caller gave at first, up to a
few items, and is canceled then. Copies are bounded in number and in time; what is not copied is counted by reason.
Channels are not mirrored, nor requests in fragments: their rest is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import RequestError
from gateway.forwarding import leasing
from gateway.forwarding.connecting import stamped_for
from gateway.forwarding.credit import Credit
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stamp import lengthened
from gateway.forwarding.stream import REQUEST_CHANNEL, REQUEST_FNF, REQUEST_STREAM, new_stream
from gateway.observe.metrics import ServiceStats
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    NEXT,
    Cancel,
    FrameType,
    encode,
    peek_flags,
    peek_stream_id,
    peek_type,
)

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.governed import Governed
    from gateway.forwarding.plane import Plane
    from gateway.routing.route import Route

#: Copies that are not answered yet, on one node; and how long one may take, in seconds.
MAX_OPEN: Final = 256
MAX_S: Final = 10.0
#: Items of one stream.
MAX_ITEMS: Final = 64


class _Shadows(InternalConnection):
    """`since`: by stream id, when a copy was sent and how many items it may still give."""

    __slots__ = ("_sweeping", "since", "unheard")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane, "mirrors")
        # A copy is nobody's traffic.
        self.unheard = ServiceStats()
        self.since: dict[int, tuple[float, int]] = {}
        self._sweeping = False

    def deliver(self, frame: bytes) -> None:
        stream_id = peek_stream_id(frame)
        held = self.since.get(stream_id)
        if held is None:
            return
        flags = peek_flags(frame)
        payload = peek_type(frame) == FrameType.PAYLOAD
        since, items = held
        if payload and not flags & FOLLOWS:
            items -= bool(flags & NEXT)
            if items <= 0 and not flags & COMPLETE and stream_id in self.requesting:
                self.send(encode(Cancel(stream_id)))
        if stream_id in self.requesting:
            self.since[stream_id] = since, items
        else:
            del self.since[stream_id]

    def began(self, stream_id: int, items: int) -> None:
        self.since[stream_id] = self.plane.now, items
        if not self._sweeping:
            self._sweeping = True
            self.plane.later(MAX_S, self._sweep)

    def _sweep(self) -> None:
        """End what takes too long; look again as long as there is anything."""
        oldest = self.plane.wake() - MAX_S
        for stream_id, (since, _) in list(self.since.items()):
            if since > oldest:
                break
            del self.since[stream_id]
            if stream_id in self.requesting:
                self.send(encode(Cancel(stream_id)))
        self._sweeping = bool(self.since)
        if self._sweeping:
            self.plane.later(MAX_S, self._sweep)


class Mirrors:
    """The way there, on one node; the connection is made when it is first needed."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._shadows: _Shadows | None = None

    @property
    def open(self) -> int:
        """Copies that are not answered yet."""
        return 0 if self._shadows is None else len(self._shadows.since)

    def is_at(self, connection: object) -> bool:
        return self._shadows is not None and self._shadows is connection

    def send(self, route: Route, kind: int, head: int, n: int, section: bytes, data: bytes, at: int, end: int) -> str:
        """Send a copy of one request, whose data is `data[at:end]`, to a route. Returns "sent", or why not."""
        if kind == REQUEST_CHANNEL:
            return "channel"
        if head & FOLLOWS:
            return "fragments"
        if self.open >= MAX_OPEN:
            return "too_many"
        plane = self._plane
        target: Connection = route.owner  # type: ignore[assignment]
        if target.outbox.slow or target.outbox.blocked or target.outbox.congested:
            return "responder_slow"
        if not leasing.may_send(target, plane.monotonic()):
            return "no_lease"
        shadows = self._shadows
        if shadows is None:
            shadows = self._shadows = _Shadows(plane)
        responder_id = target.ids.allocate(target.serving)
        if kind != REQUEST_FNF:
            stream_id = shadows.leg_ids.allocate(shadows.since)
            stream = new_stream(kind, shadows, stream_id, target, responder_id, shadows.unheard, plane.now)
            n = min(n, MAX_ITEMS)
            if kind == REQUEST_STREAM:
                stream.down = Credit()
                n = stream.down.grant(n, False)
            shadows.requesting.insert(stream_id, stream)
            target.serving.insert(responder_id, stream)
            target.pending += 1
            plane.counters.streams_open += 1
            shadows.began(stream_id, n if kind == REQUEST_STREAM else 1)
        target.send_request(responder_id, kind, head, n, section, data, at, end)
        return "sent"

    def copy(
        self,
        connection: Endpoint,
        decision: Decision,
        governed: Governed,
        kind: int,
        head: int,
        n: int,
        metadata: bytes,
        varying: bool,
        deadline_at: int,
        data: bytes,
        at: int,
        end: int,
    ) -> None:
        """A request is on its way: send a copy where its rule says so, if it belongs to the share that is copied."""
        plane, chooser = connection.plane, governed.chooser
        if not chooser.draw_mirror():
            return
        route = chooser.pick_mirror(plane)
        if route is None:
            governed.state.mirrors["empty_subset"] += 1
            return
        target: Endpoint = route.owner  # type: ignore[assignment]
        try:
            section = stamped_for(connection, decision, target, metadata, varying, deadline_at, None)
        except RequestError as error:
            governed.state.mirrors[error.reason] += 1
            return
        part = chooser.mirror
        if part is not None and part.entry and target.side != LOCAL:
            section = lengthened(section, part.entry)
        governed.state.mirrors[self.send(route, kind, head, n, section, data, at, end)] += 1
