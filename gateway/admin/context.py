"""What the resources of the admin API work on: handed in by the composition root, looked up once a request.

`NodeControls` is what the API may ask of the node as a whole; `node.Node` fits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

from fastapi import Depends, Request

if TYPE_CHECKING:
    from gateway.admin.access import LocalKeys
    from gateway.admin.condition import Condition
    from gateway.admin.console import Consoles
    from gateway.admin.events import EventLog
    from gateway.admin.family import Reading
    from gateway.admin.history import History
    from gateway.admin.replays import SecretReplays
    from gateway.admin.server_sent import Audience, Shared
    from gateway.config import LiveSettings
    from gateway.control.identity import Identity
    from gateway.control.members import Member
    from gateway.control.plane import ControlPlane
    from gateway.documents.bridge import Bridge
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.observe.bridges import BridgeStatus, BridgeTest
    from gateway.observe.flow_filter import FlowFilter
    from gateway.observe.flows import FlowRing
    from gateway.observe.graph import Graph
    from gateway.observe.links import LinkFigures, TableFigures
    from gateway.observe.metrics import Metrics
    from gateway.routing.address import Address
    from gateway.routing.route import Route
    from gateway.spool.message import Opened, Waiting
    from gateway.spool.spool import Spool


class Spools(Protocol):
    """What waits on this node, by name (`document/service`). A name that is not there is a KeyError."""

    def spools(self) -> Mapping[str, Spool]: ...

    def is_behind(self, name: str) -> bool:
        """Whether new requests wait there, too."""
        ...

    def replay(self, name: str) -> int:
        """Send what waits now, and what is on its way once more; how many messages wait."""
        ...

    def opened(self, message: Waiting) -> Opened:
        """What a message says. Raises StorageError."""
        ...

    def destinations(self, address: Address, interaction: str) -> Iterable[str]:
        """Under which names requests for an address would wait, by the documents in their order."""
        ...


class Bridges(Protocol):
    """The bridges to MQTT brokers, one for each document of that kind; see `bridging.Bridging`. A name that is not
    there is a KeyError."""

    def statuses(self) -> Sequence[BridgeStatus]:
        """Of all of them, those that do not run too, by name."""
        ...

    def start(self, name: str) -> None: ...

    def stop(self, name: str) -> None:
        """Until it is started, its document changes or the node starts again."""
        ...

    async def restart(self, name: str) -> None: ...

    async def test(self, spec: Bridge) -> BridgeTest:
        """Connect as a document says, and go."""
        ...


class LinkControls(Protocol):
    """What can be asked of a node's links to others; see `linking.Linking`."""

    @property
    def takes_nodes(self) -> bool: ...
    def join_line(self, secret: str) -> str: ...
    def links_to(self, node_id: str) -> list[dict[str, Any]]: ...
    def about(self, member: Member) -> dict[str, Any]: ...
    def last_link(self, node_id: str) -> dict[str, Any] | None: ...
    def leave_link(self, node_id: str) -> bool: ...
    def reconnect(self, node_id: str) -> int: ...
    def topology(self) -> dict[str, Any] | None: ...
    def figures(self) -> Sequence[LinkFigures]: ...
    def stale(self) -> list[tuple[str, float]]: ...
    def node_of(self, route: Route) -> str: ...
    def unused(self, address: Address) -> Sequence[object]: ...
    def why_no_route(self, address: Address) -> str: ...
    def table(self) -> TableFigures | None: ...
    async def latency(self, source: str, target: str, count: int) -> dict[str, Any]: ...


class Viewing(Protocol):
    """One viewer's place in the flow log; see `flows.log.Viewing`."""

    @property
    def last(self) -> int: ...
    def take(self, limit: int) -> list[dict[str, Any]]: ...
    def when_more(self, callback: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class FlowViews(Protocol):
    """The flow log of this process; see `flows.log.FlowLog`."""

    @property
    def kept(self) -> FlowFilter | None: ...
    def look(self) -> FlowRing: ...
    def view(
        self,
        wanted: FlowFilter | None = None,
        *,
        everything: bool = False,
        fields: tuple[str, ...] = (),
        last: int | None = None,
    ) -> Viewing: ...


class Flows(Protocol):
    """The flow log of the node; see `flows.keeping.Keeping`."""

    @property
    def log(self) -> FlowViews: ...
    @property
    def on_disk(self) -> bool: ...
    async def stored(self, since: float, wanted: FlowFilter | None, limit: int) -> Sequence[dict[str, Any]]: ...


class WorkerControls(Protocol):
    """What can be asked of a node's other processes."""

    async def ask(self, what: str, index: int | None = None, /, **content: Any) -> list[tuple[int, Any]]:
        """What they answer, each with its index, or one of them. Raises WorkerError when that one does not."""
        ...

    async def readings(self, version: str) -> list[tuple[str, Reading]]:
        """What each has counted, by its index."""
        ...

    def views(self) -> list[dict[str, Any]]:
        """Each of them, as `WorkerView` shows it."""
        ...


class NodeControls(Protocol):
    """What can be asked of the node."""

    started_at: float

    @property
    def depot(self) -> Spools | None: ...
    @property
    def bridges(self) -> Bridges: ...
    @property
    def links(self) -> LinkControls: ...
    @property
    def flows(self) -> Flows: ...

    graph: Graph

    @property
    def workers(self) -> WorkerControls | None:
        """None where the node is one process."""
        ...

    def is_inside(self, connection: Connection) -> bool:
        """Whether it is one between the processes of this node."""
        ...

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it listens, by what for."""
        ...

    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """What readiness asks."""
        ...

    @property
    def ending(self) -> bool:
        """Whether the process is about to end."""
        ...

    def drain(self) -> None: ...

    def end(self) -> None:
        """Drain, then end the process."""

    def undrain(self) -> None: ...

    def apply_settings(self) -> None:
        """Do as `settings.config` says now, where a running node can."""
        ...

    def first_login(self, name: str) -> None:
        """Somebody has logged in with a password."""

    def reload_certificate(self, *, only_if_changed: bool = False) -> None: ...

    @property
    def advertised_url(self) -> str:
        """Under which devices reach this node."""
        ...

    @property
    def certificate_path(self) -> Path:
        """PEM file with the listeners' certificate."""
        ...

    @property
    def issues_certificate(self) -> bool:
        """Whether that certificate is the node's own."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    node: NodeControls
    plane: Plane
    metrics: Metrics
    identity: Identity
    control: ControlPlane
    settings: LiveSettings
    events: EventLog
    local_keys: LocalKeys
    secret_replays: SecretReplays
    audience: Audience
    stats: Shared
    history: History
    condition: Condition
    consoles: Consoles
    stopping: Callable[[], bool]
    """Whether the API is going: streams end."""


def context_of(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Here = Annotated[Context, Depends(context_of)]
