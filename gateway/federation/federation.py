"""The links of one node, and what the data plane asks of them.

Which way a request may go is the data plane's (`forwarding.links`); what is known of other nodes' routes is in the
node's own table. Here is how it gets there: every link's routes in, this node's routes out, and questions upward for
what is not known. Services offered to links: `gateway.routes` (as for clients, with another answer), `gateway.link`
(who is there), `gateway.resolve` (a child asks for routes), and those of `answers`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from gateway import __version__
from gateway.errors import NotPermitted, RejectedSetup
from gateway.federation import interests, items
from gateway.federation.answers import Answers, as_json
from gateway.federation.census import Census
from gateway.federation.claims import Claims
from gateway.federation.feed import Feed
from gateway.federation.interests import Asked, Interests, Key, key_of
from gateway.federation.items import Told
from gateway.federation.journal import Journal
from gateway.federation.link import Link
from gateway.federation.resolving import MAX_FORGOTTEN, Resolving
from gateway.federation.roster import Roster
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.endpoint import Endpoint
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.inquiry import InquiryDesk
from gateway.forwarding.links import DOWNLINK, LOCAL, PEER, UPLINK
from gateway.forwarding.plane import INTERNAL, Plane
from gateway.forwarding.services import NodeServices, RouteFeed
from gateway.observe.loggers import structlog
from gateway.policy.principal import Kind, Principal
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.table import Event, Left
from gateway.wire.brokering import BrokerInfo, Tags
from gateway.wire.frames import FrameType, Setup

EDGE, CENTRAL = "edge", "central"
#: How long a question to the parent may take, in seconds; a request waits for it no longer.
RESOLVE_S: Final = 1.5
#: After how long the parent is asked again for what it did not know, in seconds. It tells by itself what is new, as
#: long as it remembers that this node wants to hear of it.
ASK_AGAIN_S: Final = 1.0
#: What a central that follows the shared table sends with `gateway.routes` to a peer: it needs to be told of no routes.
_HAS_TABLE: Final = b"table"

_log = structlog.get_logger("gateway.federation")


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds. `version`: what this node says that it runs. `accept_services`, `accept_calls`: what a parent
    or peer may offer here, and call."""

    role: str = EDGE
    name: str = ""
    version: str = __version__
    keepalive_s: float = 0.5
    silence_s: float = 1.75
    connect_timeout_s: float = 2.0
    backoff_s: tuple[float, float] = (0.1, 5.0)
    token_s: float = 600.0
    accept_services: tuple[str, ...] = ("*",)
    accept_calls: tuple[str, ...] = ("*",)


class Shared(Protocol):
    """The table that centrals share, where this node follows one (`sharing`)."""

    def link_changed(self, link: Link) -> None: ...
    def link_gone(self, link: Link) -> None: ...
    def route_changed(self, route: Route, by: int) -> None: ...
    def look(self, address: Address) -> None: ...
    def would_inquire(self, address: Address) -> bool: ...
    def inquire(self, address: Address, then: Callable[[], None], *, afresh: bool) -> bool: ...
    def told(self, route_id: bytes) -> Told | None: ...


