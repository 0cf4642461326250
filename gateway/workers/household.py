"""The links between the processes of one node, beside those to other nodes.

The first process is the parent of all others, which are each other's peers: so the direction rule and the vouching for
callers hold as between nodes, and what leaves the node leaves it at the first process. A link's two ends are made by
the first process, and each end is told a secret that is good for this link alone; the secret stands in the place of a
token. To all others the processes are one node: they have its name, and callers are stamped with it.

Unlike a child elsewhere, a worker is told of everything that is connected to the first process, so that multicast and
shards see every client of the node.
"""

from __future__ import annotations

import math
import socket
import uuid
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import RejectedSetup
from gateway.federation.federation import CENTRAL, EDGE, Federation, Options
from gateway.federation.interests import Interests
from gateway.federation.link import Link
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import DOWNLINK, LOCAL, PEER, UPLINK, label_tags
from gateway.forwarding.services import NodeServices
from gateway.policy.principal import Kind, Principal
from gateway.routing.route import Route
from gateway.transport.dialer import Dialer
from gateway.wire import brokering
from gateway.wire.brokering import BrokerInfo
from gateway.wire.frames import Setup
from gateway.wire.metadata import encode_bearer, encode_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, OCTET_STREAM

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.routing.address import Address

#: A process that has gone is known by its socket; this only ends a link whose other end stands still.
KEEPALIVE_S: Final = 5.0
SILENCE_S: Final = 60.0
#: The last second of the year 2999: the credential of a link ends with the link.
_NEVER: Final = 32_503_679_999.0


class _Nobody:
    """The roster of a process that no other node belongs to."""

    def find(self, node_id: str) -> None:
        return None

    def document(self) -> list[dict[str, Any]]:
        return []

    def digest(self, without: str) -> bytes:
        return b"="

    def adopt(self, document: object, told_by: str) -> None: ...


class _Everything(Interests):
    """What a worker hears of: whoever is connected to the first process, and what it has asked for beyond."""

    def meets(self, route: Route) -> bool:
        return route.owner.side == LOCAL or super().meets(route)  # type: ignore[attr-defined]


def worker_id(node_id: bytes, index: int) -> bytes:
    """The id of one process of a node; the first one's, 0, is the node's own."""
    return uuid.uuid5(uuid.UUID(bytes=node_id), f"worker {index}").bytes if index else node_id


