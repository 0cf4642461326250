"""Logging in and out, and who one is."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import Field

from gateway.admin.access import ANY, By, Operations, Stranger, Who
from gateway.admin.context import Here
from gateway.admin.problem import Problem
from gateway.admin.resources.users import Password, UserView
from gateway.admin.shapes import Shown, Taken, Time, moment
from gateway.control.roles import ALLOWED, LOGIN_ONLY, SCOPES, Action

operations = Operations("auth", ANY)


class Login(Taken):
    name: str = Field(min_length=1, max_length=64)
    password: Password


class Refresh(Taken):
    refresh_token: str = Field(min_length=1, max_length=8192)


class NewPassword(Taken):
    old_password: Password
    new_password: Password


class TokensView(Shown):
    """`access_token` is the bearer token; `refresh_token` gets the next pair, once."""

    access_token: str
    expires_at: Time
    refresh_token: str
    refresh_expires_at: Time
    user: UserView


class Me(Shown):
    """`type`: user, api_key, or cli for who holds the keys of the data directory."""

    type: str
    id: str
    role: str
    scopes: list[str]
    session_id: str | None
    must_change_password: bool


class ScopeView(Shown):
    """`login_only`: never for API keys."""

    name: str
    login_only: bool


class Scopes(Shown):
    roles: dict[str, list[str]]
    scopes: list[ScopeView]


def _tokens(tokens: Any) -> TokensView:
    return TokensView(
        access_token=tokens.access,
        expires_at=moment(tokens.expires_at),
        refresh_token=tokens.refresh,
        refresh_expires_at=moment(tokens.refresh_expires_at),
        user=UserView.of(tokens.user),
    )


@operations.open(
    "POST",
    "/auth/login",
    "How a person gets a credential; limited by address and by name.",
    problems=(400, 401, 413, 422, 507),
    response_model=TokensView,
)
async def log_in(here: Here, by: Stranger, body: Login) -> Any:
    """Exchange a name and a password for tokens."""
    tokens = await here.control.sessions.login(body.name, body.password, by=by)
    here.node.first_login(body.name)
    return _tokens(tokens)


@operations.open(
    "POST",
    "/auth/refresh",
    "The refresh token in the body is the credential.",
    problems=(400, 401, 413, 422, 507),
    response_model=TokensView,
)
async def refresh_login(here: Here, by: Stranger, body: Refresh) -> Any:
    """Exchange a refresh token for new tokens; it holds once, and a second use ends the session."""
    return _tokens(await here.control.sessions.refresh(body.refresh_token, by=by))


@operations.post("/auth/logout", Action.READ, before_password=True, status_code=204)
async def log_out(here: Here, who: Who, by: By) -> Response:
    """End this login. Nothing happens to an API key."""
    if who.session_id is not None:
        await here.control.sessions.logout(who.session_id, by=by)
    return Response(status_code=204)


@operations.get("/auth/me", before_password=True, response_model=Me)
async def get_me(who: Who) -> Any:
    """Who the credential belongs to, and what it allows."""
    return Me(
        type=who.type,
        id=who.id,
        role=who.role,
        scopes=sorted(who.scopes),
        session_id=who.session_id,
        must_change_password=who.must_change_password,
    )


@operations.post("/auth/password", Action.READ, before_password=True, problems=(409,), response_model=UserView)
async def change_password(here: Here, who: Who, by: By, body: NewPassword) -> Any:
    """Change one's own password."""
    if who.type != "user":
        raise Problem("conflict", "only a user who has logged in has a password")
    return UserView.of(await here.control.users.change_password(who.id, body.old_password, body.new_password, by=by))


@operations.get("/auth/scopes", response_model=Scopes)
async def get_scopes() -> Any:
    """What roles and scopes there are."""
    return Scopes(
        roles={role.value: sorted(actions) for role, actions in ALLOWED.items()},
        scopes=[ScopeView(name=name, login_only=name in LOGIN_ONLY) for name in SCOPES],
    )
