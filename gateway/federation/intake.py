"""What the other end of one link has told, as far as this node believes it.

Each route is judged by the link's grant when it is told, and again when that changes; what is not allowed is counted
and not entered, but remembered, so that both sides' digests agree. Routes enter the node's table with the link's
connection as their owner, so that they leave it whole with the link. Of two routes with one id the later claim of the
same subject wins (`claims`).

A link that is kept warm tells all of this, too; its routes wait here until it is in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from gateway.errors import FrameError
from gateway.federation import items
from gateway.federation.claims import Claims
from gateway.federation.items import About, Told
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import LOCAL
from gateway.routing.route import Route
from gateway.wire.brokering import BrokerInfo, RouteJoin, RouteRemove

_EPOCH_DIGITS = 19


class Broken(Exception):
    """What was told does not add up: it has to be told again from the beginning."""


class Mismatch(Broken):
    """The digest of what was told is another one."""


class Intake:
    """`names`: of the nodes behind the link, by id; `about`: what they are said to be. `active`: whether its routes are
    for use. `whole`: everything that holds has been told once. `said_active`, `epoch`: whether the child says that this
    is its uplink, and which of its lives it is in (0: it has not been told). `claims` knows which of two routes with
    one id stands."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        node: bytes,
        claims: Claims,
        *,
        active: bool,
    ) -> None:
        self.connection = connection
        self.names: dict[bytes, str] = {node: name}
        self.about: dict[bytes, About] = {}
        self.active = active
        self.whole = False
        self.said_active = False
        self.epoch = 0
        self._node = node
        self._claims = claims
        self._table = connection.plane.table
        self._told: dict[bytes, tuple[Told, int]] = {}
        self._refused: set[bytes] = set()
        self._routes: dict[bytes, Route] = {}
        self._below: Counter[tuple[str, str]] = Counter()
        self._digest = 0
        self._expected = 0
        self._unseen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._told)

    @property
    def refused(self) -> int:
        """Routes that the link's grant does not allow."""
        return len(self._refused)

    @property
    def heard(self) -> int:
        """How many items have come since the stream began."""
        return self._expected

    def told(self, route_id: bytes) -> Told | None:
        found = self._told.get(route_id)
        return None if found is None else found[0]

    def unused(self) -> Iterator[tuple[Told, str]]:
        """What was told and is not in the table, and why."""
        for route_id, (told, _hash) in self._told.items():
            if route_id in self._refused:
                yield told, "the grant of the link does not allow it"
            elif not self.active:
                yield told, "the link is kept warm and is not in use"
            elif route_id in self._routes and self._table.get(route_id) is not self._routes[route_id]:
                yield told, "the same connection came later elsewhere"

    def begin(self) -> None:
        """A new stream begins: what it does not repeat is gone when its snapshot ends."""
        self._expected = 0
        self.whole = False
        self._unseen = set(self._told)

    def has_below(self, subject: str, kind: str) -> bool:
        """Whether a connection of this principal has been told of."""
        return (subject, kind) in self._below

    def take(self, data: bytes) -> None:
        """One item. Raises Broken, or FrameError for what is no item."""
        number, frame = items.decode(data)
        if number != self._expected:
            raise Broken(f"item {number} came where {self._expected} was due")
        self._expected += 1
        if isinstance(frame, RouteJoin):
            self._join(Told.of(frame))
        elif isinstance(frame, RouteRemove):
            self._drop(frame.route_id)
        else:
            self._hear(frame)

    def use(self, active: bool) -> None:
        """Put its routes into use, or out of it."""
        if active == self.active:
            return
        self.active = active
        if active:
            for route in self._routes.values():
                self.enter(route)
        else:
            self._table.remove_owner(self.connection)

    def judge(self) -> None:
        """The link's grant has changed."""
        for told, _ in list(self._told.values()):
            allowed = self._allows(told)
            if allowed and told.route_id in self._refused:
                self._refused.discard(told.route_id)
                self._accept(told)
            elif not allowed and told.route_id not in self._refused:
                self._refused.add(told.route_id)
                self._withdraw(told.route_id)

    def again(self, route_id: bytes) -> None:
        """Nobody else holds this route id any more."""
        route = self._routes.get(route_id)
        if route is not None:
            self.enter(route)

    def enter(self, route: Route) -> None:
        """Put a route into the table, unless somebody has a better claim to its id."""
        if not self.active or self.connection.closed or self.connection.draining:
            return
        standing = self._table.get(route.route_id)
        if standing is not None and standing.owner is not self.connection:
            if standing.subject != route.subject:
                if standing.owner.side != LOCAL:  # type: ignore[attr-defined]
                    self.connection.counters.refuse("route_id_taken")
                return
            if not self._claims.prevails(route, standing):
                return
        self._table.add(route)

    def _allows(self, told: Told) -> bool:
        grant = self.connection.grant
        if told.service:
            return grant.may_register(told.service)
        # A connection that serves nothing by name is reachable by its subject; no grant speaks of that.
        return bool(told.subject)

    def _join(self, told: Told) -> None:
        route_id = told.route_id
        self._unseen.discard(route_id)
        before = self._told.get(route_id)
        hash = told.hash
        if before is not None:
            if before[1] == hash:
                return
            self._forget(route_id)
        believed = self._claims.observe(told.stamp)
        if believed != told.stamp:
            told = replace(told, stamp=believed)
        self._told[route_id] = (told, hash)
        self._digest ^= hash
        self._below[told.subject, told.kind] += 1
        if self._allows(told):
            self._accept(told)
            return
        self._refused.add(route_id)
        self._withdraw(route_id)
        self.connection.counters.refuse("route_not_granted")

    def _accept(self, told: Told) -> None:
        try:
            route = Route(told.route_id, told.service, self.connection, subject=told.subject, tags=told.tags)
        except ValueError as error:
            raise FrameError(str(error)) from error
        self._routes[told.route_id] = route
        self.enter(route)

    def _drop(self, route_id: bytes) -> None:
        if route_id in self._told:
            self._withdraw(route_id)
            self._forget(route_id)

    def _forget(self, route_id: bytes) -> None:
        told, hash = self._told.pop(route_id)
        self._digest ^= hash
        self._refused.discard(route_id)
        key = (told.subject, told.kind)
        self._below[key] -= 1
        if not self._below[key]:
            del self._below[key]

    def _withdraw(self, route_id: bytes) -> None:
        route = self._routes.pop(route_id, None)
        if route is not None:
            self._table.remove(route)

    def _hear(self, info: BrokerInfo) -> None:
        said = dict(info.tags)
        if items.DIGEST in said:
            if not self.whole:
                self.whole = True
                for route_id in self._unseen:
                    self._drop(route_id)
                self._unseen = set()
            if said[items.DIGEST] != f"{self._digest:016x}" or said.get(items.COUNT) != str(len(self._told)):
                raise Mismatch(f"digest {self._digest:016x} of {len(self._told)} routes is not {said[items.DIGEST]}")
        elif items.STATE in said:
            self.said_active = said[items.STATE] == items.ACTIVE
            epoch = said.get(items.EPOCH, "0")
            if not epoch.isdecimal() or len(epoch) > _EPOCH_DIGITS:
                raise FrameError("the epoch of a link's other end is no number")
            self.epoch = int(epoch)
            self.use(self.said_active)
        elif items.NAME in said and info.broker_id != self._node:
            if said[items.NAME]:
                self.names[info.broker_id] = said[items.NAME]
            else:
                self.names.pop(info.broker_id, None)
                self.about.pop(info.broker_id, None)
        if items.VERSION in said:
            self.about[info.broker_id] = About.of(said)
