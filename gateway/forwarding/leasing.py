"""Leases between this node and a peer that asked for them in SETUP (RSocket 1.0, "Lease Semantics"; P36).

As responder the node lends what the requester's rate limit allows, so that one who keeps to its lease is never refused
for its rate. As requester it sends a responder no more than that lets it, and weighs candidates by what is left.
Connections without leases meet none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import NoRoute, Overloaded, RateLimited
from gateway.forwarding.admitting import promised
from gateway.policy.overload import Overload
from gateway.session.lease import GrantedLease, HeldLease
from gateway.wire.frames import Lease, decode, encode

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.lifecycle import Lifecycle
    from gateway.routing.group import Group
    from gateway.routing.route import Route

#: Requests in one lease for a requester without a rate limit, and what its leases are a share of under overload.
GENEROUS = 1_000_000
STRAINED = 4096
#: What leases are divided by while the node is overloaded.
_SHARE = {Overload.NONE: 1, Overload.LATE: 4, Overload.SHEDDING: 16}
#: What is left of a responder's lease weighs in balancing up to this; a responder without leases weighs as much.
_AMPLE = 64
#: How many candidates are compared, of those that have something left.
_COMPARED = 64


def begin(connection: Connection) -> None:
    """SETUP asked for leases: lend one at once (P06), and send nothing before one has come."""
    connection.granted = GrantedLease()
    connection.held = HeldLease()
    connection.rate = connection.rate or 1
    lend(connection)


def suspend(connection: Connection) -> None:
    """The link is lost. Leases do not survive that, and requests that could only wait are better sent elsewhere."""
    if connection.held is not None:
        connection.held.restart()


def resume(connection: Connection) -> None:
    """There is another link."""
    if connection.granted is not None and connection.held is not None:
        connection.held.restart()
        connection.granted.restart(connection.plane.monotonic())
        lend(connection)


def lend(connection: Lifecycle) -> None:
    """Send the requester a lease if one is due, or stop it when it should ask nothing more."""
    assert connection.granted is not None
    now = connection.plane.monotonic()
    going = connection.draining or connection.plane.draining
    allowance = 0 if going else _allowance(connection, now)
    # Without an allowance the older lease stands, and runs out by itself.
    lease = connection.granted.renew(now, allowance) if allowance or going else None
    if lease is not None:
        connection.outbox.put_first(encode(lease))


def lend_less(connection: Connection) -> None:
    """The node is overloaded more than it was: what was lent before holds no longer."""
    if connection.granted is not None:
        now = connection.plane.monotonic()
        lease = connection.granted.shrink(now, _allowance(connection, now))
        if lease is not None:
            connection.outbox.put_first(encode(lease))


def spend(connection: Endpoint) -> None:
    """A request of a requester with leases. Raises RateLimited beyond its lease (fault 45)."""
    granted = connection.granted
    assert granted is not None
    now = connection.plane.monotonic()
    if not granted.spend(now):
        raise RateLimited("over the lease, or without one", reason="no_lease")
    connection.tokens -= 1.0
    if granted.due(now):
        lend(connection)  # type: ignore[arg-type]


def heard(connection: Connection, frame: bytes) -> None:
    """A LEASE of the responder. Raises FrameError when it is malformed."""
    lease = decode(frame)
    assert isinstance(lease, Lease)
    assert connection.held is not None
    connection.held.receive(lease, connection.plane.monotonic())


def may_send(target: Endpoint, now: float) -> bool:
    """Send one request to this responder, if it has leases and one is left."""
    return target.held is None or target.held.spend(now)


def is_leased(route: Route) -> bool:
    return getattr(route.owner, "held", None) is not None


def pick(group: Group, now: float) -> Route:
    """The candidate with the most left for each request that it has already, in turn where they are equal; take one
    request of it. Raises NoRoute without candidates, Overloaded when none of them takes requests."""
    routes = group.routes
    count = len(routes)
    if not count:
        raise NoRoute("no route: the last candidate has left")
    group.turn = (group.turn + 1) % count
    best: Route | None = None
    most = 0.0
    compared = 0
    for index in range(count):
        route = routes[(group.turn + index) % count]
        held = getattr(route.owner, "held", None)
        left = _AMPLE if held is None else min(held.available(now), _AMPLE)
        if not left:
            continue
        weight = left / (1 + route.owner.pending)
        if weight > most:
            best, most = route, weight
        compared += 1
        if compared >= _COMPARED:
            break
    if best is None:
        raise exhausted()
    may_send(best.owner, now)  # type: ignore[arg-type]
    return best


def exhausted() -> Overloaded:
    return Overloaded("whoever serves this takes no requests now; try again", reason="no_lease")


def _allowance(connection: Lifecycle, now: float) -> int:
    limits = connection.grant.limits
    overload = connection.plane.overload
    allowance = STRAINED if overload else GENEROUS
    if limits.requests_per_second:
        refill(connection, now)
        allowance = max(0, int(connection.tokens))
    allowance = min(allowance, promised(connection, now))
    return -(-allowance // _SHARE[overload])


def refill(connection: Endpoint, now: float) -> None:
    """What the rate limit has let through since it was last looked at."""
    limits = connection.grant.limits
    connection.tokens = min(
        float(limits.request_burst), connection.tokens + (now - connection.tokens_at) * limits.requests_per_second
    )
    connection.tokens_at = now
