"""What is behind other central nodes, as far as somebody here has asked for it.

The shared table knows a million devices; this node's own table is to know those that are called from here. Whoever is
looked for gets an entry: its routes are in the node's table as long as the shared one says so, owned by the link to the
central that has it. Entries that nobody was found for are kept too, so that what comes later is told to whoever waits
for it. Both are bounded; what makes room is looked up again when it is asked for again, at the cost of a few dictionary
look-ups.

A service is one route for each central that offers it (and for each set of tags, where there are some): the request is
given to one of what that central has. A principal is one route for each service that it has registered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from gateway.federation.claimed import KINDS, claim_name, own_name, principal_of
from gateway.federation.interests import names_of
from gateway.federation.items import Told
from gateway.federation.table import Place, SharedTable, Touched
from gateway.federation.table.places import Edge
from gateway.policy.access import is_reserved
from gateway.policy.principal import Kind
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.tags import SERVICE_NAME, SUB

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane

#: Entries with routes, and without.
FOUND: Final = 65_536
MISSED: Final = 8_192
#: Sets of tags for which a service of one central has a route of its own.
TAG_SETS: Final = 16
#: Names that one route is looked for by, the shortest ones.
MAX_NAMES: Final = 8
#: Entries that are looked at again in a loop turn, and the least time between two such turns, in seconds.
A_TURN: Final = 512
PACE_S: Final = 0.02

Tags = tuple[tuple[str, str], ...]
#: Whether it is a subject, and its name; else a service.
Key = tuple[bool, str]


class _Wanted:
    """A route as it is to be."""

    __slots__ = ("kind", "node", "service", "subject", "suspect", "tags")

    def __init__(self, place: Place, kind: str, service: str = "", subject: str = "", tags: Tags = ()) -> None:
        self.node = place.node
        self.suspect = place.suspect
        self.kind = kind
        self.service = service
        self.subject = subject
        self.tags = tags

    def route_id(self) -> bytes:
        parts = (self.node, self.kind, self.service, self.subject, *(text for tag in self.tags for text in tag))
        whole = b"".join(len(raw := part.encode()).to_bytes(2, "big") + raw for part in parts)
        return hashlib.blake2b(whole, digest_size=16).digest()


class Entry:
    """`places`: names of the edges and nodes by which it was found; a change of one of them is one of the entry."""

    __slots__ = ("incomplete", "key", "places", "routes")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.routes: dict[bytes, Route] = {}
        self.places: set[str] = set()
        #: What the principal serves is not all known yet.
        self.incomplete = False


class Beyond:
    """`peer` finds the connection to a central by its name, and its id, while there is one that takes requests."""

    def __init__(
        self,
        plane: Plane,
        table: SharedTable,
        loop: asyncio.AbstractEventLoop,
        peer: Callable[[str], tuple[Connection, bytes] | None],
    ) -> None:
        self._routing = plane.table
        self._plane = plane
        self._table = table
        self._loop = loop
        self._peer = peer
        self._found: OrderedDict[Key, Entry] = OrderedDict()
        self._missed: OrderedDict[Key, Entry] = OrderedDict()
        self._by_place: dict[str, dict[Entry, None]] = {}
        self._incomplete: dict[Entry, None] = {}
        self.told_routes: dict[bytes, Told] = {}
        self._due: dict[Key, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._worked_at = float("-inf")
        self._unsubscribe = table.subscribe(self._touched)

    def __len__(self) -> int:
        """Entries with routes."""
        return len(self._found)

    def stop(self) -> None:
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def told(self, route_id: bytes) -> Told | None:
        """How a route of an entry is told to a child."""
        return self.told_routes.get(route_id)

    def look(self, address: Address) -> None:
        """Have in the node's table what an address may mean behind other centrals."""
        subject = address.tag(SUB)
        if subject is not None:
            self._ask((True, subject))
            return
        service = address.tag(SERVICE_NAME)
        for name in names_of(service or address.route)[-MAX_NAMES:] if service or address.route else ():
            if not is_reserved(name):
                self._ask((False, name))
                # What a device serves under its own name is found by its subject.
                self._ask((True, name))

    def linked(self, node: str) -> None:
        """There is a link to a central, or not any more."""
        for entry in list(self._by_place.get(node, ())):
            self._settle(entry)

    def _ask(self, key: Key) -> None:
        entry = self._found.get(key)
        if entry is not None:
            self._found.move_to_end(key)
            return
        entry = self._missed.get(key)
        if entry is not None:
            self._missed.move_to_end(key)
            return
        entry = self._missed[key] = Entry(key)
        self._settle(entry)
        for entries, most in ((self._found, FOUND), (self._missed, MISSED)):
            while len(entries) > most:
                _, oldest = entries.popitem(last=False)
                self._file(oldest, set())
                self._enter(oldest, {})

    # What the shared table says

    def _touched(self, touched: Touched) -> None:
        due = self._due
        if touched.everything:
            due.update(dict.fromkeys((*self._found, *self._missed)))
        else:
            self._note((True, principal_of(name)[1]) for name in touched.devices)
            self._note((False, name) for name in touched.services)
            for place in (*touched.edges, *touched.nodes):
                due.update((entry.key, None) for entry in self._by_place.get(place, ()))
            if touched.services or touched.edges:
                due.update((entry.key, None) for entry in self._incomplete)
        if due and self._timer is None:
            pause = self._worked_at + PACE_S - self._loop.time()
            if pause > 0:
                self._timer = self._loop.call_later(pause, self._work)
            else:
                self._work()

    def _note(self, keys: Iterable[Key]) -> None:
        self._due.update((key, None) for key in keys if key in self._found or key in self._missed)

    def _work(self) -> None:
        self._timer = None
        self._worked_at = self._loop.time()
        for _ in range(min(A_TURN, len(self._due))):
            key = next(iter(self._due))
            del self._due[key]
            entry = self._found.get(key) or self._missed.get(key)
            if entry is not None:
                self._settle(entry)
        if self._due:
            self._timer = self._loop.call_later(0, self._work)

    # An entry and its routes

    def _settle(self, entry: Entry) -> None:
        """Bring what the node's table has of it up to date."""
        by_subject, name = entry.key
        places: set[str] = set()
        wanted = self._of_subject(entry, places) if by_subject else self._of_service(name, places)
        self._file(entry, places)
        linked = {each.route_id(): each for each in wanted if self._peer(each.node) is not None}
        if any(not each.suspect for each in linked.values()):
            linked = {route_id: each for route_id, each in linked.items() if not each.suspect}
        self._enter(entry, linked)
        entries, others = (self._found, self._missed) if entry.routes else (self._missed, self._found)
        if others.pop(entry.key, None) is not None:
            entries[entry.key] = entry

    def _of_service(self, name: str, places: set[str]) -> list[_Wanted]:
        found: dict[tuple[str, Tags], _Wanted] = {}
        sets: dict[str, int] = {}
        _note_places(self._table.view.edges_offering(name), places)
        for place, offer in self._table.service(name):
            if place.node == self._table.name:
                continue
            tags = tuple(sorted(offer.tags.items()))
            if (place.node, tags) not in found:
                sets[place.node] = sets.get(place.node, 0) + 1
                if sets[place.node] <= TAG_SETS:
                    found[place.node, tags] = _Wanted(place, str(Kind.SERVICE), name, tags=tags)
        return list(found.values())

    def _of_subject(self, entry: Entry, places: set[str]) -> list[_Wanted]:
        found = []
        self._incomplete.pop(entry, None)
        for kind in KINDS:
            name = claim_name(kind, entry.key[1])
            edges = self._table.view.edges_of(name)
            _note_places(edges, places)
            place = self._table.device(name) if edges else None
            if place is None or place.node == self._table.name:
                continue
            services, complete = self._table.view.served_by(name)
            if not complete:
                self._incomplete[entry] = None
            subject = entry.key[1]
            found += [_Wanted(place, kind, own_name(service, subject), subject) for service in services or ("",)]
        return found

    def _file(self, entry: Entry, places: set[str]) -> None:
        for place in entry.places - places:
            held = self._by_place[place]
            del held[entry]
            if not held:
                del self._by_place[place]
        for place in places - entry.places:
            self._by_place.setdefault(place, {})[entry] = None
        entry.places = places
        if not places:
            self._incomplete.pop(entry, None)

    def _enter(self, entry: Entry, wanted: dict[bytes, _Wanted]) -> None:
        for route_id, route in list(entry.routes.items()):
            peer = self._peer(wanted[route_id].node) if route_id in wanted else None
            if peer is None or peer[0] is not route.owner or self._routing.get(route_id) is not route:
                del entry.routes[route_id]
                del self.told_routes[route_id]
                self._routing.remove(route)
        for route_id, each in wanted.items():
            peer = self._peer(each.node)
            if peer is None or route_id in entry.routes:
                continue
            connection, node = peer
            route = Route(route_id, each.service, connection, subject=each.subject, tags=each.tags)
            entry.routes[route_id] = route
            # No claim: who came later is for the centrals between which a device moves.
            self.told_routes[route_id] = Told(route_id, node, 0, each.service, each.subject, each.kind, each.tags)
            self._routing.add(route)


def _note_places(edges: Iterable[Edge], places: set[str]) -> None:
    for edge in edges:
        places.add(edge.name)
        if edge.node is not None:
            places.add(edge.node.name)
