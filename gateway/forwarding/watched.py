"""Opening a stream that somebody watches: what documents say is done here, and nowhere on the way of other requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import RequestError
from gateway.forwarding import deadline, faults
from gateway.forwarding.call import Call
from gateway.forwarding.connecting import connect

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
    call = Call(connection, stream_id, kind, decision, opened_at, end - at)
    if deadline_at:
        call.until = deadline.until(metadata, deadline_at, plane.now)
    if governed is not None:
        timeout_s = governed.timeout_s
        if timeout_s > 0.0 and (call.until == 0.0 or opened_at + timeout_s < call.until):
            call.until = opened_at + timeout_s
            call.limited = True
    call.trace = trace
    call.admit()
    try:
        route = nowhere.route if nowhere is not None else choose(plane, connection, decision, call)
        connect(
            connection, decision, route, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, call
        )
    except RequestError:
        call.give_up()
        raise
    mirrors = plane.mirrors
    if governed is not None and governed.chooser.mirror is not None and mirrors is not None and call.part is not None:
        mirrors.copy(connection, decision, governed, kind, head, n, metadata, varying, deadline_at, data, at, end)


def choose(plane: Plane, connection: Endpoint, decision: Decision, call: Call) -> Route:
    """Which candidate serves this attempt. Raises NoRoute, Overloaded."""
    if decision.multicast:
        return decision.first
    governed = decision.governed
    if governed is not None:
        chooser = governed.chooser
        route = chooser.pick(plane)
        call.part = chooser.part
        if connection.avoided is not None and route.owner is connection.avoided:
            route = chooser.pick_elsewhere(plane, connection.avoided)
        return route
    if connection.avoided is not None:
        route = decision.pick(plane)
        return decision.pick_other(plane, connection.avoided) if route.owner is connection.avoided else route
    return decision.pick(plane)
