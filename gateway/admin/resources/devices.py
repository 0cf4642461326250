"""Devices: what is registered, what it may do, its credentials, and its connections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Path, Query, Response
from pydantic import Field, Strict, field_validator

from gateway.admin import connection_rows
from gateway.admin.access import By, Operations
from gateway.admin.connection_rows import kick
from gateway.admin.context import Context, Here
from gateway.admin.events import guard_of
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, written
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.presence import last_closed, live_route, online_devices
from gateway.admin.resources.connections import ClosedConnection, OpenConnection, closed_view, open_view
from gateway.admin.resources.events import EventView
from gateway.admin.round_trip import round_trip_ms
from gateway.admin.shapes import DryRun, GivenTime, MaybeTime, Shown, Taken, Time, moment, seconds
from gateway.control.devices import Device, NewDevice
from gateway.control.roles import Action
from gateway.forwarding.connection import Connection
from gateway.forwarding.register import Closed
from gateway.policy.principal import Kind

operations = Operations("devices", "devices")

Id = Annotated[str, Path(min_length=1, max_length=64, examples=["kitchen"])]
GivenKind = Annotated[Kind, Strict(False)]
Text = Annotated[str, Field(max_length=255)]
Patterns = Annotated[list[Text], Field(max_length=64)]
Labels = Annotated[dict[str, Text], Field(max_length=64)]
Lifetime = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


class LastClosed(Shown):
    """`reason` is a stable word; `text` is what the device was told."""

    reason: str
    text: str
    at: Time


class DeviceView(Shown):
    """`services` and `routes` bound what its tokens may do; `{sub}` is its id. `online`: it has a link now, at `node`.
    `closed`: how its last connection here ended, as far as that is remembered. `rtt_ms`: round trip of a connection to
    this process, where the system says it."""

    id: str
    kind: Kind
    profile: str
    labels: dict[str, str]
    groups: list[str]
    services: list[str]
    routes: list[str]
    enabled: bool
    firmware: str
    notes: str
    created_at: Time
    updated_at: Time
    last_seen_at: MaybeTime
    not_before: MaybeTime
    version: int
    online: bool
    node: str
    closed: LastClosed | None
    connections: list[str]
    rtt_ms: float | None


class Issue(Taken):
    ttl_s: Lifetime = 3600


class DeviceBody(Taken):
    """What is left out has its default. `issue`: answer with a token, too."""

    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    kind: GivenKind = Kind.DEVICE
    profile: Text = ""
    labels: Labels = Field(default_factory=dict)
    groups: Patterns = Field(default=[])
    services: Patterns = Field(default=["{sub}", "{sub}.*"])
    routes: Patterns = Field(default=[])
    firmware: Text = ""
    notes: str = Field("", max_length=4096)
    enabled: bool = True
    issue: Issue | None = None

    @field_validator("id")
    @classmethod
    def _has_a_path(cls, id: str) -> str:
        if id in ("export", "summary"):
            raise ValueError("is the path of another operation")
        return id

    def record(self) -> NewDevice:
        return NewDevice(**self.model_dump(exclude={"issue"}))


class DeviceChange(Taken):
    kind: GivenKind | None = None
    profile: Text | None = None
    labels: Labels | None = None
    groups: Patterns | None = None
    services: Patterns | None = None
    routes: Patterns | None = None
    firmware: Text | None = None
    notes: str | None = Field(None, max_length=4096)
    enabled: bool | None = None


class IssuedView(Shown):
    """`token` is not shown again. `url` is where the device goes with it."""

    token: str
    expires_at: Time
    credential_id: str
    token_id: str
    url: str


class DeviceCreated(Shown):
    device: DeviceView
    credential: IssuedView | None


class Rotation(Taken):
    """Tokens that it has hold for `overlap_s` seconds more."""

    ttl_s: Lifetime = 3600
    overlap_s: float = Field(300, ge=0, le=7 * 86_400, allow_inf_nan=False)


class Kicked(Shown):
    kicked: int


#: What a view has besides what is on disk.
_LIVE: Final = frozenset({"online", "node", "closed", "connections", "rtt_ms"})


def view(here: Context, closed: Mapping[str, Closed], device: Device) -> DeviceView:
    """`closed`: what `last_closed` found for some devices, this one among them."""
    shown = {name: getattr(device, name) for name in DeviceView.model_fields if name not in _LIVE}
    route = live_route(here.plane, device.id)
    last = closed.get(device.id)
    here_now = connections_of(here, device.id)
    return DeviceView(
        **shown,
        online=route is not None,
        node="" if route is None else here.node.links.node_of(route),
        closed=None if last is None else LastClosed(reason=last.reason, text=last.text, at=moment(last.closed_at)),
        connections=[str(owner.number) for owner in here_now],
        rtt_ms=next((rtt for owner in here_now if (rtt := round_trip_ms(owner.carrier)) is not None), None),
    )


def connections_of(here: Context, subject: str) -> list[Connection]:
    """The open connections of a subject at the first process, each once."""
    return connection_rows.of_subject(here.plane, subject)


async def _at_workers(here: Context, what: str, subject: str) -> list[Any]:
    """What the workers say of the connections of a subject, each once."""
    if here.node.workers is None:
        return []
    return [each for _, found in await here.node.workers.ask(what, subject=subject) for each in found]


def issued_view(here: Context, issued: Any) -> IssuedView:
    return IssuedView(
        token=issued.token,
        expires_at=moment(issued.expires_at),
        credential_id=str(issued.credential.id),
        token_id=issued.credential.token_id or "",
        url=here.node.advertised_url,
    )


def _answer(here: Context, response: Response, device: Device) -> DeviceView:
    response.headers["etag"] = etag(device.version)
    return view(here, last_closed(here.plane, [device.id]), device)


@operations.get("/devices", response_model=PageOf[DeviceView])
async def list_devices(
    here: Here,
    q: Search = None,
    profile: Annotated[str | None, Query(max_length=255)] = None,
    group: Annotated[str | None, Query(max_length=255)] = None,
    label: Annotated[str | None, Query(max_length=255, description="`key`, or `key=value`.")] = None,
    enabled: bool | None = None,
    online: Annotated[bool | None, Query(description="Only those that have a link now, or have none.")] = None,
    kind: Kind | None = None,
    seen_since: GivenTime | None = None,
    seen_before: GivenTime | None = None,
    count: Annotated[bool, Query(description="Count all that match, in `meta.count`.")] = False,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The devices."""
    given = {
        "profile": profile,
        "group": group,
        "label": label,
        "enabled": enabled,
        "kind": kind,
        "seen_since": seconds(seen_since),
        "seen_before": seconds(seen_before),
    }
    filters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if online is not None:
        filters["among" if online else "not_among"] = await online_devices(here.plane)
    page = await here.control.devices.list(cursor=cursor, limit=limit, sort=sort, q=q, **filters)
    total = await here.control.devices.count(q=q, **filters) if count else None
    closed = last_closed(here.plane, [device.id for device in page.items])
    return await written(page.items, partial(view, here, closed), limit, page.next, total)