class Household:
    """Stands as `Plane.links` before `federation`, which looks after every link once it is up; None makes one of its
    own. `insiders`: whose SETUP is that of another process, by the secret of its link. `node_id` is that of the first
    process, `index` says which of `count` this one is."""

    def __init__(
        self,
        plane: Plane,
        services: NodeServices,
        dialer: Dialer,
        insiders: MutableMapping[bytes, Principal],
        loop: asyncio.AbstractEventLoop,
        federation: Federation | None = None,
        *,
        node_id: bytes,
        index: int,
        count: int,
    ) -> None:
        self.outward = federation is not None
        if federation is None:
            role = EDGE if index else CENTRAL
            options = Options(role=role, name=plane.node, keepalive_s=KEEPALIVE_S, silence_s=SILENCE_S)
            federation = Federation(plane, services, loop, options, _Nobody())
        self.federation = federation
        self._plane = plane
        self._dialer = dialer
        self._insiders = insiders
        self._index = index
        self._ids = [worker_id(node_id, each) for each in range(count)]
        self._links: dict[Connection, Link] = {}
        #: Called with each link between processes that comes or goes.
        self.on_link: Callable[[Link], None] = lambda link: None
        self.on_lost: Callable[[Link], None] = lambda link: None
        plane.links = self

    def holds(self, connection: Connection) -> bool:
        """Whether it is one between the processes of this node."""
        return connection in self._links

    def process_behind(self, connection: Connection) -> int | None:
        """Which process is at the other end; None for what is not between processes."""
        link = self._links.get(connection)
        return None if link is None else self.number_of(link)

    def number_of(self, link: Link) -> int:
        """Which process is at the other end of a link between processes."""
        return self._ids.index(link.node)

    # Links that come and go

    async def expect(self, end: socket.socket, index: int, secret: str) -> None:
        """Let the process `index` dial over this end of a pair, with this secret. Raises OSError."""
        node = str(uuid.UUID(bytes=self._ids[index]))
        self._insiders[secret.encode()] = Principal(node, Kind.NODE, "", 0.0, _NEVER, ("*",), ("*",))
        await self._dialer.over(end)

    async def dial(self, end: socket.socket, index: int, secret: str) -> Link:
        """Link with the process `index`, which is at the other end of the pair. Raises OSError."""
        plane = self._plane
        side = PEER if index else UPLINK
        connection = await self._dialer.over(end)
        principal = Principal(plane.node, Kind.NODE, "", 0.0, math.inf, ("*",), ("*",))
        connection.call(self._setup(secret), principal, side)
        link = self.federation.take(connection, node=self._ids[index], name=plane.node, dialled=True)
        link.known_as(self._ids[index], plane.node)
        self._linked(link)
        if side == UPLINK:
            self.federation.parents = True
            self.federation.use(link)
        return link

    def _setup(self, secret: str) -> Setup:
        tags = (("name", self._plane.node), ("role", EDGE), *label_tags(self._plane.labels))
        info = BrokerInfo(self._plane.node_id, self.federation.began_ms, tags)
        credential = encode_bearer(secret.encode())
        metadata = encode_composite([(AUTHENTICATION, credential), (BROKER_FRAME, brokering.encode(info))])
        keepalive_ms, lifetime_ms = round(KEEPALIVE_S * 1000), round(SILENCE_S * 1000)
        return Setup(keepalive_ms, lifetime_ms, COMPOSITE, OCTET_STREAM, metadata=metadata)

    def admit(self, connection: Connection, info: BrokerInfo, setup: Setup, principal: Principal) -> int:
        secret = next((key for key, known in self._insiders.items() if known is principal), None)
        if secret is None:
            if self._index:
                text = "links are taken by another process of this node; dial again"
                raise RejectedSetup(text, reason="links_elsewhere")
            if not self.outward:
                raise RejectedSetup("this node has no links to other nodes", reason="no_links")
            return self.federation.admit(connection, info, setup, principal)
        del self._insiders[secret]
        node = uuid.UUID(principal.subject).bytes
        self._plane.schedule(lambda: self._admitted(connection, node))
        return PEER if self._index else DOWNLINK

    def _admitted(self, connection: Connection, node: bytes) -> None:
        if connection.closed:
            return
        link = self.federation.take(connection, node=node, name=self._plane.node, dialled=False)
        if link.interests is not None:
            link.interests = _Everything()
        self._linked(link)

    def _linked(self, link: Link) -> None:
        self._links[link.connection] = link
        self.on_link(link)

    def drain(self) -> None:
        """This process goes: its links are over when their requests are."""
        for link in self._links.values():
            link.leave()

    async def stop(self) -> None:
        if not self.outward:
            self.federation.stop()
        await self._dialer.stop()

    # What the data plane asks, as of any links

    def drained(self, connection: Connection) -> None:
        self.federation.drained(connection)

    def ended(self, connection: Connection, text: str) -> None:
        link = self._links.pop(connection, None)
        self.federation.ended(connection, text)
        if link is not None:
            self.on_lost(link)

    def vouch(self, connection: Connection, identity: bytes | None) -> None:
        self.federation.vouch(connection, identity)

    def announce(self) -> None:
        self.federation.announce()

    def look(self, address: Address) -> None:
        self.federation.look(address)

    def resolve(self, address: Address, then: Callable[[], None], *, within_s: float, afresh: bool = False) -> bool:
        return self.federation.resolve(address, then, within_s=within_s, afresh=afresh)

    def way_s(self, connection: Endpoint) -> float:
        return self.federation.way_s(connection)

    def would_ask(self, address: Address) -> bool:
        return self.federation.would_ask(address)

    def why_not(self) -> str:
        return self.federation.why_not()
