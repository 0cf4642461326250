"""What this node tells over one link: the routes that a request over it may go to, in order and numbered.

Told is the difference between what the other side has heard and what holds, so any number of changes of one route
between two flushes is one item. Changes are gathered for a moment, but go out at once when the link was quiet, or when
a request is about to go the same way: what the other side must know to judge it is there first.

Upward and across goes all that is local or behind a child; downward what the child has asked for (`Interests`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.federation import items
from gateway.federation.interests import Interests
from gateway.federation.items import About, Told
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import DOWNLINK, LOCAL, MAY_GO
from gateway.forwarding.plane import Plane
from gateway.policy.access import is_reserved
from gateway.routing.route import Route
from gateway.wire.brokering import BrokerInfo, RouteRemove, Tags

#: How long changes are gathered, in seconds.
COALESCE_S: Final = 0.1
#: How often the other side is told what all of it adds up to, in seconds.
DIGEST_S: Final = 30.0
#: Routes that are told a loop turn.
A_TURN: Final = 2048


class Feed:
    """One subscription of `gateway.routes` by a node. `tell` says how a route is told; None: not at all. `nodes`: of
    which nodes it is told what they are, with their names; this one has none."""

    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Route], Told | None],
        nodes: Callable[[], dict[bytes, tuple[str | None, About]]],
        state: Callable[[], Tags],
        interests: Interests | None,
    ) -> None:
        self._exchange = exchange
        self._connection = exchange.caller
        self._plane: Plane = exchange.caller.plane
        self._loop = loop
        self._tell = tell
        self._nodes = nodes
        self._state = state
        self._interests = interests
        self._told: dict[bytes, int] = {}
        self._told_nodes: dict[bytes, tuple[str | None, About]] = {}
        self._told_state: Tags = ()
        self._digest = 0
        self._number = 0
        self._changed: dict[bytes, None] = {}
        self._flushed_at = self._behind_since = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._whole = False
        self._digest_at = self._plane.monotonic()
        exchange.on_end = self.stop
        may = MAY_GO[self._connection.side]
        # What may be gone to over this link is what its other end is told of.
        self._sides = may if interests is not None else frozenset({LOCAL, DOWNLINK})
        self._changed = dict.fromkeys(
            route.route_id for route in self._plane.table if interests is None or interests.meets(route)
        )
        self._behind_since = self._plane.monotonic()
        self.flush()

    @property
    def open(self) -> bool:
        return self._exchange.open

    @property
    def routes(self) -> int:
        """How many routes the other side knows of from here."""
        return len(self._told)

    @property
    def lag(self) -> int:
        """Changes that are yet to be told."""
        return len(self._changed)

    @property
    def lag_s(self) -> float:
        """For how long the oldest of them has not been told, in seconds."""
        return self._plane.monotonic() - self._behind_since if self._changed else 0.0

    @property
    def told(self) -> int:
        """How many items have been told since the stream began."""
        return self._number

    def changed(self, route: Route) -> None:
        """A route has come or gone."""
        side = route.owner.side  # type: ignore[attr-defined]
        if side not in self._sides or route.owner is self._connection:
            # It may have taken the place of one that was told.
            if route.route_id not in self._told:
                return
        elif self._interests is not None and route.route_id not in self._told and not self._interests.meets(route):
            return
        if not self._changed:
            self._behind_since = self._plane.monotonic()
        self._changed[route.route_id] = None
        self._soon()

    def nodes_changed(self) -> None:
        """Nodes have come or gone that the other side must know by name, or are something else now."""
        self._soon()

    def want(self, routes: list[Route]) -> None:
        """The child is interested in these; they are told at once."""
        self._changed.update(dict.fromkeys(route.route_id for route in routes))
        self.flush()

    def unwanted(self, routes: list[Route]) -> None:
        """The child is interested in these no more, unless it is for something else."""
        assert self._interests is not None
        for route in routes:
            if route.route_id in self._told and not self._interests.meets(route):
                self._bring_up_to_date(route.route_id, None)

    def flush(self) -> None:
        """Tell what has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._exchange.open:
            return
        self._flushed_at = self._plane.monotonic()
        self._tell_nodes()
        table = self._plane.table
        for _ in range(min(A_TURN, len(self._changed))):
            route_id = next(iter(self._changed))
            del self._changed[route_id]
            route = table.get(route_id)
            self._bring_up_to_date(route_id, None if route is None else self._as_told(route))
        if self._changed:
            self._timer = self._loop.call_later(0, self.flush)
        elif not self._whole:
            # The end of the snapshot: what the other side had before and has not heard of now is gone.
            self._whole = True
            self._tell_digest()

    def tick(self, now: float) -> None:
        if self._whole and now - self._digest_at >= DIGEST_S and not self._changed:
            self._tell_digest()

    def end(self) -> None:
        """Nothing more is told."""
        self._exchange.complete()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _soon(self) -> None:
        if self._timer is None:
            quiet = self._plane.monotonic() - self._flushed_at
            self._timer = self._loop.call_later(max(0.0, COALESCE_S - quiet), self.flush)

    def _as_told(self, route: Route) -> Told | None:
        if route.owner.side not in self._sides or route.owner is self._connection:  # type: ignore[attr-defined]
            return None
        if is_reserved(route.service) or not items.fits(tuple(route.tags.items())):
            return None
        if self._interests is not None and route.route_id not in self._told and not self._interests.meets(route):
            return None
        return self._tell(route)

    def _bring_up_to_date(self, route_id: bytes, told: Told | None) -> None:
        before = self._told.get(route_id)
        after = None if told is None else told.hash
        if before == after:
            return
        if before is not None:
            self._digest ^= before
            del self._told[route_id]
        if told is None or after is None:
            self._send(RouteRemove(self._plane.node_id, route_id, self._now_ms()))
        else:
            self._told[route_id] = after
            self._digest ^= after
            self._send(told.frame())

    def _tell_nodes(self) -> None:
        standing = self._nodes()
        gone = dict.fromkeys(self._told_nodes.keys() - standing.keys(), ("", About()))
        for node, known in (standing | gone).items():
            if self._told_nodes.get(node) != known:
                self._told_nodes[node] = known
                self._send(items.node_info(node, self._now_ms(), *known))
        for node in gone:
            del self._told_nodes[node]
        state = self._state()
        if state and state != self._told_state:
            self._told_state = state
            self._send(BrokerInfo(self._plane.node_id, self._now_ms(), state))

    def _tell_digest(self) -> None:
        self._digest_at = self._plane.monotonic()
        self._send(items.digest_info(self._plane.node_id, self._now_ms(), self._digest, len(self._told)))

    def _now_ms(self) -> int:
        return int(self._plane.wall() * 1000)

    def _send(self, frame: items.Item) -> None:
        if self._exchange.credit > 0:
            self._exchange.send(items.encode(self._number, frame))
            self._number += 1
        else:
            # Two thousand million items later: from the beginning.
            self._exchange.complete()
