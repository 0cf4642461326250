"""A central node and the shared table: what its edges and its own clients say goes in, what the table says is done.

An edge is attached when it says that this central is its parent in use and all that it serves has been told; from then
on each route that comes or goes is told to the table, which gathers and writes. An edge that another central has by now
is put aside; if it goes on saying that it is here, it is attached again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import FederationError
from gateway.federation.beyond import Beyond
from gateway.federation.claimed import KINDS, claim_name, principal_of, shared_name
from gateway.federation.table import Claim, NodeState, Offer, SharedTable, TableOptions, Touched
from gateway.federation.table.records import bucket
from gateway.federation.table.store import RouteStore
from gateway.federation.tagged import Tagged
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.links import DOWNLINK, LOCAL, PEER
from gateway.forwarding.plane import INTERNAL
from gateway.observe.loggers import structlog
from gateway.policy.access import is_reserved
from gateway.policy.principal import Kind
from gateway.routing.address import Address
from gateway.routing.route import Route

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.items import Told
    from gateway.federation.link import Link
    from gateway.forwarding.connection import Connection

#: How long an edge that another central has taken may go on saying that it is here, in seconds, between these two.
AGAIN_S: Final = (0.5, 1.5)
#: How long a number of instances may be behind, in seconds.
COUNT_S: Final = 5.0

_log = structlog.get_logger("gateway.federation")


class Sharing:
    """`table`: the shared table; `beyond`: what it says of other centrals, as far as that is asked for."""

    def __init__(
        self,
        federation: Federation,
        store: RouteStore,
        options: TableOptions,
        *,
        fenced: Callable[[str], None],
        nodes_changed: Callable[[], None],
    ) -> None:
        self._federation = federation
        self._plane = federation.plane
        self._routing = federation.plane.table
        self._loop = federation.loop
        self._nodes_changed = nodes_changed
        self.table = SharedTable(
            store,
            options,
            on_fenced=fenced,
            on_displaced=self._displaced,
            on_lost=self._lost,
            alarm=federation.journal.raise_alarm,
            calm=federation.journal.end_alarm,
        )
        self.beyond = Beyond(self._plane, self.table, self._loop, self._peer)
        self._tagged = Tagged(self._routing, self._loop, self.beyond.told_routes)
        self._peers: dict[str, list[Link]] = {}
        #: Which link an edge is to be attached by, and which it is.
        self._wanted: dict[str, Link] = {}
        self._held: dict[str, Link] = {}
        self._edges: dict[Connection, str] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._offers: dict[str, Counter[str]] = {}
        self._claims_due: dict[tuple[str, str], None] = {}
        self._offers_due: dict[str, None] = {}
        self._counting: dict[str, asyncio.TimerHandle] = {}
        self._flushing = False
        self._unsubscribe = self.table.subscribe(self._touched)

    async def start(self, url: str) -> None:
        """`url`: where other centrals reach this one. Raises FederationError when the engine can never work as it is
        set."""
        self.table.options = replace(self.table.options, url=url)
        try:
            await self.table.start()
        except FederationError:
            await self.table.stop()
            raise
        self._fill(self.table.name, [route for route in self._routing if self._edge_of(route) == self.table.name])

    async def stop(self) -> None:
        self._unsubscribe()
        self.beyond.stop()
        for timer in self._counting.values():
            timer.cancel()
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.table.stop()

    # Links

    def link_changed(self, link: Link) -> None:
        """A link is up, or its other end says something else about it than before."""
        if link.side == PEER and link.usable:
            links = self._peers.setdefault(link.name, [])
            if link not in links:
                links.append(link)
                self.table.link_up(link.name)
                self.beyond.linked(link.name)
        elif link.side == DOWNLINK and link.name == self.table.name:
            # A process of this node: what is behind it is this node's own.
            self._edges[link.connection] = link.name
        elif link.side == DOWNLINK:
            if link.intake.said_active and link.usable:
                if link.intake.whole:
                    self._hold(link)
            else:
                self._let_go(link)

    def link_gone(self, link: Link) -> None:
        """A link has ended, or will when its requests have."""
        if link.side == DOWNLINK:
            self._let_go(link)
            return
        links = self._peers.get(link.name, [])
        if link in links:
            links.remove(link)
            if not links:
                del self._peers[link.name]
                self.table.link_down(link.name)
            self.beyond.linked(link.name)

    def _peer(self, node: str) -> tuple[Connection, bytes] | None:
        for link in self._peers.get(node, ()):
            if link.usable:
                return link.connection, link.node
        return None

    def _hold(self, link: Link) -> None:
        edge = link.name
        if self._wanted.get(edge) is not link:
            self._wanted[edge] = link
            self._settle(edge)

    def _let_go(self, link: Link) -> None:
        edge = link.name
        self._edges.pop(link.connection, None)
        if self._wanted.get(edge) is link:
            del self._wanted[edge]
            self._offers.pop(edge, None)
            if self._held.pop(edge, None) is not None:
                self.table.detach(edge)

    def _settle(self, edge: str) -> None:
        if edge not in self._settling:
            task = self._settling[edge] = self._loop.create_task(self._attach(edge), name=f"table: edge {edge}")
            task.add_done_callback(lambda _: self._settling.pop(edge, None))

    async def _attach(self, edge: str) -> None:
        while (link := self._wanted.get(edge)) is not None and self._held.get(edge) is not link:
            try:
                epoch = await self.table.attach(edge, link.intake.epoch)
            except FederationError as error:
                _log.warning("an edge is refused", edge=edge, why=error.text)
                if self._wanted.get(edge) is link:
                    del self._wanted[edge]
                link.connection.close(CloseReason.POLICY, error.text)
                return
            if self._wanted.get(edge) is not link:
                continue
            self._held[edge] = link
            self._edges[link.connection] = edge
            self._fill(edge, self._routing.of_owner(link.connection))
            if link.intake.epoch != epoch:
                link.ask("gateway.epoch", b"%d" % epoch, lambda document: None, lambda text: None)
        if edge not in self._wanted:
            # It went while it was being attached.
            self.table.detach(edge)

    # What the table says

    def _displaced(self, edge: str) -> None:
        link = self._held.pop(edge, None)
        if link is None:
            return
        _log.info("edge has another parent", edge=edge)
        self._wanted.pop(edge, None)
        self._edges.pop(link.connection, None)
        self._offers.pop(edge, None)
        link.intake.use(False)
        self._loop.call_later(self._plane.random.uniform(*AGAIN_S), self._still_here, link)

    def _still_here(self, link: Link) -> None:
        if link.usable and link.intake.said_active and link.name not in self._wanted:
            link.intake.use(True)
            self.link_changed(link)

    def _lost(self, edge: str, name: str, stamp: int) -> None:
        kind, subject = principal_of(name)
        claims = self._federation.claims
        if kind in KINDS and claims.is_exclusive(kind):
            claims.lost(subject, kind, stamp)

    def _touched(self, touched: Touched) -> None:
        for node in touched.nodes & self._peers.keys():
            # It may not have been known when its link came up.
            self.table.link_up(node)
        if touched.nodes or touched.everything:
            self._nodes_changed()

    def nodes(self) -> list[NodeState]:
        """The other centrals, as the table knows them."""
        return self.table.nodes()

    # What the data plane asks

    def look(self, address: Address) -> None:
        self.beyond.look(address)

    def would_inquire(self, address: Address) -> bool:
        return bool(self._peers) and self._tagged.would_ask(address)

    def inquire(self, address: Address, then: Callable[[], None], *, afresh: bool) -> bool:
        """Ask the other centrals for what the table does not know. As `Links.resolve`."""
        return self._tagged.ask(
            address, [link for links in self._peers.values() for link in links], then, afresh=afresh
        )

    def told(self, route_id: bytes) -> Told | None:
        return self.beyond.told(route_id)

    # What edges and own clients say

    def route_changed(self, route: Route, by: int) -> None:
        """A route has come (`by` 1) or gone (-1)."""
        edge = self._edge_of(route)
        if edge is None or is_reserved(route.service):
            return
        offers = self._offers.get(edge)
        if offers is None:
            return
        if _is_claim(route):
            self._claims_due[edge, route.subject] = None
        if route.service:
            name = self._name(route)
            before = bucket(offers[name])
            offers[name] += by
            after = bucket(offers[name])
            if not before or not after:
                self._offers_due[edge] = None
            elif before != after:
                self._count_later(edge)
        if not self._flushing:
            self._flushing = True
            self._plane.schedule(self._flush)

    def _edge_of(self, route: Route) -> str | None:
        """The edge that a route is behind; None where it is not behind one of this central's."""
        owner: Any = route.owner
        if owner.side == LOCAL:
            return self.table.name
        return self._edges.get(owner) if owner.side == DOWNLINK else None

    def _fill(self, edge: str, routes: Iterable[Route]) -> None:
        """Tell all that is behind an edge."""
        claims: dict[str, Claim] = {}
        offers = self._offers[edge] = Counter()
        subjects: dict[str, None] = {}
        for route in routes:
            if not is_reserved(route.service):
                if route.service:
                    offers[self._name(route)] += 1
                if _is_claim(route):
                    subjects[route.subject] = None
        for subject in subjects:
            claims.update(self._claims(edge, subject))
        self.table.replace(edge, claims.values(), self._offered(edge))

    def _flush(self) -> None:
        self._flushing = False
        due, self._claims_due = self._claims_due, {}
        for edge, subject in due:
            book = self.table.books.edges.get(edge)
            if book is None or edge not in self._offers:
                continue
            claims = self._claims(edge, subject)
            for kind in KINDS:
                name = claim_name(kind, subject)
                claim = claims.get(name)
                if claim is None:
                    if book.get(name) is not None:
                        self.table.leave(edge, name)
                elif book.get(name) != claim:
                    self.table.join(edge, claim)
        offers, self._offers_due = self._offers_due, {}
        for edge in offers:
            if edge in self._offers:
                self.table.offer(edge, self._offered(edge))

    def _count_later(self, edge: str) -> None:
        """How many serve something is told now and then, not each time: everybody has to hear of it."""
        if edge not in self._counting:
            self._counting[edge] = self._loop.call_later(COUNT_S, self._count, edge)

    def _count(self, edge: str) -> None:
        del self._counting[edge]
        if edge in self._offers:
            self.table.offer(edge, self._offered(edge))

    def _claims(self, edge: str, subject: str) -> dict[str, Claim]:
        """The claims of the principals of this subject that are behind an edge, by their names in the table."""
        stamps: dict[str, int] = {}
        services: dict[str, set[str]] = {}
        for route in self._routing.routes_of_subject(subject):
            if not _is_claim(route) or self._edge_of(route) != edge:
                continue
            stamp, kind = self._claim_of(route)
            name = claim_name(kind, subject)
            stamps[name] = max(stamp, stamps.get(name, 0))
            services.setdefault(name, set()).update([self._name(route)] if route.service else [])
        return {name: Claim(name, stamp, tuple(sorted(services[name]))) for name, stamp in stamps.items()}

    def _claim_of(self, route: Route) -> tuple[int, str]:
        """The stamp of a route's session, and the kind of its principal."""
        owner: Any = route.owner
        if owner.side == LOCAL:
            return self._federation.claims.stamp(owner), self._kind_of(route)
        told = self._federation.told(owner, route.route_id)
        return 0 if told is None else told.stamp, self._kind_of(route)

    def _kind_of(self, route: Route) -> str:
        owner: Any = route.owner
        if owner.side == LOCAL:
            return str(owner.principal.kind)
        told = self._federation.told(owner, route.route_id)
        return str(Kind.SERVICE) if told is None else told.kind

    def _name(self, route: Route) -> str:
        """The name by which the table knows a service: one that has its device's name is known as those like it."""
        alone = self._federation.claims.is_exclusive(self._kind_of(route))
        return shared_name(route.service, route.subject) if alone else route.service

    def _offered(self, edge: str) -> dict[str, Offer]:
        return {name: Offer(bucket(count)) for name, count in self._offers[edge].items() if count > 0}

    def status(self) -> dict[str, Any]:
        """For people: the table, and what of other centrals is asked for here."""
        status = self.table.status()
        return {
            "fresh": status.fresh,
            "why": status.why,
            "devices": status.devices,
            "edges": status.edges,
            "nodes": status.nodes,
            "dirty": status.dirty,
            "attached": sorted(self._held),
            "asked_for": len(self.beyond),
        }


def _is_claim(route: Route) -> bool:
    """Whether somebody is there by the subject of a route."""
    return bool(route.subject) and route.owner.kind != INTERNAL and not is_reserved(route.service)  # type: ignore[attr-defined]
