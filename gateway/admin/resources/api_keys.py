"""API keys: credentials of programs. A key is shown once, and can make neither keys nor users."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.resources.users import GivenRole
from gateway.admin.shapes import DryRun, GivenTime, MaybeTime, Shown, Taken, Time, seconds
from gateway.control.roles import Role

operations = Operations("api-keys", "api_keys")

Id = Annotated[str, Path(min_length=1, max_length=64)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Scopes = Annotated[list[str], Field(max_length=32)]


class ApiKeyView(Shown):
    id: str
    name: str
    role: Role
    scopes: list[str]
    enabled: bool
    created_at: Time
    created_by: str
    expires_at: MaybeTime
    last_used_at: MaybeTime
    version: int


class NewApiKey(Taken):
    """`scopes` is explicit: an empty list is none."""

    name: Name
    role: GivenRole
    scopes: Scopes
    expires_at: GivenTime | None = None


class ApiKeyChange(Taken):
    name: Name | None = None
    role: GivenRole | None = None
    scopes: Scopes | None = None
    enabled: bool | None = None
    expires_at: GivenTime | None = None


class ApiKeyCreated(Shown):
    """`secret` is the key itself; it is not shown again."""

    api_key: ApiKeyView
    secret: str


class Rotation(Taken):
    overlap_s: float = Field(0, ge=0, le=7 * 86_400, allow_inf_nan=False)


@operations.get("/api-keys", response_model=PageOf[ApiKeyView])
async def list_api_keys(
    here: Here,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The API keys, without the keys themselves."""
    page = await here.control.api_keys.list(cursor=cursor, limit=limit, sort=sort, q=q)
    return await stored_page(ApiKeyView, page, limit)


@operations.post("/api-keys", creates=True, secret=True, response_model=ApiKeyCreated)
async def create_api_key(here: Here, by: By, response: Response, body: NewApiKey, dry_run: DryRun = False) -> Any:
    """Make a key."""
    key, secret = await here.control.api_keys.create(
        body.name, role=body.role, scopes=body.scopes, expires_at=seconds(body.expires_at), by=by, dry_run=dry_run
    )
    response.headers["etag"] = etag(key.version)
    return ApiKeyCreated(api_key=ApiKeyView.of(key), secret=secret)


@operations.get("/api-keys/{id}", response_model=ApiKeyView)
async def get_api_key(here: Here, response: Response, id: Id) -> Any:
    """One key."""
    key = await here.control.api_keys.get(id)
    response.headers["etag"] = etag(key.version)
    return ApiKeyView.of(key)


@operations.patch("/api-keys/{id}", problems=(409, 412, 428), response_model=ApiKeyView)
async def change_api_key(
    here: Here,
    by: By,
    response: Response,
    id: Id,
    body: ApiKeyChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change what a key may do, or switch it off."""
    changes = body.model_dump(exclude_unset=True)
    if "expires_at" in changes:
        changes["expires_at"] = seconds(body.expires_at)
    changes = {name: value for name, value in changes.items() if value is not None or name == "expires_at"}
    key = await here.control.api_keys.update(id, changes, by=by, expect=expected(if_match), dry_run=dry_run)
    response.headers["etag"] = etag(key.version)
    return ApiKeyView.of(key)


@operations.delete("/api-keys/{id}", problems=(409, 412, 428), status_code=204)
async def delete_api_key(here: Here, by: By, id: Id, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Revoke a key for ever."""
    await here.control.api_keys.delete(id, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.post("/api-keys/{id}/rotate", problems=(409,), response_model=ApiKeyCreated)
async def rotate_api_key(here: Here, by: By, id: Id, body: Rotation) -> Any:
    """Make another secret for a key; the old one holds for `overlap_s` seconds more."""
    key, secret = await here.control.api_keys.rotate(id, by=by, overlap_s=body.overlap_s)
    return ApiKeyCreated(api_key=ApiKeyView.of(key), secret=secret)
