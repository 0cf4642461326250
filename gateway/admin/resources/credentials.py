"""Device credentials and revocations: what tokens and keys there are, and which of them no longer hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, stored_page
from gateway.admin.problem import Problem
from gateway.admin.resources.devices import Issue, IssuedView, issued_view
from gateway.admin.shapes import DryRun, GivenTime, MaybeTime, Shown, Taken, Time, seconds
from gateway.control.roles import Action

operations = Operations("credentials", "devices")

Id = Annotated[str, Path(min_length=1, max_length=64)]
Sort = Annotated[str, Query(max_length=32)]


class CredentialView(Shown):
    """`type`: token, key (its public half is registered) or secret. `ends_at`: when a rotation ends it."""

    id: str
    device_id: str
    type: str
    key_id: str
    token_id: str
    issued_at: Time
    expires_at: MaybeTime
    ends_at: MaybeTime
    revoked_at: MaybeTime
    reason: str


class Revoke(Taken):
    reason: str = Field("", max_length=255)


class PublicKey(Taken):
    """PEM of an Ed25519 or P-256 public key: who has its private half can renew the device's tokens."""

    public_key: str = Field(min_length=1, max_length=4096)


class RevocationBody(Taken):
    """`value`: a subject, a key id (`issuer` says whose) or a token id. `not_before`: of a subject, tokens that were
    issued before it are refused; now, when it is left out."""

    kind: Literal["subject", "key", "token"]
    value: str = Field(min_length=1, max_length=128)
    issuer: str = Field("", max_length=255)
    not_before: GivenTime | None = None
    reason: str = Field("", max_length=255)


class RevocationView(Shown):
    """`until`: when nothing that it refuses could hold any longer."""

    id: str
    kind: str
    value: str
    issuer: str
    not_before: MaybeTime
    created_at: Time
    until: MaybeTime
    reason: str
    created_by: str


@operations.get("/devices/{id}/credentials", response_model=PageOf[CredentialView])
async def list_credentials(
    here: Here,
    id: Id,
    active: bool | None = None,
    sort: Sort = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The credentials of a device, without their secrets."""
    await here.control.devices.get(id)
    page = await here.control.credentials.list(id, cursor=cursor, limit=limit, sort=sort, active=active)
    return await stored_page(CredentialView, page, limit)


@operations.post("/devices/{id}/credentials", creates=True, secret=True, response_model=IssuedView)
async def issue_credential(here: Here, by: By, id: Id, body: Issue, dry_run: DryRun = False) -> Any:
    """Give a device one more token."""
    issued = await here.control.credentials.issue(id, ttl_s=body.ttl_s, by=by, dry_run=dry_run)
    return issued_view(here, issued)


@operations.post("/devices/{id}/keys", creates=True, response_model=CredentialView)
async def add_device_key(here: Here, by: By, id: Id, body: PublicKey, dry_run: DryRun = False) -> Any:
    """Register a key that a device made itself."""
    return CredentialView.of(await here.control.credentials.add_key(id, body.public_key, by=by, dry_run=dry_run))


@operations.post("/credentials/{id}/revoke", Action.OPERATE, response_model=CredentialView)
async def revoke_credential(here: Here, by: By, id: Id, body: Revoke, dry_run: DryRun = False) -> Any:
    """Refuse one credential from now on."""
    return CredentialView.of(await here.control.credentials.revoke(id, reason=body.reason, by=by, dry_run=dry_run))


@operations.get("/revocations", response_model=PageOf[RevocationView])
async def list_revocations(
    here: Here,
    kind: Literal["subject", "key", "token"] | None = None,
    sort: Sort = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """What is refused."""
    filters: dict[str, Any] = {} if kind is None else {"kind": kind}
    page = await here.control.revocations.list(cursor=cursor, limit=limit, sort=sort, **filters)
    return await stored_page(RevocationView, page, limit)


@operations.post("/revocations", Action.OPERATE, creates=True, response_model=RevocationView)
async def create_revocation(here: Here, by: By, body: RevocationBody, dry_run: DryRun = False) -> Any:
    """Refuse tokens, of devices that are registered here or not. Live connections close within seconds."""
    revocations = here.control.revocations
    if body.kind != "subject" and body.not_before is not None:
        raise Problem("invalid", errors=[{"pointer": "/not_before", "detail": "only goes with a subject"}])
    if body.kind == "subject":
        made = await revocations.revoke_subject(
            body.value, not_before=seconds(body.not_before), reason=body.reason, by=by, dry_run=dry_run
        )
    elif body.kind == "key":
        made = await revocations.revoke_key(body.value, issuer=body.issuer, reason=body.reason, by=by, dry_run=dry_run)
    else:
        made = await revocations.revoke_token(body.value, reason=body.reason, by=by, dry_run=dry_run)
    return RevocationView.of(made)


@operations.delete("/revocations/{id}", status_code=204)
async def lift_revocation(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """Take what it refuses again."""
    await here.control.revocations.lift(id, by=by, dry_run=dry_run)
    return Response(status_code=204)
