"""The federation as this node sees it: nodes, links, and how long a request takes between two of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway import __version__
from gateway.admin.access import Operations
from gateway.admin.context import Context, Here
from gateway.admin.problem import Problem
from gateway.admin.shapes import MaybeTime, Shown, Taken, Time, moment
from gateway.control.roles import Action
from gateway.errors import FederationError

operations = Operations("topology", "federation")


class NodeInTopology(Shown):
    """`place`: what it is to this node; `behind` is linked to the node `via`, `apart` to none that this node knows.
    `version`, `devices`: what the node tells of itself, the second within seconds; null where it does not, as one of an
    older version. `ahead`: an edge that is newer than the central node that it is linked to. `down_since`, `why`: of a
    node whose link has gone and that is linked no more."""

    id: str
    name: str
    role: str
    place: Literal["itself", "parent", "standby parent", "child", "peer", "behind", "apart"]
    via: str | None = None
    urls: tuple[str, ...] = ()
    version: str | None = None
    devices: int | None = None
    ahead: bool = False
    down_since: MaybeTime = None
    why: str = ""


class LinkInTopology(Shown):
    """`source` and `target` are ids. `reported`: another node's, of which this one knows nothing more."""

    source: str
    target: str
    kind: Literal["uplink", "downlink", "peer"]
    state: Literal["active", "standby"]
    reported: bool
    since: MaybeTime = None
    rtt_ms: float | None = None
    routes_in: int | None = None
    routes_out: int | None = None
    lag: int | None = None
    lag_s: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None


class Unheard(Shown):
    """A node whose revocations may not be known here, since then."""

    node: str
    since: Time


class TableView(Shown):
    """The table that central nodes share, as this one follows it; `dirty` keys are yet to be written."""

    fresh: bool
    why: str
    devices: int
    edges: int
    nodes: int
    dirty: int


class TopologyView(Shown):
    """`uplink_down_since`: this node should have an uplink, and has none. `table`: where this node follows one."""

    at: Time
    node: str
    uplink_down_since: MaybeTime
    unheard: list[Unheard]
    table: TableView | None
    nodes: list[NodeInTopology]
    links: list[LinkInTopology]


class Probe(Taken):
    """Nodes by id or name. `source`: this node, where it is not given."""

    source: str | None = Field(None, max_length=255)
    target: str = Field(min_length=1, max_length=255)
    count: int = Field(20, ge=1, le=200)


class Latency(Shown):
    """Round trips in milliseconds. `path` names the nodes on the way; `lost` probes had no answer in 5 s. A node that
    cannot be reached is an answer of this operation, too: `outcome` is `unreachable`, and `error` says why."""

    outcome: Literal["ok", "unreachable"]
    source: str
    target: str
    path: tuple[str, ...] = ()
    count: int = 0
    lost: int = 0
    min_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    error: str = ""


@operations.get("/topology", response_model=TopologyView)
async def get_topology(here: Here) -> Any:
    """Every node and link that this node knows of; a node that stands alone is its own only one."""
    found, table = here.node.links.topology(), here.node.links.table()
    if found is None:
        alone = {"id": here.identity.node_id, "name": here.plane.node, "role": "edge", "place": "itself"}
        alone["version"] = __version__
        found = {"node": here.identity.node_id, "uplink_down_since": None, "nodes": [alone], "links": []}
    return TopologyView(
        at=moment(here.plane.wall()),
        node=found["node"],
        uplink_down_since=found["uplink_down_since"],
        unheard=[Unheard(node=node, since=moment(since)) for node, since in here.node.links.stale()],
        table=None if table is None else TableView.of(table),
        nodes=[NodeInTopology(**node) for node in found["nodes"]],
        links=[LinkInTopology.model_validate(link) for link in found["links"]],
    )


@operations.post("/topology:latency", Action.OPERATE, response_model=Latency)
async def measure_latency(here: Here, probe: Probe) -> Any:
    """Ask from one node for another, over the links and one after the other, and say how long that took."""
    source = here.identity.node_id if probe.source is None else _node(here, probe.source, "/source")
    target = _node(here, probe.target, "/target")
    try:
        figures = await here.node.links.latency(source, target, probe.count)
    except (FederationError, TimeoutError) as error:
        said = str(error) or "no answer in time"
        return Latency(outcome="unreachable", source=source, target=target, error=said)
    return Latency(outcome="ok", source=source, target=target, **figures)


def _node(here: Context, said: str, pointer: str) -> str:
    """The id of a member by its id or name."""
    members = here.control.members
    if said in (here.identity.node_id, here.plane.node):
        return here.identity.node_id
    found = members.find(said) or next((each for each in members.all() if each.name == said), None)
    if found is None:
        raise Problem("invalid", errors=[{"pointer": pointer, "detail": f"no node of the federation is called {said}"}])
    return found.id
