"""Opening a stream that somebody watches: what documents say is done here, and nowhere on the way of other requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding.call import Call
from gateway.forwarding.connecting import connect

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
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
) -> None:
    """Open the stream of a request that is governed, has a deadline, or is seen. Raises RequestError."""
    plane = connection.plane
    call = Call(connection, stream_id, kind, decision, plane.now, end - at)
    route = choose(plane, connection, decision, call)
    connect(connection, decision, route, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, call)


def choose(plane: Plane, connection: Endpoint, decision: Decision, call: Call) -> Route:
    """Which candidate serves this attempt. Raises NoRoute, Overloaded."""
    if decision.multicast:
        return decision.first
    if connection.avoided is not None:
        route = decision.pick(plane)
        return decision.pick_other(plane, connection.avoided) if route.owner is connection.avoided else route
    return decision.pick(plane)