class Federation:
    """`uplink`: the parent in use, if any; `parents`: whether there should be one. `on_up`, `on_down`, `on_drain` are
    told of links that this side has dialled, `on_use` of the parent in use."""

    def __init__(
        self, plane: Plane, services: NodeServices, loop: asyncio.AbstractEventLoop, options: Options, roster: Roster
    ) -> None:
        self.plane = plane
        self.options = options
        self.roster = roster
        self.loop = loop
        self.desk = InquiryDesk(plane)
        self.links: dict[Connection, Link] = {}
        self.uplink: Link | None = None
        self.parents = False
        self.down_since = plane.wall()
        self.on_lost: Callable[[Link, str], None] = lambda link, text: None
        self.on_up: Callable[[Link], None] = lambda link: None
        self.on_use: Callable[[Link | None], None] = lambda link: None
        #: When this process began, in Unix milliseconds: of two that claim to be one node the later one is it.
        self.began_ms = int(time.time() * 1000)
        #: Which life of this node the centre takes it to be in; 0 before a parent has said.
        self.epoch = 0
        self.shared: Shared | None = None
        self.journal = Journal(plane.wall)
        self._lives: dict[bytes, int] = {}
        self._asked = Asked()
        self._asking: dict[Key, list[Callable[[], None]]] = {}
        self.claims = Claims(plane, self.told, self._tell_claimed)
        self.census = Census(self)
        self._ticking: asyncio.TimerHandle | None = None
        services.offer("routes", FrameType.REQUEST_STREAM, self._routes)
        services.offer("link", FrameType.REQUEST_RESPONSE, self._link)
        Resolving(self, services, Answers(self, services).serving)
        self._unsubscribe = plane.table.subscribe(self._on_route)
        plane.links = self
        self._tick()

    def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        self.census.stop()
        self._unsubscribe()
        for link in self.links.values():
            link.stop()

    # Links that come and go

    def admit(self, connection: Connection, info: BrokerInfo, setup: Setup, principal: Principal) -> int:
        member = self.roster.find(principal.subject)
        name = dict(info.tags).get("name", "")
        if member is None or principal.issuer != f"gateway:{principal.subject}":
            raise RejectedSetup("this node is no member here; let it join again", reason="not_a_member")
        node = uuid.UUID(member.id).bytes
        if info.broker_id != node or node == self.plane.node_id:
            raise RejectedSetup("BROKER_INFO names another node than the token", reason="node_id")
        if not name or any(link.name == name and link.node != node for link in self.links.values()):
            raise RejectedSetup(f"another node is called {name!r} already; set node.name", reason="name_taken")
        life = self._lives.get(node, 0)
        if info.timestamp_ms < life and any(link.node == node for link in self.links.values()):
            raise RejectedSetup(
                f"another process is {member.name} and began later: two nodes have one identity",
                reason="node_superseded",
            )
        self._lives[node] = max(life, info.timestamp_ms)
        if info.timestamp_ms > life:
            for link in [link for link in self.links.values() if link.node == node]:
                link.connection.close(CloseReason.TAKEN_OVER, f"{member.name} has connected anew")
        side = PEER if member.role == CENTRAL and self.options.role == CENTRAL else DOWNLINK
        # When the rest of its SETUP has been accepted, too.
        self.plane.schedule(lambda: self._accepted(connection, node, name))
        return side

    def _accepted(self, connection: Connection, node: bytes, name: str) -> None:
        if not connection.closed:
            self.take(connection, node=node, name=name, dialled=False)

    def take(self, connection: Connection, *, node: bytes, name: str, url: str = "", dialled: bool) -> Link:
        """Look after a link from now on."""
        link = Link(
            connection,
            self.desk,
            self.loop,
            self.claims,
            node=node,
            name=name,
            url=url,
            dialled=dialled,
            wish=_HAS_TABLE if connection.side == PEER and self.shared is not None else b"",
            on_change=self.changed,
        )
        self.links[connection] = link
        link.listen()
        if not dialled:
            _log.info("link up", node=name, kind=link.kind)
            self.changed(link)
            self.up(link)
        return link

    def up(self, link: Link) -> None:
        """It is known who is at the other end."""
        if link.name == self.plane.node:
            # Another process of this node.
            return
        self.journal.up(link)
        self.on_up(link)

    def changed(self, link: Link) -> None:
        """It is known who is at the other end of a link, or whether it is in use."""
        if self.shared is not None:
            self.shared.link_changed(link)
        self._nodes_changed(link)

    def _gone(self, link: Link) -> None:
        if self.shared is not None:
            self.shared.link_gone(link)

    def _nodes_changed(self, link: Link) -> None:
        """A child has come, gone or said what it is: who reaches it through here hears of that."""
        if link.side == DOWNLINK:
            for other in self.links.values():
                if other.feed is not None and other is not link:
                    other.feed.nodes_changed()

    def ended(self, connection: Connection, text: str) -> None:
        link = self.links.pop(connection, None)
        if link is None:
            return
        link.stop()
        link.why = text
        _log.info("link down", node=link.name or link.url, kind=link.kind, why=text)
        self._gone(link)
        self.journal.down(link, text)
        self._nodes_changed(link)
        self.on_lost(link, text)

    def drained(self, connection: Connection) -> None:
        """The other side wants to be left: for good, or for another node."""
        link = self.links.get(connection)
        if link is not None:
            self.on_lost(link, "the node drains")
            link.leave()
            self._gone(link)

    def drain(self) -> None:
        """This node goes: hear and tell nothing more, so that its links are over when their requests are."""
        for link in list(self.links.values()):
            link.leave()
            self._gone(link)

    def use(self, link: Link | None) -> None:
        """Put an uplink into use in place of the one before; None: there is none."""
        before, self.uplink = self.uplink, link
        if before is link:
            return
        self.journal.moved(before, link)
        if link is None:
            self.down_since = self.plane.wall()
        if before is not None:
            before.intake.use(False)
        if link is not None:
            link.intake.use(True)
            if link.feed is not None:
                link.feed.flush()
        if before is not None and before.feed is not None:
            before.feed.flush()
        wanted, self._asked = self._asked.keys(), Asked()
        for thens in list(self._asking.values()):
            self._answered_all(thens)
        self._asking.clear()
        for key in wanted if link is not None else ():
            self._ask(key, [])
        self.on_use(link)

    # What the data plane asks

    def vouch(self, connection: Connection, identity: bytes | None) -> None:
        if identity is None:
            return
        link = self.links.get(connection)
        if link is None:
            raise NotPermitted("this link is not in order yet", reason="principal_not_below")
        link.vouch(identity)

    def announce(self) -> None:
        for link in self.links.values():
            if link.feed is not None and link.feed.lag:
                link.feed.flush()

    def look(self, address: Address) -> None:
        if self._asked:
            self._asked.use(key_of(address), self.loop.time())
        if self.shared is not None:
            self.shared.look(address)

    def why_not(self) -> str:
        if not self.parents or self.uplink is not None:
            return ""
        return f"; uplink down since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self.down_since))}"

    def way_s(self, connection: Endpoint) -> float:
        link = self.links.get(cast(Connection, connection))
        return 0.0 if link is None else link.rtt_s / 2

    def resolve(
        self, address: Address, then: Callable[[], None], *, within_s: float = RESOLVE_S, afresh: bool = False
    ) -> bool:
        if self.uplink is None:
            return self.shared is not None and self.shared.inquire(address, then, afresh=afresh)
        key = key_of(address)
        asking = self._asking.get(key)
        if asking is not None:
            asking.append(then)
            self._no_later(within_s, then)
            return True
        if not afresh and self._asked.age(key, self.loop.time()) < ASK_AGAIN_S:
            return False
        self._ask(key, [then])
        self._no_later(within_s, then)
        return True

    def _no_later(self, within_s: float, then: Callable[[], None]) -> None:
        """Who waits has less time than the answer."""
        if within_s < RESOLVE_S:
            self.loop.call_later(max(within_s, 0.0), then)

    def would_ask(self, address: Address) -> bool:
        key = key_of(address)
        if self.uplink is None:
            return self.shared is not None and self.shared.would_inquire(address)
        return key in self._asking or self._asked.age(key, self.loop.time()) >= ASK_AGAIN_S

    def _ask(self, key: Key, thens: list[Callable[[], None]]) -> None:
        link = self.uplink
        assert link is not None
        self._asking[key] = thens
        self._forget(self._asked.ask(key, self.loop.time()))
        overdue = self.loop.call_later(RESOLVE_S, self._settled, key, thens)

        def settled(answer: object) -> None:
            overdue.cancel()
            self._settled(key, thens)

        def failed(text: str) -> None:
            self._asked.drop(key)
            settled(text)

        link.ask("gateway.resolve", interests.encode(key), settled, failed)

    def _forget(self, keys: list[Key]) -> None:
        """The parent need not tell of these any more."""
        if keys and self.uplink is not None:
            said = interests.encode_all(keys)
            self.uplink.ask("gateway.forget", said, lambda document: None, lambda text: None)

    def _settled(self, key: Key, thens: list[Callable[[], None]]) -> None:
        if self._asking.get(key) is thens:
            del self._asking[key]
            self._answered_all(thens)

    @staticmethod
    def _answered_all(thens: Iterable[Callable[[], None]]) -> None:
        for then in thens:
            then()

    # What links ask

    def of(self, exchange: Exchange) -> Link:
        """The link over which something is asked that is for nodes. Raises NotPermitted."""
        link = self.links.get(exchange.caller)
        if link is None:
            raise NotPermitted(f"{exchange.route} is for nodes", reason="not_a_node")
        return link

    def _routes(self, exchange: Exchange) -> object:
        if exchange.caller.side == LOCAL:
            return RouteFeed(exchange)
        link = self.of(exchange)
        if link.feed is not None:
            link.feed.stop()
        wanted = Interests() if link.side == PEER and exchange.data == _HAS_TABLE else link.interests
        link.feed = Feed(
            exchange, self.loop, self._as_told, lambda: self.census.nodes(link), lambda: self._state(link), wanted
        )
        return link.feed

    def _state(self, link: Link) -> Tags:
        if link.side != UPLINK:
            return ()
        state = items.ACTIVE if link is self.uplink else items.STANDBY
        return (items.STATE, state), (items.EPOCH, str(self.epoch))

    def _link(self, exchange: Exchange) -> None:
        plane = self.plane
        document = {
            "id": str(uuid.UUID(bytes=plane.node_id)),
            "name": plane.node,
            "role": self.options.role,
            "began": self.began_ms,
            "labels": dict(plane.labels),
        }
        exchange.reply(as_json(document))

    def _tell_claimed(self, owner: Connection, subject: str, kind: str, stamp: int) -> None:
        link = self.links.get(owner)
        if link is not None and link.usable:
            said = as_json({"subject": subject, "kind": kind, "stamp": stamp})
            link.ask("gateway.claimed", said, lambda document: None, lambda text: None)

    # Routes

    def _on_route(self, event: Event) -> None:
        route = event.route
        if isinstance(event, Left):
            self.claims.left(route)
        else:
            self.claims.joined(route)
        if self.shared is not None:
            self.shared.route_changed(route, -1 if isinstance(event, Left) else 1)
        for link in self.links.values():
            if link.feed is not None:
                link.feed.changed(route)
        if isinstance(event, Left):
            for link in self.links.values():
                if link.connection is not route.owner and self.plane.table.get(route.route_id) is None:
                    link.intake.again(route.route_id)

    def told(self, owner: Connection, route_id: bytes) -> Told | None:
        """What was told of a route of a link."""
        link = self.links.get(owner)
        told = None if link is None else link.intake.told(route_id)
        return self.shared.told(route_id) if told is None and self.shared is not None else told

    def _as_told(self, route: Route) -> Told | None:
        owner = route.owner
        assert isinstance(owner, Connection)
        if owner.side != LOCAL:
            return self.told(owner, route.route_id)
        plane = self.plane
        stamp = self.claims.stamp(owner)
        kind = Kind.SERVICE if owner.kind == INTERNAL else owner.principal.kind
        tags = tuple(route.tags.items())
        return Told(route.route_id, plane.node_id, stamp, route.service, route.subject, str(kind), tags)

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(self.options.keepalive_s, self._tick)
        now = self.plane.monotonic()
        self.census.tick(now)
        for link in list(self.links.values()):
            link.ping()
            link.judge()
            if not link.dialled and now >= link.measure_at:
                link.measure(now)
            if link.feed is not None:
                link.feed.tick(now)
        self._forget(self._asked.idle(self.loop.time(), MAX_FORGOTTEN))
        self.journal.look(self.links.values(), self.down_since if self.parents and self.uplink is None else None)
