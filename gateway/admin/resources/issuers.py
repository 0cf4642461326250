"""Trusted issuers: whose tokens open connections besides this node's own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, stored_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.resources.devices import GivenKind, Patterns
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time
from gateway.control.issuers import NewIssuer
from gateway.control.roles import Action
from gateway.policy.principal import Kind

operations = Operations("issuers", "policy")

Id = Annotated[str, Path(min_length=1, max_length=64)]
Kinds = Annotated[list[GivenKind], Field(min_length=1, max_length=8)]
Url = Annotated[str, Field(max_length=2048, pattern=r"^https?://[!-~]+$")]
KeySet = Annotated[dict[str, Any], Field(description='A JWK set: `{"keys": […]}`.', max_length=8)]


class IssuerView(Shown):
    """`issuer` is the `iss` of its tokens. `kinds`, `services` and `routes` bound what they may say. `error`: why the
    last fetch of its keys failed."""

    id: str
    issuer: str
    jwks_url: str | None
    key_ids: list[str]
    kinds: list[Kind]
    services: list[str]
    routes: list[str]
    enabled: bool
    fetched_at: MaybeTime
    error: str
    created_at: Time
    updated_at: Time
    version: int


class IssuerBody(Taken):
    """Either `keys` or `jwks_url`, from which they are fetched."""

    issuer: str = Field(min_length=1, max_length=255)
    jwks_url: Url | None = None
    keys: KeySet | None = None
    kinds: Kinds = Field(default=[Kind.DEVICE])
    services: Patterns = Field(default=["*"])
    routes: Patterns = Field(default=["*"])
    enabled: bool = True


class IssuerChange(Taken):
    jwks_url: Url | None = None
    keys: KeySet | None = None
    kinds: Kinds | None = None
    services: Patterns | None = None
    routes: Patterns | None = None
    enabled: bool | None = None


@operations.get("/issuers", response_model=PageOf[IssuerView])
async def list_issuers(
    here: Here,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The issuers."""
    return await stored_page(IssuerView, await here.control.issuers.list(cursor=cursor, limit=limit, sort=sort), limit)


@operations.post("/issuers", creates=True, response_model=IssuerView)
async def create_issuer(here: Here, by: By, response: Response, body: IssuerBody, dry_run: DryRun = False) -> Any:
    """Trust somebody's tokens."""
    made = await here.control.issuers.create(NewIssuer(**body.model_dump()), by=by, dry_run=dry_run)
    response.headers["etag"] = etag(made.version)
    return IssuerView.of(made)


@operations.get("/issuers/{id}", response_model=IssuerView)
async def get_issuer(here: Here, response: Response, id: Id) -> Any:
    """One issuer."""
    found = await here.control.issuers.get(id)
    response.headers["etag"] = etag(found.version)
    return IssuerView.of(found)


@operations.patch("/issuers/{id}", problems=(409, 412, 428), response_model=IssuerView)
async def change_issuer(
    here: Here,
    by: By,
    response: Response,
    id: Id,
    body: IssuerChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change what its tokens may say, or its keys."""
    changes = body.model_dump(exclude_none=True)
    changed = await here.control.issuers.update(id, changes, by=by, expect=expected(if_match), dry_run=dry_run)
    response.headers["etag"] = etag(changed.version)
    return IssuerView.of(changed)


@operations.delete("/issuers/{id}", problems=(409, 412, 428), status_code=204)
async def delete_issuer(here: Here, by: By, id: Id, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Trust its tokens no longer; connections that they opened close."""
    await here.control.issuers.delete(id, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.post("/issuers/{id}/refresh", Action.OPERATE, problems=(409,), response_model=IssuerView)
async def refresh_issuer(here: Here, id: Id) -> Any:
    """Fetch its keys now. What goes wrong is in `error`; the keys that are known hold on."""
    return IssuerView.of(await here.control.issuers.refresh(id))
