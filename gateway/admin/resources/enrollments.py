"""Enrolments: one-time tokens with which a device gets its own credential."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations, Stranger
from gateway.admin.context import Context, Here
from gateway.admin.drawing import drawn
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, stored_page
from gateway.admin.preconditions import etag
from gateway.admin.resources.devices import Labels, Lifetime, Patterns, Text
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time, moment
from gateway.control.certificates import fingerprint
from gateway.control.enrolments import NewEnrolment

operations = Operations("enrollments", "enrollment")

Id = Annotated[str, Path(min_length=1, max_length=64)]
DeviceId = Annotated[str | None, Field(max_length=64)]


class EnrollmentView(Shown):
    id: str
    device_id: str | None
    profile: str
    labels: dict[str, str]
    groups: list[str]
    services: list[str]
    routes: list[str]
    uses: int
    used: int
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: MaybeTime
    version: int


class EnrollmentBody(Taken):
    """`device_id`: which device it is for; null: whichever comes. `uses` above 1 is for fleets."""

    device_id: DeviceId = None
    profile: Text = ""
    labels: Labels = Field(default_factory=dict)
    groups: Patterns = Field(default=[])
    services: Patterns = Field(default=["{sub}", "{sub}.*"])
    routes: Patterns = Field(default=[])
    uses: int = Field(1, ge=1, le=10_000)
    ttl_s: float = Field(900, gt=0, le=604_800, allow_inf_nan=False)


class EnrollmentCreated(Shown):
    """`token` is not shown again. `url` is where the device goes with it. `line` is both, and the fingerprint of the
    authority that the device shall trust, as a device takes it at its first boot."""

    enrollment: EnrollmentView
    token: str
    url: str
    line: str


class PairingToken(Taken):
    token: str = Field(min_length=1, max_length=512, pattern=r"^[!-~]+$")


class Claim(Taken):
    """`device_id`: the id that the device wants, where the enrolment leaves that open. `public_key`: PEM of a key that
    the device made; without one it gets a secret, and renews with either."""

    token: str = Field(min_length=1, max_length=512)
    device_id: DeviceId = None
    public_key: str | None = Field(None, max_length=4096)
    firmware: Text = ""
    ttl_s: Lifetime = 3600


class Enrolled(Shown):
    device_id: str
    token: str
    expires_at: Time
    secret: str | None
    ca_pem: str
    url: str


@operations.get("/enrollments", response_model=PageOf[EnrollmentView])
async def list_enrollments(
    here: Here,
    active: bool | None = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The enrolments, without their tokens."""
    filters: dict[str, Any] = {} if active is None else {"active": active}
    page = await here.control.enrolments.list(cursor=cursor, limit=limit, sort=sort, **filters)
    return await stored_page(EnrollmentView, page, limit)


@operations.post("/enrollments", creates=True, secret=True, response_model=EnrollmentCreated)
async def create_enrollment(
    here: Here, by: By, response: Response, body: EnrollmentBody, dry_run: DryRun = False
) -> Any:
    """Make a one-time token for a device that is to come."""
    made, token = await here.control.enrolments.create(NewEnrolment(**body.model_dump()), by=by, dry_run=dry_run)
    response.headers["etag"] = etag(made.version)
    return EnrollmentCreated(
        enrollment=EnrollmentView.of(made), token=token, url=here.node.advertised_url, line=pairing_text(here, token)
    )


@operations.get("/enrollments/{id}", response_model=EnrollmentView)
async def get_enrollment(here: Here, response: Response, id: Id) -> Any:
    """One enrolment."""
    found = await here.control.enrolments.get(id)
    response.headers["etag"] = etag(found.version)
    return EnrollmentView.of(found)


@operations.delete("/enrollments/{id}", status_code=204)
async def revoke_enrollment(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """Let nobody else in with it."""
    await here.control.enrolments.revoke(id, by=by, dry_run=dry_run)
    return Response(status_code=204)


@operations.post(
    "/enrollments/{id}/qr.svg",
    response_class=Response,
    responses={200: {"description": "SVG", "content": {"image/svg+xml": {"schema": {"type": "string"}}}}},
)
async def draw_enrollment(here: Here, id: Id, body: PairingToken) -> Response:
    """A QR code of the URL and the token, for a phone to read. The token has to be sent: it is kept nowhere."""
    await here.control.enrolments.get(id)
    return Response(await drawn(pairing_text(here, body.token)), media_type="image/svg+xml")


def pairing_text(here: Context, token: str) -> str:
    """What a QR code says: where to go, with what, and by which authority the node is known (the SHA-256 of its DER)
    where it has one of its own. All but the address is in the fragment, which no server is sent."""
    url = here.node.advertised_url
    if not url.startswith("wss:") or not here.node.issues_certificate:
        return f"{url}#enroll={token}"
    return f"{url}#enroll={token}&ca={fingerprint(here.identity.ca_path.read_text())}"


@operations.open(
    "POST",
    "/enroll",
    "The one-time token in the body is the credential; limited by address.",
    problems=(400, 403, 404, 409, 413, 422, 507),
    response_model=Enrolled,
)
async def enroll(here: Here, by: Stranger, body: Claim) -> Any:
    """Exchange a one-time token for a device's own credential."""
    done = await here.control.enrolments.redeem(
        body.token,
        device_id=body.device_id,
        public_key=body.public_key,
        firmware=body.firmware,
        ttl_s=body.ttl_s,
        by=by,
    )
    return enrolled_view(here, done)


def enrolled_view(here: Context, done: Any) -> Enrolled:
    """What a device is told that was let in."""
    return Enrolled(
        device_id=done.device.id,
        token=done.token,
        expires_at=moment(done.expires_at),
        secret=done.secret,
        ca_pem=done.ca_pem,
        url=here.node.advertised_url,
    )
