"""Who is reachable: every route of this process, found by id, service, subject, tags and owner.

Rules: whatever the size, a join, a leave and a lookup cost a few dictionary operations. An index maps a value to the
route itself while it is the only one, and to a live ``Group`` from the second route, or the first lookup, on. Indexes
change before events go out, and events go out in the order of the changes, to every listener. ``generation`` moves with
every change: a decision taken at one generation holds while it stands.

Knows nothing of connections (an owner is an identity with a ``pending`` count), grants or balancing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.routing.group import Group
from gateway.routing.queries import QueryCache
from gateway.routing.route import Owner, Route
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, UNNARROWED, Query, route_id_of


@dataclass(frozen=True, slots=True)
class Joined:
    route: Route


@dataclass(frozen=True, slots=True)
class Left:
    route: Route


Event = Joined | Left
Listener = Callable[[Event], None]
Bucket = Route | Group


class RoutingTable:
    """One a node. Not thread-safe: one loop owns it."""

    __slots__ = (
        "_by_id",
        "_by_owner",
        "_by_service",
        "_by_subject",
        "_by_tag",
        "_delivering",
        "_events",
        "_listeners",
        "_queries",
        "generation",
        "unnarrowed",
    )

    def __init__(self, queries: QueryCache | None = None) -> None:
        self.generation = 0
        #: Services whose requests say in tags what they want, not from whom, with their number of such routes.
        self.unnarrowed: dict[str, int] = {}
        self._by_id: dict[bytes, Route] = {}
        self._by_service: dict[str, Bucket] = {}
        self._by_subject: dict[str, Bucket] = {}
        self._by_tag: dict[str, dict[str, Bucket]] = {SERVICE_NAME: self._by_service, SUB: self._by_subject}
        self._by_owner: dict[Owner, Route | dict[Route, None]] = {}
        self._queries = QueryCache() if queries is None else queries
        self._listeners: tuple[Listener, ...] = ()
        self._events: deque[tuple[Event, tuple[Listener, ...]]] = deque()
        self._delivering = False

    # Changes

    def add(self, route: Route) -> Route | None:
        """Makes a route reachable. The newest registration of a route id wins, even over another owner's.

        Returns the route that it displaced, whose owner the caller closes unless it is the same; None otherwise, also
        when the table holds this very object already.
        """
        displaced = self._by_id.get(route.route_id)
        if displaced is route:
            return None
        if displaced is not None:
            self._withdraw(displaced)
        self._enter(route)
        if self._listeners:
            if displaced is not None:
                self._record(Left(displaced))
            self._record(Joined(route))
            self._deliver()
        return displaced

    def remove(self, route: Route) -> bool:
        """False when the table does not hold this very object (it left before, or was displaced)."""
        if self._by_id.get(route.route_id) is not route:
            return False
        self._withdraw(route)
        if self._listeners:
            self._record(Left(route))
            self._deliver()
        return True

    def remove_owner(self, owner: Owner) -> list[Route]:
        """Takes out every route of a connection, all of them before the first event goes out; in order of joining."""
        routes = self.of_owner(owner)
        for route in routes:
            self._withdraw(route)
        if self._listeners:
            for route in routes:
                self._record(Left(route))
            self._deliver()
        return routes

    def invalidate(self) -> None:
        """Something outside the table changed what requests are decided by: let none of that hold any longer."""
        self.generation += 1

    # Lookups

    def get(self, route_id: bytes) -> Route | None:
        return self._by_id.get(route_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Route]:
        """Every route; the table must not change meanwhile."""
        return iter(self._by_id.values())

    @property
    def by_service(self) -> Mapping[str, Bucket]:
        """Read-only: membership and names. ``service`` gives the group."""
        return self._by_service

    def service(self, name: str) -> Group | None:
        """The candidates that registered exactly this name; the same object while the service exists."""
        return _group(self._by_service, name)

    def subject(self, subject: str) -> Group | None:
        """The routes of every connection of this subject."""
        return _group(self._by_subject, subject)

    def routes_of_subject(self, subject: str) -> Sequence[Route]:
        """As `subject`, for a look that keeps nothing: a subject with one route goes on without a group."""
        held = self._by_subject.get(subject)
        if held is None:
            return ()
        return (held,) if isinstance(held, Route) else tuple(held.routes)

    def of_owner(self, owner: Owner) -> list[Route]:
        held = self._by_owner.get(owner)
        if held is None:
            return []
        return [held] if isinstance(held, Route) else list(held)

    def services(self) -> Iterator[tuple[str, int]]:
        """Every registered name with its number of routes; the table must not change meanwhile."""
        for name, bucket in self._by_service.items():
            yield name, _size(bucket)

    def query(self, query: Query) -> Group | None:
        """The routes that carry every tag of a non-empty query (``tags.query_of``); None when there are none.

        The group is exact while the generation stands: look again when it has moved. A query of one ServiceName,
        ``sub`` or own tag is answered with the index's own group; the answers to others are cached, the same object
        while they are.
        """
        if len(query) == 1 and query[0][0] != ROUTE_ID:
            key, value = query[0]
            values = self._by_tag.get(key)
            return None if values is None else _group(values, value)
        answer = self._queries.get(query)
        if answer is None:
            answer = self._evaluate(query)
        return answer if answer is not None and answer.routes else None

    def _evaluate(self, query: Query) -> Group | None:
        rarest: Sequence[Route] = ()
        anchor = query[0]
        for term in query:
            key, value = term
            bucket: Bucket | None
            if key == ROUTE_ID:
                route_id = route_id_of(value)
                bucket = None if route_id is None else self._by_id.get(route_id)
            else:
                values = self._by_tag.get(key)
                bucket = None if values is None else values.get(value)
            if bucket is None:
                # Nothing to file: the next look is as cheap as this one, and made-up values must not push out answers.
                return None
            routes = bucket.routes if isinstance(bucket, Group) else (bucket,)
            if not rarest or len(routes) < len(rarest):
                rarest = routes
                anchor = term
        rest = [term for term in query if term is not anchor]
        if len(rarest) == 1 and anchor[0] != ROUTE_ID:
            # The index's own group is the answer at this generation, and asking again is as cheap as keeping it.
            return _group(self._by_tag[anchor[0]], anchor[1]) if rarest[0].matches(rest) else None
        return self._queries.put(query, anchor, [route for route in rarest if route.matches(rest)])

    # Events

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls ``listener`` with every change from now on; returns the function that ends it.

        Delivery is synchronous. A listener may change the table: what follows from that is delivered after the event at
        hand has reached everybody. A listener that raises does not keep an event from the others; the first such error
        is raised when all are delivered.
        """
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    def _record(self, event: Event) -> None:
        # With the listeners of this moment: one that subscribes later has seen the table with this change in it.
        self._events.append((event, self._listeners))

    def _deliver(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        failure: Exception | None = None
        while self._events:
            event, listeners = self._events.popleft()
            for listener in listeners:
                if listener not in self._listeners:
                    continue
                try:
                    listener(event)
                except Exception as error:
                    failure = failure or error
        self._delivering = False
        if failure is not None:
            raise failure

    # Indexes

    def _enter(self, route: Route) -> None:
        self._by_id[route.route_id] = route
        if route.service:
            _put(self._by_service, route.service, route)
        if route.subject:
            _put(self._by_subject, route.subject, route)
        for key, value in route.tags.items():
            values = self._by_tag.get(key)
            if values is None:
                values = self._by_tag[key] = {}
            _put(values, value, route)
        if UNNARROWED in route.tags:
            self.unnarrowed[route.service] = self.unnarrowed.get(route.service, 0) + 1
        owner = route.owner
        held = self._by_owner.get(owner)
        if held is None:
            self._by_owner[owner] = route
        elif isinstance(held, Route):
            self._by_owner[owner] = {held: None, route: None}
        else:
            held[route] = None
        self._queries.joined(route)
        self.generation += 1

    def _withdraw(self, route: Route) -> None:
        del self._by_id[route.route_id]
        if route.service:
            _take(self._by_service, route.service, route)
        if route.subject:
            _take(self._by_subject, route.subject, route)
        for key, value in route.tags.items():
            values = self._by_tag[key]
            _take(values, value, route)
            if not values:
                del self._by_tag[key]
        if UNNARROWED in route.tags:
            self.unnarrowed[route.service] -= 1
            if not self.unnarrowed[route.service]:
                del self.unnarrowed[route.service]
        owner = route.owner
        held = self._by_owner[owner]
        if isinstance(held, Route):
            del self._by_owner[owner]
        else:
            del held[route]
            if not held:
                del self._by_owner[owner]
        self._queries.left(route)
        self.generation += 1


def _put(values: dict[str, Bucket], value: str, route: Route) -> None:
    held = values.get(value)
    if held is None:
        values[value] = route
    elif isinstance(held, Group):
        held.add(route)
    else:
        values[value] = Group((held, route))


def _take(values: dict[str, Bucket], value: str, route: Route) -> None:
    held = values[value]
    if isinstance(held, Group):
        held.remove(route)
        if held.routes:
            return
    del values[value]


def _group(values: dict[str, Bucket], value: str) -> Group | None:
    held = values.get(value)
    if isinstance(held, Route):
        # From the first lookup on: callers keep the group, and it must be the one that later changes reach.
        held = values[value] = Group((held,))
    return held


def _size(bucket: Bucket) -> int:
    return 1 if isinstance(bucket, Route) else len(bucket.routes)