@operations.post("/devices", creates=True, secret=True, response_model=DeviceCreated)
async def create_device(here: Here, by: By, response: Response, body: DeviceBody, dry_run: DryRun = False) -> Any:
    """Register a device, and give it a token if asked to."""
    device = await here.control.devices.create(body.record(), by=by, dry_run=dry_run)
    credential = None
    if body.issue is not None and not dry_run:
        issued = await here.control.credentials.issue(device.id, ttl_s=body.issue.ttl_s, by=by)
        credential = issued_view(here, issued)
    response.headers["location"] = f"/api/v1/devices/{device.id}"
    return DeviceCreated(device=_answer(here, response, device), credential=credential)


@operations.get("/devices/{id}", response_model=DeviceView)
async def get_device(here: Here, response: Response, id: Id) -> Any:
    """One device."""
    return _answer(here, response, await here.control.devices.get(id))


@operations.patch("/devices/{id}", problems=(409, 412, 428), response_model=DeviceView)
async def change_device(
    here: Here,
    by: By,
    response: Response,
    id: Id,
    body: DeviceChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change a device. What it may do holds for its open connections within seconds."""
    changes = body.model_dump(exclude_none=True)
    device = await here.control.devices.update(id, changes, by=by, expect=expected(if_match), dry_run=dry_run)
    return _answer(here, response, device)


@operations.delete("/devices/{id}", problems=(409, 412, 428), status_code=204)
async def delete_device(here: Here, by: By, id: Id, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Forget a device. Tokens that it was given hold no longer; its connections close."""
    await here.control.devices.delete(id, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.post("/devices/{id}/disable", Action.OPERATE, response_model=DeviceView)
async def disable_device(here: Here, by: By, response: Response, id: Id, dry_run: DryRun = False) -> Any:
    """Lock a device out, and close its connections."""
    return _answer(here, response, await here.control.devices.disable(id, by=by, dry_run=dry_run))


@operations.post("/devices/{id}/enable", Action.OPERATE, response_model=DeviceView)
async def enable_device(here: Here, by: By, response: Response, id: Id, dry_run: DryRun = False) -> Any:
    """Let it in again."""
    return _answer(here, response, await here.control.devices.enable(id, by=by, dry_run=dry_run))


@operations.post("/devices/{id}/kick", Action.OPERATE, response_model=Kicked)
async def kick_device(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Any:
    """Close its connections; it may come back."""
    owners = connections_of(here, id)
    elsewhere = await _at_workers(here, "of_subject", id)
    if not owners and not elsewhere:
        await here.control.devices.get(id)
    elif not dry_run:
        await here.control.audit.record(by, "device.kick", f"device:{id}")
        for owner in owners:
            kick(owner)
        if elsewhere:
            elsewhere = await _at_workers(here, "kick_subject", id)
    return Kicked(kicked=len(owners) + len(elsewhere))


@operations.post("/devices/{id}/rotate", problems=(409,), response_model=IssuedView)
async def rotate_device(here: Here, by: By, id: Id, body: Rotation) -> Any:
    """Give it another token; those that it has end after the overlap."""
    rotate = here.control.credentials.rotate
    return issued_view(here, await rotate(id, ttl_s=body.ttl_s, overlap_s=body.overlap_s, by=by))


@operations.get("/devices/{id}/sessions", scope="connections", response_model=PageOf[OpenConnection | ClosedConnection])
async def list_device_sessions(here: Here, id: Id, limit: Limit = DEFAULT_LIMIT) -> Any:
    """Its open connections, then the last that ended; those of devices that nobody registered, too."""
    shown: list[OpenConnection | ClosedConnection] = [open_view(owner) for owner in connections_of(here, id)]
    shown += [OpenConnection(**row) for row in await _at_workers(here, "of_subject", id)]
    shown += [closed_view(closed) for closed in reversed(here.plane.register.closed) if closed.subject == id]
    if not shown:
        await here.control.devices.get(id)
    return await written(shown[:limit], lambda each: each, limit)


@operations.get("/devices/{id}/events", scope="monitoring", response_model=PageOf[EventView])
async def list_device_events(here: Here, id: Id, limit: Limit = DEFAULT_LIMIT) -> Any:
    """What happened to it lately, newest first."""
    events, _ = here.events.since(0, 1 << 30)
    mine = [event for event in reversed(events) if event.subject == id and guard_of(event) is None]
    if not mine:
        await here.control.devices.get(id)
    return await written(mine[:limit], EventView.of, limit)
