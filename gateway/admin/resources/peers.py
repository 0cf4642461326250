"""The other nodes of the federation: who they are, how the links to them are, and how new ones come in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, written
from gateway.admin.problem import Problem
from gateway.admin.resources.devices import Patterns
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time, moment
from gateway.control.members import Member
from gateway.control.roles import Action

operations = Operations("peers", "federation")

Id = Annotated[str, Path(min_length=1, max_length=64)]


class LinkView(Shown):
    """One link, as this node sees it. `dialled`: by this side. `routes_in` and `routes_out`: what each side was told by
    the other; `refused`: what the link's grant does not allow. `lag`: changes that are yet to be told, for `lag_s`
    seconds. `items_in`, `items_out`: numbers in the two streams of routes. `restarts`: how often it had to be told
    again, `mismatches` of those because a digest was another one. `interests`: addresses that a child wants to hear of.
    `services`, `routes`: patterns of what the other side may offer and call over it."""

    kind: str
    state: Literal["active", "standby"]
    address: str
    dialled: bool
    since: MaybeTime
    rtt_ms: float | None
    routes_in: int
    routes_out: int
    refused: int
    lag: int
    lag_s: float
    whole: bool
    items_in: int
    items_out: int
    restarts: int
    mismatches: int
    interests: int
    bytes_in: int
    bytes_out: int
    pending: int
    services: list[str]
    routes: list[str]


class PeerView(Shown):
    """`version`, `devices`: what the node tells of itself; null where it does not, as one that is away or of an older
    version. `ahead`: an edge that is newer than the central node that it is linked to. `urls`: where
    edges dial a central node. `services`, `routes`: what it may serve and call here. `down_since`, `why`: of one whose
    last link has gone."""

    id: str
    name: str
    role: str
    version: str | None = None
    devices: int | None = None
    ahead: bool = False
    urls: list[str]
    services: list[str]
    routes: list[str]
    updated_at: Time
    itself: bool
    down_since: MaybeTime
    why: str
    links: list[LinkView]


class SyncView(Shown):
    """Of one link, what `LinkView` says of the two streams of routes; `whole`: all that the other side has was heard
    once."""

    kind: str
    state: Literal["active", "standby"]
    whole: bool
    routes_in: int
    routes_out: int
    refused: int
    items_in: int
    items_out: int
    lag: int
    lag_s: float
    restarts: int
    mismatches: int


class Reconnected(Shown):
    """`links`: how many were closed."""

    links: int


class JoinTokenBody(Taken):
    """What a node will be that comes with it: `services` and `routes` bound what it and its devices may serve and call
    elsewhere."""

    role: Literal["edge", "central"] = "edge"
    services: Patterns = Field(default=["*"])
    routes: Patterns = Field(default=["*"])
    uses: int = Field(1, ge=1, le=10_000)
    ttl_s: float = Field(900, gt=0, le=604_800, allow_inf_nan=False)


class JoinTokenView(Shown):
    id: str
    role: str
    services: list[str]
    routes: list[str]
    uses: int
    used: int
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: MaybeTime


class JoinTokenCreated(Shown):
    """`token` is the one line for `gateway join`; it is not shown again."""

    join_token: JoinTokenView
    token: str


@operations.get("/peers", response_model=PageOf[PeerView])
async def list_peers(
    here: Here,
    sort: Annotated[str, Query(max_length=32)] = "name",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The nodes of the federation, this one among them, with the links that this one has to them."""
    page = await here.control.members.list(cursor=cursor, limit=limit, sort=sort, removed=False)
    return await written(page.items, lambda member: _view(here, member), limit, page.next)


@operations.get("/peers/{id}", response_model=PeerView)
async def get_peer(here: Here, id: Id) -> Any:
    """One node."""
    return _view(here, await here.control.members.get(id))


@operations.delete("/peers/{id}", status_code=204)
async def remove_peer(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """End a node's membership: its links close, and the tokens of who enrolled with it are refused."""
    await here.control.members.remove(id, by=by, dry_run=dry_run)
    return Response(status_code=204)


@operations.post("/peers/{id}/move", Action.OPERATE, status_code=204)
async def move_peer(here: Here, id: Id) -> Response:
    """Ask an edge to take another of its parents, or this edge itself to leave the parent `id`. Where there is no link
    to it, there is nothing to leave."""
    member = await here.control.members.get(id)
    here.node.links.leave_link(member.id)
    return Response(status_code=204)


@operations.get("/peers/{id}/sync", response_model=list[SyncView])
async def get_peer_sync(here: Here, id: Id) -> Any:
    """How far each of the two nodes has heard what the other one tells of its routes."""
    member = await here.control.members.get(id)
    return [SyncView.model_validate(link) for link in here.node.links.links_to(member.id)]


@operations.post("/peers/{id}/reconnect", Action.OPERATE, response_model=Reconnected)
async def reconnect_peer(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Any:
    """Close the links to a node; the side that has dialled each does so again. Requests that cross them end."""
    member = await here.control.members.get(id)
    if dry_run:
        return Reconnected(links=len(here.node.links.links_to(member.id)))
    await here.control.audit.record(by, "peer.reconnect", f"node:{member.id}")
    return Reconnected(links=here.node.links.reconnect(member.id))


@operations.get("/join-tokens", response_model=PageOf[JoinTokenView])
async def list_join_tokens(
    here: Here,
    active: bool | None = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The tokens with which nodes may join, without their secrets."""
    filters: dict[str, Any] = {} if active is None else {"active": active}
    page = await here.control.enrolments.list_for_nodes(cursor=cursor, limit=limit, sort=sort, **filters)
    return await written(page.items, _token, limit, page.next)


@operations.post("/join-tokens", creates=True, secret=True, problems=(409,), response_model=JoinTokenCreated)
async def create_join_token(here: Here, by: By, body: JoinTokenBody, dry_run: DryRun = False) -> Any:
    """Make the line with which another node joins. Only a central node takes others in."""
    if not here.node.links.takes_nodes:
        raise Problem("conflict", "only a central node takes others in: gateway central init makes one")
    made, secret = await here.control.members.invite(
        body.role,
        services=tuple(body.services),
        routes=tuple(body.routes),
        uses=body.uses,
        ttl_s=body.ttl_s,
        by=by,
        dry_run=dry_run,
    )
    return JoinTokenCreated(join_token=_token(made), token=here.node.links.join_line(secret))


@operations.delete("/join-tokens/{id}", status_code=204)
async def revoke_join_token(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """Let nobody else in with it."""
    await here.control.enrolments.revoke(id, by=by, dry_run=dry_run)
    return Response(status_code=204)


def _token(enrolment: Any) -> JoinTokenView:
    return JoinTokenView(
        id=enrolment.id,
        role=enrolment.profile,
        services=list(enrolment.services),
        routes=list(enrolment.routes),
        uses=enrolment.uses,
        used=enrolment.used,
        created_at=enrolment.created_at,
        created_by=enrolment.created_by,
        expires_at=enrolment.expires_at,
        revoked_at=enrolment.revoked_at,
    )


def _view(here: Context, member: Member) -> PeerView:
    down = here.node.links.last_link(member.id)
    return PeerView(
        id=member.id,
        name=member.name,
        role=member.role,
        **here.node.links.about(member),
        urls=list(member.urls),
        services=list(member.services),
        routes=list(member.routes),
        updated_at=moment(member.updated_at),
        itself=member.id == here.identity.node_id,
        down_since=moment(down["at"]) if down else None,
        why=down["why"] if down else "",
        links=[LinkView(**link) for link in here.node.links.links_to(member.id)],
    )
