"""Routes: who serves what, and why a request would go where it goes."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final, Literal, cast

from fastapi import Path, Query
from pydantic import Field

from gateway.admin.access import Operations, Who
from gateway.admin.context import Context, Here
from gateway.admin.governing_rows import Governing, governing, spools_of
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, slice_page, written
from gateway.admin.problem import Problem
from gateway.admin.shapes import Shown, Taken
from gateway.control.plane import Caller
from gateway.control.roles import Action
from gateway.errors import NoRoute, NotFound, RequestInvalid
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import DOWNLINK, KINDS, LOCAL, MAY_GO, PEER, UPLINK, toward
from gateway.policy.access import Grant
from gateway.policy.principal import Kind, Principal
from gateway.routing.address import Address, address_from
from gateway.routing.balancer import pick, shard
from gateway.routing.group import Group
from gateway.routing.locator import locate, longest_name
from gateway.routing.route import Route
from gateway.wire import brokering
from gateway.wire.brokering import Cast

operations = Operations("routes", "routing")

RouteId = Annotated[uuid.UUID, Path(description="The route's id.")]


class RouteView(Shown):
    """One registration. `service` is empty for a connection that serves none and is reached by its subject. It is on
    `node` and is reached over a link of the kind `link`; `local`: over none."""

    id: str
    service: str
    subject: str
    connection: str
    tags: dict[str, str]
    pending: int
    node: str
    link: str


class Question(Taken):
    """A request that nobody sends. `tags` narrow as routing tags do (`sub`, `ShardKey`, …); `caller` is the subject
    whose permissions are asked, of an open connection or a device; without it, the API's caller as administrator."""

    route: str = Field("", max_length=255, examples=["thermo.read"])
    tags: dict[str, str] = Field({}, max_length=16)
    multicast: bool = Field(False, description="Ask for everybody instead of one.")
    by_tags: bool = Field(False, description="Address by the tags alone, as an ADDRESS frame does.")
    caller: str | None = Field(None, max_length=64)
    came_from: Literal["client", "downlink", "peer", "uplink"] = Field(
        "client", description="Over which kind of link the request comes to this node, if it is not a client's."
    )
    interaction: Literal["requestResponse", "fireAndForget", "requestStream", "requestChannel"] = "requestResponse"


class Candidate(Shown):
    route: str
    service: str
    subject: str
    connection: str
    pending: int
    node: str
    link: str
    permitted: bool
    why: str


class UnusedRoute(Shown):
    """A route that this node was told of over a link, and that is no candidate; `why` not."""

    node: str
    link: str
    service: str
    subject: str
    why: str


class Resolution(Shown):
    """`verdict` is what the request would meet; `chosen` what the balancer would take now. `reason` is for a person.
    A candidate is on `node` and is reached over a link of the kind `link`; `local`: over none. `unused`: what other
    nodes have told of the address and what is not used all the same."""

    verdict: Literal["ok", "no_route", "not_permitted", "invalid", "no_lease"]
    reason: str
    caller: str
    caller_kind: str
    address: str
    service: str | None
    method: str
    candidates: list[Candidate]
    more_candidates: int
    unused: list[UnusedRoute]
    chosen: str | None
    governed: Governing | None
    spools: list[str]


MAX_CANDIDATES = 100


def route_view(here: Context, route: Route) -> RouteView:
    owner = cast(Connection, route.owner)
    return RouteView(
        id=str(uuid.UUID(bytes=route.route_id)),
        service=route.service,
        subject=route.subject,
        connection=str(owner.number),
        tags=dict(route.tags),
        pending=owner.pending,
        node=here.node.links.node_of(route),
        link=KINDS.get(owner.side, "local"),
    )


