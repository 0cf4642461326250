"""A node that belongs to a federation: its membership from its settings, and what the admin API asks of it.

Between the two planes and the sockets, like `renewal`; knows them all and is known by the node alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.config import Config
from gateway.control.certificates import fingerprint
from gateway.control.identity import Identity
from gateway.control.members import Member
from gateway.control.plane import ControlPlane
from gateway.errors import FederationError
from gateway.federation import explaining, survey
from gateway.federation.engines import store_for
from gateway.federation.federation import CENTRAL, Options
from gateway.federation.joining import JoinToken
from gateway.federation.journal import Tell
from gateway.federation.membership import Membership
from gateway.forwarding.plane import Plane
from gateway.forwarding.services import NodeServices
from gateway.observe.links import LinkFigures, TableFigures
from gateway.observe.loggers import structlog
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.transport.dialer import Dialer
from gateway.transport.websocket import Handshake

#: What a process ends with whose node was taken over by another one of its name.
FENCED: Final = 3

_log = structlog.get_logger("gateway.federation")


class Linking:
    """`membership` is None where the node stands alone; nothing of it costs anything then. `end` ends the process."""

    def __init__(self, identity: Identity, end: Callable[[int], None]) -> None:
        self._identity = identity
        self._end = end
        self._config: Config
        self._plane: Plane
        self._url = ""
        self.membership: Membership | None = None
        self._dialer: Dialer | None = None

    def prepare(
        self,
        config: Config,
        plane: Plane,
        services: NodeServices,
        control: ControlPlane,
        handshake: Handshake,
        tell: Tell,
    ) -> None:
        """Before the listeners open: know the links' services, and take nodes for what they are. `tell`: where events
        go.

        Raises:
            FederationError: the engine of the shared table cannot be used as it is set.
        """
        self._config = config
        self._plane = plane
        own = control.members.own
        if own is None:
            if config.federation.engine != "embedded":
                raise FederationError(
                    f"federation.engine is {config.federation.engine!r}, and this node is in no federation: gateway "
                    "central init or gateway join comes first (with Docker Compose, the service central-setup)",
                    reason="not_a_member",
                )
            return
        plane.role = own.role
        self._dialer = Dialer(plane, handshake)
        settings = config.links
        options = Options(
            keepalive_s=settings.keepalive_ms / 1000,
            silence_s=settings.silence_ms / 1000,
            connect_timeout_s=settings.connect_timeout_s,
            backoff_s=(0.1, settings.backoff_max_s),
            accept_services=settings.accept_services,
            accept_calls=settings.accept_calls,
        )
        shares = own.role == CENTRAL and config.federation.engine != "embedded"
        self.membership = Membership(
            own,
            plane,
            services,
            control,
            self._dialer.dial,
            options,
            audience=config.auth.audience,
            parents=settings.parents,
            store=store_for(config.federation, config.node.name) if shares else None,
            fenced=self._fenced,
        )
        journal = self.membership.federation.journal
        journal.tell, journal.alarm, journal.calm = tell, control.raise_alarm, control.calm

    async def start(self, url: str, tcp_port: int) -> None:
        """The listeners are open: `url` is where others dial this node. Raises FederationError as `prepare`."""
        self._url = url
        if self.membership is not None:
            host = urlsplit(url).hostname or "localhost"
            shown = f"[{host}]" if ":" in host else host
            scheme = "tls" if self._config.tls.enabled else "tcp"
            await self.membership.start((url,), f"{scheme}://{shown}:{tcp_port}" if tcp_port else "")

    def _fenced(self, text: str) -> None:
        _log.error("this node ends", why=text)
        self._end(FENCED)

    def drain(self) -> None:
        """The node goes: its links are over when their requests are."""
        if self.membership is not None:
            self.membership.refusing.drain()
            self.membership.distributing.drain()
            self.membership.federation.drain()

    async def stop(self) -> None:
        if self.membership is not None:
            await self.membership.stop()
        if self._dialer is not None:
            await self._dialer.stop()

    # What the admin API asks

    @property
    def takes_nodes(self) -> bool:
        """Whether other nodes can join here."""
        return self.membership is not None and self.membership.joining is not None

    def join_line(self, secret: str) -> str:
        """The line with which a node joins that is given this secret."""
        own = self._config.tls.certificate is None
        authority = fingerprint(self._identity.ca_path.read_text()) if own else ""
        return JoinToken(authority, (self._url,), secret).text()

    def links_to(self, node_id: str) -> list[dict[str, Any]]:
        """The links to another node, as `LinkView` shows them."""
        return [] if self.membership is None else self.membership.shown(node_id)

    def about(self, member: Member) -> dict[str, Any]:
        """What a node is said to be, as `PeerView` shows it."""
        return {} if self.membership is None else survey.about(self.membership.federation, member)

    def last_link(self, node_id: str) -> dict[str, Any] | None:
        """When and why the last link to a node ended that has none now; None: it has one, or had none."""
        if self.membership is None:
            return None
        ended = self.membership.federation.journal.ended.get(uuid.UUID(node_id).bytes)
        return None if ended is None else ended._asdict()

    def topology(self) -> dict[str, Any] | None:
        """The nodes and links that this node knows, as `TopologyView` shows them; None where it stands alone."""
        return None if self.membership is None else self.membership.topology()

    async def latency(self, source: str, target: str, count: int) -> dict[str, Any]:
        """Round trips between two nodes by their ids, as `Latency` shows them. Raises FederationError."""
        if self.membership is None:
            raise FederationError("this node stands alone", reason="unreachable")
        start, end = uuid.UUID(source).bytes, uuid.UUID(target).bytes
        return await self.membership.probing.measure(start, end, count)

    def node_of(self, route: Route) -> str:
        """The name of the node that a route's connection is on."""
        return self._plane.node if self.membership is None else explaining.node_of(self.membership.federation, route)

    def unused(self, address: Address) -> list[explaining.Unused]:
        """Routes to an address that this node was told of and does not use, with why."""
        if self.membership is None:
            return []
        sharing = self.membership.sharing
        return explaining.unused(self.membership.federation, None if sharing is None else sharing.table, address)

    def why_no_route(self, address: Address) -> str:
        """What to add to "no route"; empty where there is nothing."""
        return "" if self.membership is None else explaining.why_no_route(self.membership.federation, address)

    def stale(self) -> list[tuple[str, float]]:
        """By which nodes something may have been revoked without this one knowing, and since when."""
        return [] if self.membership is None else self.membership.refusing.stale()

    def table(self) -> TableFigures | None:
        """The shared table, where this node follows one."""
        sharing = None if self.membership is None else self.membership.sharing
        return None if sharing is None else survey.table(sharing.table.status())

    def figures(self) -> list[LinkFigures]:
        """What a scrape reads."""
        return [] if self.membership is None else survey.figures(self.membership.federation)

    def reconnect(self, node_id: str) -> int:
        """Close the links to a node, so that they are dialled again; how many there were."""
        return 0 if self.membership is None else self.membership.reconnect(node_id)

    def leave_link(self, node_id: str) -> bool:
        """Let the links to a node be left for others; whether there were any."""
        return self.membership is not None and self.membership.leave(node_id)
