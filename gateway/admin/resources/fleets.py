"""Fleets: devices that enrol with one key and a serial number that is on the list."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations, Stranger
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.resources.devices import Labels, Lifetime, Patterns, Text
from gateway.admin.resources.enrollments import Enrolled, enrolled_view
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time
from gateway.control.fleets import NewFleet

operations = Operations("fleets", "enrollment")

Id = Annotated[str, Path(min_length=1, max_length=64)]
SerialNumber = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class FleetView(Shown):
    """`serials`: how many are on the list; `claimed`: how many of them have their device."""

    id: str
    name: str
    profile: str
    labels: dict[str, str]
    groups: list[str]
    services: list[str]
    routes: list[str]
    expires_at: MaybeTime
    created_at: Time
    created_by: str
    revoked_at: MaybeTime
    version: int
    serials: int
    claimed: int


class FleetBody(Taken):
    name: str = Field(min_length=1, max_length=64)
    serials: list[SerialNumber] = Field(default_factory=list, max_length=10_000)
    profile: Text = ""
    labels: Labels = Field(default_factory=dict)
    groups: Patterns = Field(default=[])
    services: Patterns = Field(default=["{sub}", "{sub}.*"])
    routes: Patterns = Field(default=[])
    ttl_s: float | None = Field(None, gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)


class FleetCreated(Shown):
    """`key` is what its devices are made with; it is not shown again."""

    fleet: FleetView
    key: str


class SerialView(Shown):
    serial: str
    device_id: str | None
    claimed_at: MaybeTime


class Serials(Taken):
    serials: list[SerialNumber] = Field(min_length=1, max_length=10_000)


class FleetClaim(Taken):
    """`public_key`: PEM of a key that the device made; without one it gets a secret, and renews with either."""

    key: str = Field(min_length=1, max_length=512)
    serial: SerialNumber
    public_key: str | None = Field(None, max_length=4096)
    firmware: Text = ""
    ttl_s: Lifetime = 3600


@operations.get("/fleets", response_model=PageOf[FleetView])
async def list_fleets(
    here: Here,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The fleets, without their keys."""
    page = await here.control.fleets.list(cursor=cursor, limit=limit, sort=sort, q=q)
    return await stored_page(FleetView, page, limit)


@operations.post("/fleets", creates=True, secret=True, response_model=FleetCreated)
async def create_fleet(here: Here, by: By, response: Response, body: FleetBody, dry_run: DryRun = False) -> Any:
    """Make a key for devices whose serial numbers are known."""
    fleet, key = await here.control.fleets.create(NewFleet(**body.model_dump()), by=by, dry_run=dry_run)
    response.headers["etag"] = etag(fleet.version)
    return FleetCreated(fleet=FleetView.of(fleet), key=key)


@operations.get("/fleets/{id}", response_model=FleetView)
async def get_fleet(here: Here, response: Response, id: Id) -> Any:
    """One fleet."""
    fleet = await here.control.fleets.get(id)
    response.headers["etag"] = etag(fleet.version)
    return FleetView.of(fleet)


@operations.delete("/fleets/{id}", problems=(412, 428), status_code=204)
async def revoke_fleet(here: Here, by: By, id: Id, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Let nobody else in with its key. Devices that it made stay."""
    await here.control.fleets.revoke(id, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.get("/fleets/{id}/serials", response_model=PageOf[SerialView])
async def list_serials(here: Here, id: Id, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """Its serial numbers, and the device of each that has one."""
    return await stored_page(SerialView, await here.control.fleets.serials(id, cursor=cursor, limit=limit), limit)


@operations.post("/fleets/{id}/serials", response_model=FleetView)
async def add_serials(here: Here, by: By, id: Id, body: Serials, dry_run: DryRun = False) -> Any:
    """Add serial numbers to the list."""
    return FleetView.of(await here.control.fleets.add_serials(id, body.serials, by=by, dry_run=dry_run))


@operations.post("/fleets/{id}/serials/{serial}/release", problems=(409,), response_model=SerialView)
async def release_serial(
    here: Here,
    by: By,
    id: Id,
    serial: Annotated[str, Path(min_length=1, max_length=64)],
    dry_run: DryRun = False,
) -> Any:
    """Let a serial number be claimed again, for a device that was reset by its owner."""
    return SerialView.of(await here.control.fleets.release(id, serial, by=by, dry_run=dry_run))


@operations.open(
    "POST",
    "/enroll/fleet",
    "The fleet's key and the serial number in the body are the credential; limited by address.",
    problems=(400, 403, 404, 409, 413, 422, 507),
    response_model=Enrolled,
)
async def enroll_by_serial(here: Here, by: Stranger, body: FleetClaim) -> Any:
    """Exchange a fleet's key and a serial number for a device's own credential."""
    done = await here.control.fleets.claim(
        body.key, body.serial, public_key=body.public_key, firmware=body.firmware, ttl_s=body.ttl_s, by=by
    )
    return enrolled_view(here, done)
