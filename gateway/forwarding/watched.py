"""Opening a stream that somebody watches: what documents say is done here, and nowhere on the way of other requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import Overloaded, RequestError
from gateway.forwarding import deadline, faults, retrying
from gateway.forwarding.awaiting import MAX_OFFERED_BYTES
from gateway.forwarding.call import Call
from gateway.forwarding.connecting import connect
from gateway.forwarding.links import DOWNLINK
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_RESPONSE, REQUEST_STREAM
from gateway.wire.frames import FOLLOWS
from gateway.wire.octets import cut

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.tracing import Trace
    from gateway.routing.route import Route


def open_watched(
    connection: Endpoint,
    decision: Decision,
    kind: int,
    head: int,
    stream_id: int,
    n: int,
    metadata: bytes,
    varying: bool,
    deadline_at: int,
    data: bytes,
    at: int,
    end: int,
    trace: Trace | None,
) -> None:
    """Open the stream of a request that is governed, has a deadline, or is seen. Raises RequestError."""
    plane = connection.plane
    governed = decision.governed
    if connection.retried is not None:
        call = connection.retried
        connection.retried = None
        _open_again(connection, decision, call, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end)
        return
    nowhere = None
    if governed is not None and governed.fault is not None:
        becomes = faults.draw(connection, governed, governed.fault)
        if becomes == faults.HOLD:
            delay_s = governed.fault.delay_s
            faults.hold(connection, governed, delay_s, kind, head, stream_id, n, metadata, data, at, end)
            return
        nowhere = plane.nowhere if becomes == faults.LOSE else None
    # What waited for a route has been waiting since then.
    opened_at = connection.held_since or connection.asked_at or plane.now
    # Without a constructor, which is not called from C; `came` begins it.
    call = Call.__new__(Call)
    call.came(connection, stream_id, kind, decision, opened_at, end - at)
    if deadline_at:
        call.until = deadline.until(metadata, deadline_at, plane.now)
    if governed is not None:
        timeout_s = governed.timeout_s
        if timeout_s > 0.0 and (call.until == 0.0 or opened_at + timeout_s < call.until):
            call.until = opened_at + timeout_s
            call.limited = True
    call.trace = trace
    call.admit()
    if (
        governed is not None
        and governed.retries is not None
        and connection.side <= DOWNLINK
        and _may_be_kept(kind, head, end - at)
    ):
        call.keep(head, n, metadata, cut(data, at, end))
    try:
        route = nowhere.route if nowhere is not None else choose(plane, connection, decision, call)
        connect(
            connection, decision, route, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, call
        )
    except RequestError as error:
        if isinstance(error, Overloaded) and retrying.unsent(call, n):
            return
        call.give_up()
        raise
    if governed is not None and governed.chooser.mirror is not None and call.part is not None:
        mirrors = plane.mirrors
        if mirrors is not None:
            mirrors.copy(connection, decision, governed, kind, head, n, metadata, varying, deadline_at, data, at, end)


def _may_be_kept(kind: int, head: int, size: int) -> bool:
    return kind != REQUEST_FNF and not head & FOLLOWS and size <= MAX_OFFERED_BYTES


def _open_again(
    connection: Endpoint,
    decision: Decision,
    call: Call,
    kind: int,
    head: int,
    stream_id: int,
    n: int,
    metadata: bytes,
    varying: bool,
    deadline_at: int,
    data: bytes,
    at: int,
    end: int,
) -> None:
    """A further try of a request, decided afresh. Raises RequestError."""
    plane = connection.plane
    before, governed = call.governed, decision.governed
    call.decision, call.governed = decision, governed
    try:
        if governed is None or governed.retries is None:
            call.unkeep()
        if governed is None or before is not governed or call.part is None:
            call.part = None
            route = choose(plane, connection, decision, call)
            if governed is not None and route in call.been:
                route = governed.chooser.pick_again(plane, governed.chooser.part, call.been)
        else:
            route = governed.chooser.pick_again(plane, call.part, call.been)
        connect(
            connection, decision, route, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, call
        )
    except RequestError as error:
        if isinstance(error, Overloaded) and retrying.unsent(call, n):
            return
        call.given_up()
        raise
    call.code = 0
    # It is one request, however often it was sent.
    counters = connection.counters
    if kind == REQUEST_RESPONSE:
        counters.request_response -= 1
    elif kind == REQUEST_STREAM:
        counters.request_stream -= 1
    else:
        counters.request_channel -= 1


def choose(plane: Plane, connection: Endpoint, decision: Decision, call: Call) -> Route:
    """Which candidate serves this attempt. Raises NoRoute, Overloaded."""
    if decision.multicast:
        return decision.first
    governed = decision.governed
    if governed is not None:
        chooser = governed.chooser
        route = chooser.pick(plane)
        call.part = chooser.part
        if call.part.passes and call.kept is not None:
            # Who sees the instances tries it again.
            call.unkeep()
        if connection.avoided is not None and route.owner is connection.avoided:
            route = chooser.pick_elsewhere(plane, connection.avoided)
        return route
    if connection.avoided is not None:
        route = decision.pick(plane)
        return decision.pick_other(plane, connection.avoided) if route.owner is connection.avoided else route
    return decision.pick(plane)
