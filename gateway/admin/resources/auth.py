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
from gateway.control.login_codes import DEFAULT_S, LONGEST_S, SHORTEST_S
from gateway.control.roles import ALLOWED, LOGIN_ONLY, SCOPES, Action

operations = Operations("auth", ANY)


class Login(Taken):
    """A name and a password, or a code."""

    name: str | None = Field(None, min_length=1, max_length=64)
    password: Password | None = None
    code: str | None = Field(None, min_length=1, max_length=128)


class NewCode(Taken):
    """`user` null: oneself; the first administrator for who has only the keys of the data directory."""

    user: str | None = Field(None, min_length=1, max_length=64)
    lifetime_s: int = Field(int(DEFAULT_S), ge=int(SHORTEST_S), le=int(LONGEST_S))


class CodeView(Shown):
    """`code` logs `user` in once, until `expires_at`."""

    code: str
    user: str
    expires_at: Time


class Refresh(Taken):
    refresh_token: str = Field(min_length=1, max_length=8192)


class NewPassword(Taken):
    """`old_password` may be left out by who has logged in by a code."""

    old_password: Password | None = None
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
    """Exchange a name and a password, or a code, for tokens."""
    if body.code is not None and body.name is None and body.password is None:
        return _tokens(await here.control.sessions.login_by_code(body.code, by=by))
    if body.code is not None or body.name is None or body.password is None:
        raise Problem("invalid", errors=[{"pointer": "/", "detail": "needs name and password, or code alone"}])
    tokens = await here.control.sessions.login(body.name, body.password, by=by)
    here.node.first_login(body.name)
    return _tokens(tokens)


@operations.post("/auth/codes", scope="users", creates=True, secret=True, problems=(404,), response_model=CodeView)
async def create_login_code(here: Here, who: Who, by: By, body: NewCode) -> Any:
    """Make a code that logs in once: oneself elsewhere, or anybody for who holds the keys of the data directory
    (`gateway dashboard`)."""
    name = body.user or (who.id if who.type == "user" else None)
    if who.type != "cli" and name != who.id:
        raise Problem("conflict", "only who holds the keys of the node's data directory makes one for somebody else")
    code, user, ends_at = here.control.sessions.codes.make(name, body.lifetime_s)
    expires_at = moment(ends_at)
    await here.control.audit.record(by, "session.code", f"user:{user}", details={"expires_at": expires_at.isoformat()})
    return CodeView(code=code, user=user, expires_at=expires_at)


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
    """Change one's own password; all logins of that user end."""
    if who.type != "user":
        raise Problem("conflict", "only a user who has logged in has a password")
    if body.old_password is None and not here.control.sessions.by_code(who.session_id):
        raise Problem("invalid", errors=[{"pointer": "/old_password", "detail": "is missing"}])
    return UserView.of(await here.control.users.change_password(who.id, body.old_password, body.new_password, by=by))


@operations.get("/auth/scopes", response_model=Scopes)
async def get_scopes() -> Any:
    """What roles and scopes there are."""
    return Scopes(
        roles={role.value: sorted(actions) for role, actions in ALLOWED.items()},
        scopes=[ScopeView(name=name, login_only=name in LOGIN_ONLY) for name in SCOPES],
    )
