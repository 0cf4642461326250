"""Who came where last: of two sessions of one device on different nodes, the earlier one is closed.

A node closes the earlier of two sessions of its own when it accepts the later one (`acceptor.take_over`). Here is the
same for sessions on different nodes, of principals whose kind may have one connection (`max_connections`): the node
that has both behind it, or one of them itself, closes what is its own, and tells the child that has the other one,
which does the same. What is behind a peer is the peer's to see to.

A claim is when a session was accepted, by the hybrid clock of the node that accepted it; it goes with the routes of the
session wherever they are told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from gateway.federation.items import Told
from gateway.federation.table.stamp import HybridClock
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.links import DOWNLINK, LOCAL
from gateway.forwarding.plane import INTERNAL
from gateway.policy.principal import Kind
from gateway.routing.route import Route

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane


class Claim(NamedTuple):
    """Of two claims the greater one is the later; `node` is for two of one moment."""

    stamp: int
    node: bytes
    kind: str


class Claims:
    """`told` finds what a link has told of a route; `tell` lets a child know that the sessions of a principal which
    began at `stamp` or before have gone elsewhere."""

    def __init__(
        self,
        plane: Plane,
        told: Callable[[Connection, bytes], Told | None],
        tell: Callable[[Connection, str, str, int], None],
    ) -> None:
        self._plane = plane
        self._table = plane.table
        self._told = told
        self._tell = tell
        self._clock = HybridClock()
        self._stamps: dict[Connection, int] = {}

    def stamp(self, connection: Connection) -> int:
        """When a connection of this node came: when this was asked first."""
        stamp = self._stamps.get(connection)
        if stamp is None:
            stamp = self._stamps[connection] = self._clock.stamp(self._now_ms())
        return stamp

    def observe(self, stamp: int) -> int:
        """Take notice of another node's stamp; returns as much of it as is believed."""
        return self._clock.observe(stamp, self._now_ms())

    def joined(self, route: Route) -> None:
        """A route is in the table: whoever has claimed its subject before that, or since, has it now."""
        owner = cast("Connection", route.owner)
        if owner.side == LOCAL:
            self.stamp(owner)
        routes = self._table.routes_of_subject(route.subject)
        if len(routes) < 2:
            return
        mine = self._of(route)
        if mine is None or not self.is_exclusive(mine.kind):
            return
        claims = [(each, claim) for each in routes if (claim := self._of(each)) is not None and claim.kind == mine.kind]
        latest = max((claim for _, claim in claims), default=mine)
        self._lose([(each, claim) for each, claim in claims if _is_over(claim, latest)])

    def left(self, route: Route) -> None:
        """A route is out of the table, perhaps because another one has taken its id."""
        owner = cast("Connection", route.owner)
        if owner.side == LOCAL:
            if owner.draining or not owner.accepted:
                self._stamps.pop(owner, None)
            return
        standing = self._table.get(route.route_id)
        if standing is not None and standing.owner is not owner:
            self._yield(route, standing)

    def prevails(self, route: Route, standing: Route) -> bool:
        """Whether what a link has told takes the place of a route with the same id and subject.

        The later claim does; of one claim that was told by two links, the nearer. But what serves here stays, unless
        its session has gone to where the other one is.
        """
        mine, other = self._of(route), self._of(standing)
        side, standing_side = cast("Connection", route.owner).side, cast("Connection", standing.owner).side
        if mine is None or other is None:
            return standing_side != LOCAL
        if mine == other:
            return side <= standing_side
        if mine < other:
            self._yield(route, standing)
            return False
        if standing_side != LOCAL:
            return True
        self._yield(standing, route)
        return self._table.get(route.route_id) is not standing

    def lost(self, subject: str, kind: str, stamp: int) -> None:
        """The sessions of a principal that began at `stamp` or before have gone to another node."""
        self.observe(stamp)
        routes = self._table.routes_of_subject(subject)
        claims = [(each, claim) for each in routes if (claim := self._of(each)) is not None and claim.kind == kind]
        self._lose([(each, claim) for each, claim in claims if claim.stamp <= stamp])

    def _yield(self, route: Route, to: Route) -> None:
        """One of two routes of one subject gives way, where there can be one session only."""
        mine, other = self._of(route), self._of(to)
        if mine is None or other is None or mine.kind != other.kind or route.subject != to.subject:
            return
        if _is_over(mine, other) and self.is_exclusive(mine.kind):
            self._lose([(route, mine)])

    def _lose(self, lost: list[tuple[Route, Claim]]) -> None:
        """These sessions are over, once each: a device may have many routes."""
        latest: dict[Connection, tuple[str, Claim]] = {}
        for route, claim in lost:
            owner = cast("Connection", route.owner)
            if owner not in latest or latest[owner][1] < claim:
                latest[owner] = (route.subject, claim)
        for owner, (subject, claim) in latest.items():
            if owner.side == DOWNLINK:
                self._tell(owner, subject, claim.kind, claim.stamp)
            elif owner.side == LOCAL and owner.grant.limits.max_connections == 1:
                owner.turn_out(CloseReason.TAKEN_OVER, f"{subject} has connected to another node")

    def _of(self, route: Route) -> Claim | None:
        """The claim that a route goes with; None for what nobody here decides about."""
        owner = cast("Connection", route.owner)
        if owner.side == LOCAL:
            if owner.kind == INTERNAL or not route.subject:
                return None
            return Claim(self.stamp(owner), self._plane.node_id, str(owner.principal.kind))
        told = self._told(owner, route.route_id)
        return None if told is None else Claim(told.stamp, told.node, told.kind)

    def is_exclusive(self, kind: str) -> bool:
        """Whether a principal of this kind may have one connection only."""
        return self._plane.snapshot.profiles[Kind(kind)].max_connections == 1

    def _now_ms(self) -> int:
        return int(self._plane.wall() * 1000)


def _is_over(claim: Claim, latest: Claim) -> bool:
    """Whether a session has gone to another node. What two links tell of one node is that node's to put right."""
    return claim < latest and claim.node != latest.node