@operations.get("/routes", response_model=PageOf[RouteView])
async def list_routes(
    here: Here,
    service: Annotated[str | None, Query(max_length=255)] = None,
    subject: Annotated[str | None, Query(max_length=64)] = None,
    q: Search = None,
    sort: Annotated[str, Query(max_length=16, description="service, subject or pending.")] = "service",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """Who serves what now."""
    table = here.plane.table
    rows: list[Route]
    if service is not None:
        group = table.service(service) if service in table.by_service else None
        rows = list(group.routes) if group is not None else []
    elif subject is not None:
        group = table.subject(subject)
        rows = list(group.routes) if group is not None else []
    else:
        rows = list(table)
    if subject is not None:
        rows = [route for route in rows if route.subject == subject]
    if q is not None:
        rows = [route for route in rows if q in route.service or q in route.subject]
    page, next_cursor = await slice_page(
        rows,
        sort=sort,
        keys={"service": lambda r: r.service, "subject": lambda r: r.subject, "pending": lambda r: r.owner.pending},
        identity=lambda r: r.route_id.hex(),
        limit=limit,
        cursor=cursor,
    )
    return await written(page, lambda route: route_view(here, route), limit, next_cursor)


@operations.get("/routes/{id}", response_model=RouteView)
async def get_route(here: Here, id: RouteId) -> Any:
    """One registration."""
    route = here.plane.table.get(id.bytes)
    if route is None:
        raise Problem("not-found", f"there is no route {id}")
    return route_view(here, route)


@operations.post("/routes:resolve", Action.READ, response_model=Resolution)
async def resolve_route(here: Here, who: Who, question: Question) -> Any:
    """Why a request would go where: the name that matches, the candidates, the permission, the balancer's choice.

    Nothing is sent, and nobody's turn is used up.
    """
    grant = await _grant(here, who, question.caller)
    answer: dict[str, Any] = {
        "verdict": "ok",
        "reason": "",
        "caller": grant.principal.subject,
        "caller_kind": grant.principal.kind.value,
        "address": question.route,
        "service": None,
        "method": here.plane.balancing.value,
        "candidates": [],
        "more_candidates": 0,
        "unused": [],
        "chosen": None,
        "governed": None,
        "spools": [],
    }
    try:
        address = _address(question)
    except (RequestInvalid, ValueError) as error:
        return Resolution(**{**answer, "verdict": "invalid", "reason": str(error)})
    answer["address"] = str(address)
    answer["method"] = "shard" if address.shard_key is not None else (address.balancer or here.plane.balancing).value
    if address.cast is Cast.MULTICAST:
        answer["method"] = "multicast"
    if not address.by_tags:
        answer["service"] = longest_name(here.plane.table.by_service, address.route)
    if here.plane.links is not None:
        here.plane.links.look(address)
    answer["governed"] = governing(here, grant.principal, answer["service"], address.route, question.interaction)
    answer["spools"] = spools_of(here, address, question.interaction)
    answer["unused"] = [UnusedRoute.of(each) for each in here.node.links.unused(address)]
    try:
        group = locate(here.plane.table, address)
    except NoRoute as error:
        reason = f"{error}{here.node.links.why_no_route(address)}"
        return Resolution(**{**answer, "verdict": "no_route", "reason": reason})
    whole = address.cast is Cast.MULTICAST or address.shard_key is not None
    ahead = toward(_Origin(SIDES[question.came_from]), group.routes, everywhere=whole)  # type: ignore[arg-type]
    allowed = {route.route_id for route in ahead}
    answer["candidates"] = [
        _candidate(here, grant, route, address, question.came_from, allowed) for route in group.routes[:MAX_CANDIDATES]
    ]
    answer["more_candidates"] = max(0, len(group.routes) - MAX_CANDIDATES)
    if not ahead:
        reason = f"no route to {address}: a request from {_FROM[question.came_from]} goes to none of these"
        return Resolution(**{**answer, "verdict": "no_route", "reason": reason})
    permitted = [route for route in ahead if _may(grant, route, address)]
    if not permitted:
        reason = f"{grant.principal.subject} may not call {address}"
        return Resolution(**{**answer, "verdict": "not_permitted", "reason": reason})
    if address.cast is Cast.MULTICAST:
        return Resolution(**{**answer, "reason": f"goes to all {len(permitted)} that are permitted"})
    now = here.plane.monotonic()
    ready = [route for route in permitted if _has_lease(cast(Connection, route.owner), now)]
    if not ready:
        return Resolution(**{**answer, "verdict": "no_lease", "reason": "no candidate has a lease left"})
    # A group of its own: the balancer's turn of the real one stays.
    mine = Group(ready)
    mine.turn = group.turn
    key = address.shard_key
    chosen = (
        shard(mine, key) if key is not None else pick(mine, address.balancer or here.plane.balancing, here.plane.random)
    )
    return Resolution(**{**answer, "chosen": str(uuid.UUID(bytes=chosen.route_id))})


def _address(question: Question) -> Address:
    routing = [question.route]
    if not question.by_tags:
        routing += (f"{key}={value}" for key, value in question.tags.items())
    frame = None
    if question.by_tags or question.multicast:
        cast = Cast.MULTICAST if question.multicast else Cast.SHARD if "ShardKey" in question.tags else Cast.UNICAST
        frame = brokering.Address(bytes(16), tuple(question.tags.items()) if question.by_tags else (), cast)
    return address_from(routing, frame)


def _has_lease(owner: Connection, now: float) -> bool:
    return owner.held is None or owner.held.available(now) > 0


def _may(grant: Grant, route: Route, address: Address) -> bool:
    return grant.may_call(route.service or route.subject, address.route)


class _Origin:
    """Whence a request would come, as far as the direction rule asks."""

    def __init__(self, side: int) -> None:
        self.side = side


SIDES: Final = {"client": LOCAL, "downlink": DOWNLINK, "peer": PEER, "uplink": UPLINK}
_FROM: Final = {"client": "a client", "downlink": "a child", "peer": "a peer", "uplink": "the parent"}


def _candidate(
    here: Context, grant: Grant, route: Route, address: Address, came_from: str, allowed: set[bytes]
) -> Candidate:
    view = route_view(here, route)
    side = cast(Connection, route.owner).side
    permitted = _may(grant, route, address)
    why = ""
    if not permitted:
        patterns = ", ".join(grant.principal.routes) or "it has none"
        why = f"no pattern of {grant.principal.subject} allows it: {patterns}"
    elif route.route_id not in allowed and side not in MAY_GO[SIDES[came_from]]:
        why = f"a request from {_FROM[came_from]} does not go to {KINDS.get(side, 'local')}: it could come back"
    elif route.route_id not in allowed:
        why = "another one is nearer: here before a child, before a peer, before the parent"
    return Candidate(
        route=view.id,
        service=view.service,
        subject=view.subject,
        connection=view.connection,
        pending=view.pending,
        node=view.node,
        link=view.link,
        permitted=permitted,
        why=why,
    )


async def _grant(here: Context, who: Caller, subject: str | None) -> Grant:
    """The grant of the subject's own connection, else what a token of the device would get; without a subject the
    administrator's."""
    if subject is None:
        return here.plane.snapshot.grant(administrator(who.id, here.plane.wall()))
    group = here.plane.table.subject(subject)
    if group is not None:
        return cast(Connection, group.routes[0].owner).grant
    try:
        device = await here.control.devices.get(subject)
    except NotFound as error:
        raise Problem("invalid", errors=[{"pointer": "/caller", "detail": str(error)}]) from error
    now = here.plane.wall()
    return here.plane.snapshot.grant(
        Principal(subject, device.kind, "", now, now + 60, device.services, device.routes, device.groups)
    )


def administrator(name: str, now: float) -> Principal:
    """Who calls services through the API: an administrator who may call every route and serve none."""
    return Principal(name, Kind.ADMIN, "", now, now + 60, (), ("*",))
