"""What a node that belongs to a federation has besides: its links, whom they go to, and who may come.

Made when the node starts, if it is a member; a node that stands alone has none of it and pays nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.control.members import CENTRAL, Member, Members
from gateway.control.plane import ControlPlane
from gateway.errors import StorageError
from gateway.federation import survey
from gateway.federation.acquainting import Acquainting
from gateway.federation.dialling import Dial, LinkDialler
from gateway.federation.distributing import Distributing
from gateway.federation.federation import Federation, Options
from gateway.federation.joining import Joining
from gateway.federation.link import Link
from gateway.federation.parents import Parents
from gateway.federation.peers import Peers
from gateway.federation.probing import Probing
from gateway.federation.refusing import Refusing
from gateway.federation.sharing import Sharing
from gateway.federation.table import TableOptions
from gateway.federation.table.store import RouteStore
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.plane import Plane
from gateway.forwarding.services import NodeServices
from gateway.observe.loggers import structlog
from gateway.policy.principal import Kind

_log = structlog.get_logger("gateway.federation")


class Told:
    """The roster of a control plane; what other members tell is stored behind the caller's back."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, node_id: str) -> Member | None:
        return self._members.find(node_id)

    def document(self) -> list[dict[str, Any]]:
        return self._members.document()

    def digest(self, without: str) -> bytes:
        return self._members.digest(without)

    def adopt(self, document: object, told_by: str) -> None:
        task = asyncio.get_running_loop().create_task(self._adopt(document, told_by), name="members")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _adopt(self, document: object, told_by: str) -> None:
        try:
            await self._members.adopt(document, told_by)
        except StorageError as error:
            _log.warning("members that were told cannot be stored", why=error.text)


class Membership:
    """The federation of one member. `federation` is what the data plane knows of it."""

    def __init__(
        self,
        own: Member,
        plane: Plane,
        services: NodeServices,
        control: ControlPlane,
        dial: Dial,
        options: Options,
        *,
        audience: str,
        parents: Sequence[str] = (),
        store: RouteStore | None = None,
        fenced: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._own = own
        self._plane = plane
        self._control = control
        self._members = control.members
        self._audience = audience
        self._set_parents = tuple(parents)
        self._tls: ssl.SSLContext | None = None
        self._roster = Told(control.members)
        self.role = own.role
        self.federation = Federation(
            plane, services, asyncio.get_running_loop(), replace(options, role=own.role), self._roster
        )
        self.federation.on_lost = self._lost
        dialler = LinkDialler(self.federation, dial, self._token, self._context)
        self.parents = Parents(self.federation, dialler, ())
        self.peers = Peers(self.federation, dialler)
        self._acquainting = Acquainting(self.federation, control.members)
        self.sharing: Sharing | None = None
        if store is not None:
            options_of_table = TableOptions(plane.node)
            self.sharing = Sharing(
                self.federation, store, options_of_table, fenced=fenced, nodes_changed=self._centrals_changed
            )
            self.federation.shared = self.sharing
        self.probing = Probing(self.federation, services)
        central = own.role == CENTRAL
        self.refusing = Refusing(self.federation, services, control.refusals, control.members, central=central)
        self.distributing = Distributing(self.federation, services, control.bundles, control.members, central=central)
        self.federation.on_up = self._up
        self.federation.on_use = self.distributing.use
        self.joining = Joining(services, control.members) if own.role == CENTRAL else None

    async def start(self, urls: tuple[str, ...], peer_url: str) -> None:
        """Begin to dial. `urls`, `peer_url`: where this node itself is, if it is a central one.

        Raises:
            FederationError: the engine of the shared table can never work as it is set.
        """
        own = self._own
        now = self._members.itself(self._plane.node, own.role, urls, peer_url if own.role == CENTRAL else "")
        now = replace(now, services=own.services, routes=own.routes)
        if own.role == CENTRAL and replace(now, updated_at=own.updated_at, version=own.version) != own:
            await self._members.put(now)
        if self.sharing is not None:
            await self.sharing.start(peer_url)
        try:
            await self._control.refusals.begin(own.id, own.issuer, central=own.role == CENTRAL)
        except StorageError as error:
            # It tells of what it refuses all the same, until it is started again.
            _log.warning("what this node refuses cannot be numbered on disk", why=error.text)
        self._members.changed = self._members_changed
        self._members_changed()
        self.parents.start()

    async def stop(self) -> None:
        self._members.changed = lambda: None
        await self.parents.stop()
        await self.peers.stop()
        await self.probing.stop()
        await self.refusing.stop()
        await self.distributing.stop()
        if self.joining is not None:
            await self.joining.stop()
        if self.sharing is not None:
            await self.sharing.stop()
        await self._roster.stop()
        self.federation.stop()

    def shown(self, node_id: str) -> list[dict[str, Any]]:
        """The links to a node, for people."""
        node = uuid.UUID(node_id).bytes
        return [survey.shown(self.federation, link) for link in self.federation.links.values() if link.node == node]

    def topology(self) -> dict[str, Any]:
        """Every node that this one knows, and the links that it knows of."""
        return survey.topology(self.federation, self._members.all())

    def reconnect(self, node_id: str) -> int:
        """Close the links to a node; whoever has dialled them does so again. Returns how many there were."""
        node = uuid.UUID(node_id).bytes
        found = [link for link in self.federation.links.values() if link.node == node and not link.connection.closed]
        for link in found:
            link.connection.close(CloseReason.KICKED, "the link is to be made anew")
        return len(found)

    def leave(self, node_id: str) -> bool:
        """Let a child go to another parent, or go to another one from this parent."""
        node = uuid.UUID(node_id).bytes
        found = [link for link in self.federation.links.values() if link.node == node and link.usable]
        for link in found:
            link.connection.drain()
            self.federation.drained(link.connection)
        return bool(found)

    def _members_changed(self) -> None:
        self._tls = None
        self.refusing.members_changed()
        self.distributing.members_changed()
        self._acquainting.members_changed()
        if self.role == CENTRAL:
            self._centrals_changed()
        else:
            centrals = self._members.centrals()
            self.parents.set(self._set_parents or [url for each in centrals for url in each.urls])

    def _centrals_changed(self) -> None:
        """Dial the other centrals where they are: what the shared table says of a node that lives is the newest."""
        here = {} if self.sharing is None else {node.name: node.url for node in self.sharing.nodes() if node.alive}
        self.peers.set(
            {uuid.UUID(each.id).bytes: here.get(each.name) or each.peer_url for each in self._members.centrals()}
        )

    def _up(self, link: Link) -> None:
        self.refusing.up(link)
        self.distributing.up(link)

    def _lost(self, link: Link, text: str) -> None:
        self.refusing.down(link)
        self.distributing.down(link)
        self.parents.lost(link, text)
        self.peers.lost(link)

    def _token(self, ttl_s: float) -> str:
        """This node's own word for who it is."""
        identity = self._control.identity
        wall = self._plane.wall()
        return identity.mint(identity.node_id, Kind.NODE, ["*"], ["*"], ttl_s, wall, audience=self._audience)

    def _context(self) -> ssl.SSLContext:
        """Trust in the authorities of the central nodes, and in nobody else where they have some."""
        if self._tls is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            authorities = [each.ca_pem for each in self._members.centrals() if each.ca_pem]
            if authorities:
                context.load_verify_locations(cadata="\n".join(authorities))
            else:
                context.load_default_certs()
            self._tls = context
        return self._tls
