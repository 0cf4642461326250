"""MQTT bridges: their documents, how they are, and what an operator tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, Meta, PageOf, Search, slice_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.problem import Problem
from gateway.admin.resources.declarations import FindingView, Name
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time, moment
from gateway.control.audit import Actor
from gateway.control.documents import Application, StoredDocument
from gateway.control.roles import Action
from gateway.documents.bridge import Bridge
from gateway.observe.bridges import BridgeStatus

operations = Operations("mqtt", "mqtt")

KIND: Final = "Bridge"
_TOLD: Final = {"start": "bridge.started", "stop": "bridge.stopped", "restart": "bridge.restarted"}
GivenName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class BridgeCountersView(Shown):
    """Since the node's start. By QoS: `received`, `published`; by reason: `dropped`, `refused`, `loops`. `confirmed`:
    what the broker has acknowledged; `acknowledged`: what it was told to forget."""

    received: dict[str, int]
    published: dict[str, int]
    dropped: dict[str, int]
    refused: dict[str, int]
    loops: dict[str, int]
    forwarded: int
    acknowledged: int
    confirmed: int
    duplicates: int
    copies: int
    unmatched: int
    connects: int
    failed_connects: int
    rpc: int
    rpc_failed: int


class LoopView(Shown):
    """A message that came round and was dropped. `reason`: it was here before (`via`), it has passed as many bridges as
    it may (`hops`), or it was sent from here a moment ago (`repeat`)."""

    at: Time
    verdict: Literal["LOOP"] = "LOOP"
    topic: str
    reason: Literal["via", "hops", "repeat"]


class BridgeStatusView(Shown):
    """`last_ack_age_s`: how long ago the broker, or who got a message of its, last acknowledged one: whether the bridge
    works, which `state` does not say. `reason`: why it is not connected."""

    name: str
    state: Literal["connecting", "connected", "waiting", "stopped", "disabled", "failed"]
    service: str
    client_id: str
    address: str
    version: int
    since: MaybeTime
    session_present: bool | None
    reason: str
    retry_in_s: float | None
    last_ack_age_s: float | None
    in_flight_in: int
    in_flight_out: int
    receive_maximum: int | None
    queued: int
    counters: BridgeCountersView
    last_loops: list[LoopView] = Field(description="The latest that `counters.loops` counts, oldest first.")


class BridgeDetailView(Shown):
    """`body`: the document. `status` is null where nothing was made of it, as on a dry run."""

    name: str
    body: dict[str, Any]
    updated_at: Time
    updated_by: str
    version: int
    status: BridgeStatusView | None
    warnings: list[FindingView]


class BridgeBody(Taken):
    name: GivenName
    body: dict[str, Any] = Field(max_length=200, description="The document; kind and name may be left out.")


class BridgeQueueView(Shown):
    """`queued`: messages that wait for the broker in memory. `spools`: what waits on disk by the spools that its rules
    name."""

    queued: int
    in_flight_in: int
    in_flight_out: int
    receive_maximum: int | None
    spools: dict[str, int]


class BridgeTestView(Shown):
    """What the broker allows is null where it did not say. `refused`: filters that it does not grant."""

    reachable: bool
    address: str
    reason: str
    session_present: bool | None
    maximum_qos: int | None
    retain_available: bool | None
    receive_maximum: int | None
    took_s: float
    refused: list[str]


@operations.get("/mqtt/bridges", response_model=PageOf[BridgeStatusView])
async def list_bridges(
    here: Here,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32, description="name, state or age; `-` in front.")] = "name",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The bridges of this node and how they are, those that do not run among them."""
    rows, following = await slice_page(
        (each for each in here.node.bridges.statuses() if not q or q.lower() in each.name),
        sort=sort,
        keys={
            "name": lambda each: each.name,
            "state": lambda each: str(each.state),
            "age": lambda each: each.last_ack_age_s or 0.0,
        },
        identity=lambda each: each.name,
        limit=limit,
        cursor=cursor,
    )
    return PageOf[BridgeStatusView](data=[_status(row) for row in rows], meta=Meta(limit=limit, next=following))


@operations.post("/mqtt/bridges", creates=True, problems=(409, 412), response_model=BridgeDetailView)
async def create_bridge(here: Here, by: By, response: Response, body: BridgeBody, dry_run: DryRun = False) -> Any:
    """Store a document of the kind Bridge, and act by it."""
    done = await here.control.documents.put(KIND, body.name, body.body, by=by, expect=0, dry_run=dry_run)
    return _applied(here, done, response)


@operations.get("/mqtt/bridges/{name}", response_model=BridgeDetailView)
async def get_bridge(here: Here, response: Response, name: Name) -> Any:
    """One bridge: its document, and how it is."""
    return _detail(here, await here.control.documents.get(KIND, name), response)


