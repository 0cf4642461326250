"""The people who may use the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field, Strict

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time
from gateway.control.roles import Role

operations = Operations("users", "users")

Name = Annotated[str, Path(min_length=1, max_length=64)]
Password = Annotated[str, Field(min_length=1, max_length=1024, json_schema_extra={"format": "password"})]
GivenRole = Annotated[Role, Strict(False)]
Scopes = Annotated[list[str], Field(max_length=32)]


class UserView(Shown):
    name: str
    role: Role
    scopes: list[str]
    enabled: bool
    must_change_password: bool
    created_at: Time
    updated_at: Time
    last_login_at: MaybeTime
    version: int


class NewUser(Taken):
    """`password` null: one is made up and shown once. `scopes` is explicit: an empty list is none."""

    name: str = Field(min_length=1, max_length=64)
    role: GivenRole
    scopes: Scopes
    password: Password | None = None


class UserChange(Taken):
    role: GivenRole | None = None
    scopes: Scopes | None = None
    enabled: bool | None = None


class UserCreated(Shown):
    """`password` where one was made up; it is not shown again."""

    user: UserView
    password: str | None


class PasswordReset(Taken):
    """`password` null: one is made up and shown once."""

    password: Password | None = None
    must_change: bool = True


class PasswordSet(Shown):
    password: str | None


@operations.get("/users", response_model=PageOf[UserView])
async def list_users(
    here: Here,
    role: Role | None = None,
    enabled: bool | None = None,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "name",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The users, by name."""
    filters: dict[str, Any] = {
        name: value for name, value in (("role", role), ("enabled", enabled)) if value is not None
    }
    return await stored_page(
        UserView, await here.control.users.list(cursor=cursor, limit=limit, sort=sort, q=q, **filters), limit
    )


@operations.post("/users", creates=True, secret=True, response_model=UserCreated)
async def create_user(here: Here, by: By, response: Response, body: NewUser, dry_run: DryRun = False) -> Any:
    """Let somebody in."""
    user, password = await here.control.users.create(
        body.name, body.password, role=body.role, scopes=body.scopes, by=by, dry_run=dry_run
    )
    response.headers["etag"] = etag(user.version)
    return UserCreated(user=UserView.of(user), password=password)


@operations.get("/users/{name}", response_model=UserView)
async def get_user(here: Here, response: Response, name: Name) -> Any:
    """One user."""
    user = await here.control.users.get(name)
    response.headers["etag"] = etag(user.version)
    return UserView.of(user)


@operations.patch("/users/{name}", problems=(409, 412, 428), response_model=UserView)
async def change_user(
    here: Here,
    by: By,
    response: Response,
    name: Name,
    body: UserChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change what a user may do. The last administrator stays one."""
    changes = body.model_dump(exclude_none=True)
    user = await here.control.users.update(name, changes, by=by, expect=expected(if_match), dry_run=dry_run)
    response.headers["etag"] = etag(user.version)
    return UserView.of(user)


@operations.delete("/users/{name}", problems=(409, 412, 428), status_code=204)
async def delete_user(here: Here, by: By, name: Name, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Remove a user; their logins end. The last administrator stays."""
    await here.control.users.delete(name, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.post("/users/{name}/password", response_model=PasswordSet)
async def reset_password(here: Here, by: By, name: Name, body: PasswordReset) -> Any:
    """Give a user another password; their logins end."""
    return PasswordSet(
        password=await here.control.users.set_password(name, body.password, by=by, must_change=body.must_change)
    )
