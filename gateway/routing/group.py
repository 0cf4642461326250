"""Live candidates: the routes that one service name, one tag value or one tag query finds right now.

The table changes a group in place, so whoever caches one sees joins and leaves without asking again. A group whose last
route left stays empty for ever; a later join makes a new one (and moves the table's generation).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.routing.route import Route

# Below this many routes a scan of the list is as fast as a dictionary and costs no memory.
_INDEXED_ABOVE = 16


class Group:
    """``routes`` in no promised order; ``version`` counts changes; ``turn`` is the balancer's: its rotating cursor, or
    the state of its draws.

    Iterate over a copy of ``routes`` when the loop body can close a connection.
    """

    __slots__ = ("_positions", "routes", "turn", "version")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes: list[Route] = list(routes)
        self.version = 0
        self.turn = -1
        self._positions: dict[Route, int] | None = None
        if len(self.routes) > _INDEXED_ABOVE:
            self._index()

    def __len__(self) -> int:
        return len(self.routes)

    def add(self, route: Route) -> None:
        """Appends a route that the group does not hold yet. O(1)."""
        routes = self.routes
        positions = self._positions
        if positions is not None:
            positions[route] = len(routes)
        routes.append(route)
        if positions is None and len(routes) > _INDEXED_ABOVE:
            self._index()
        self.version += 1

    def remove(self, route: Route) -> None:
        """Takes a route out that the group holds; the last one moves into its place. O(1)."""
        routes = self.routes
        positions = self._positions
        index = routes.index(route) if positions is None else positions.pop(route)
        last = routes.pop()
        if last is not route:
            routes[index] = last
            if positions is not None:
                positions[last] = index
        self.version += 1

    def _index(self) -> None:
        self._positions = {route: index for index, route in enumerate(self.routes)}