@operations.put("/mqtt/bridges/{name}", problems=(409, 412, 428), response_model=BridgeDetailView)
async def put_bridge(
    here: Here,
    by: By,
    response: Response,
    name: Name,
    body: Annotated[dict[str, Any], Body(max_length=200, description="The document; kind and name may be left out.")],
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Replace a bridge's document. `If-Match` is the `ETag` of the one that it replaces, or `*`."""
    await here.control.documents.get(KIND, name)
    done = await here.control.documents.put(KIND, name, body, by=by, expect=expected(if_match), dry_run=dry_run)
    return _applied(here, done, response)


@operations.delete("/mqtt/bridges/{name}", problems=(409, 412, 428), status_code=204)
async def delete_bridge(here: Here, by: By, name: Name, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Take leave of the broker, and forget the document."""
    await here.control.documents.delete(KIND, name, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.get("/mqtt/bridges/{name}/status", response_model=BridgeStatusView)
async def get_bridge_status(here: Here, name: Name) -> Any:
    """How a bridge is."""
    return _status(_find(here, name))


@operations.get("/mqtt/bridges/{name}/queue", response_model=BridgeQueueView)
async def get_bridge_queue(here: Here, name: Name) -> Any:
    """What is on its way, and what waits."""
    status = _find(here, name)
    spec = spec_of(here, name)
    named = {rule.spool for rule in spec.topics if rule.spool is not None}
    depot = here.node.depot
    spools = {} if depot is None else depot.spools()
    return BridgeQueueView(
        queued=status.queued,
        in_flight_in=status.in_flight_in,
        in_flight_out=status.in_flight_out,
        receive_maximum=status.receive_maximum,
        spools={key: spool.messages for key, spool in spools.items() if key.partition("/")[0] in named},
    )


@operations.post("/mqtt/bridges/{name}/start", Action.OPERATE, response_model=BridgeStatusView)
async def start_bridge(here: Here, by: By, name: Name, dry_run: DryRun = False) -> Any:
    """Let a bridge that was stopped connect again."""
    return await _told(here, by, name, "start", dry_run)


@operations.post("/mqtt/bridges/{name}/stop", Action.OPERATE, response_model=BridgeStatusView)
async def stop_bridge(here: Here, by: By, name: Name, dry_run: DryRun = False) -> Any:
    """Let a bridge take leave of its broker, until it is started, its document changes or the node starts again. For
    ever: `enabled: false` in the document."""
    return await _told(here, by, name, "stop", dry_run)


@operations.post("/mqtt/bridges/{name}/restart", Action.OPERATE, response_model=BridgeStatusView)
async def restart_bridge(here: Here, by: By, name: Name, dry_run: DryRun = False) -> Any:
    """Let a bridge connect anew."""
    return await _told(here, by, name, "restart", dry_run)


@operations.post("/mqtt/bridges/{name}/test", Action.OPERATE, response_model=BridgeTestView)
async def check_bridge(here: Here, name: Name) -> Any:
    """Connect to the broker as the document says, under another client id, and go; nothing is published."""
    _find(here, name)
    return BridgeTestView.of(await here.node.bridges.test(spec_of(here, name)))


def specs_of(here: Context) -> Sequence[Bridge]:
    return [document.spec for document in here.control.documents.standing(KIND)]


def spec_of(here: Context, name: str) -> Bridge:
    found = next((spec for spec in specs_of(here) if spec.name == name), None)
    if found is None:
        raise Problem("not-found", f"there is no bridge {name!r}")
    return found


def _find(here: Context, name: str) -> BridgeStatus:
    found = next((each for each in here.node.bridges.statuses() if each.name == name), None)
    if found is None:
        raise Problem("not-found", f"there is no bridge {name!r}")
    return found


def _status(status: BridgeStatus) -> BridgeStatusView:
    counters = status.counters
    by_word = {
        name: {str(word): count for word, count in getattr(counters, name).items()}
        for name in ("received", "published", "dropped", "refused", "loops")
    }
    counted: dict[str, Any] = {name: getattr(counters, name) for name in BridgeCountersView.model_fields}
    shown: dict[str, Any] = {
        name: getattr(status, name) for name in BridgeStatusView.model_fields if name != "last_loops"
    }
    loops = [each._asdict() for each in counters.last_loops]
    return BridgeStatusView.model_validate(
        shown | {"state": str(status.state), "counters": BridgeCountersView(**(counted | by_word)), "last_loops": loops}
    )


def _detail(here: Context, stored: StoredDocument, response: Response) -> BridgeDetailView:
    response.headers["etag"] = etag(stored.version)
    status = next((each for each in here.node.bridges.statuses() if each.name == stored.name), None)
    return BridgeDetailView(
        name=stored.name,
        body=stored.body,
        updated_at=moment(stored.updated_at),
        updated_by=stored.updated_by,
        version=stored.version,
        status=None if status is None else _status(status),
        warnings=[],
    )


def _applied(here: Context, done: Application, response: Response) -> BridgeDetailView:
    shown = _detail(here, done.applied[0].document, response)
    return shown.model_copy(update={"warnings": [FindingView.of(each) for each in done.warnings]})


async def _told(here: Context, by: Actor, name: str, what: str, dry_run: bool) -> BridgeStatusView:
    status = _find(here, name)
    if not dry_run:
        await here.control.audit.record(by, f"bridge.{what}", f"bridge:{name}")
        bridges = here.node.bridges
        try:
            match what:
                case "start":
                    bridges.start(name)
                case "stop":
                    bridges.stop(name)
                case _:
                    await bridges.restart(name)
        except KeyError:
            raise Problem("not-found", f"there is no bridge {name!r}") from None
        here.events.add(_TOLD[what], name, by=by.id)
        status = _find(here, name)
    return _status(status)
