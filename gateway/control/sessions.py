"""Logins: an access token of 15 minutes and a refresh token that works once.

A refresh token gives the next pair. One that was used before has been stolen or copied: its session ends. A change of
a user's role, scopes or state holds for the next request, whatever an access token says; it only says who.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.control import bearer
from gateway.control.access_rules import AccessRules
from gateway.control.attempts import Attempts
from gateway.control.audit import Actor, Audit
from gateway.control.changes import Change, Changes
from gateway.control.identity import Identity
from gateway.control.login_codes import LoginCodes
from gateway.control.paging import Listing, Page, exactly
from gateway.control.table import Table, public
from gateway.control.users import User, Users
from gateway.errors import LoginRefused, NotFound, TokenError
from gateway.policy.principal import Kind
from gateway.policy.tokens import TokenVerifier

TOKEN_TYPE = "gw-admin+jwt"
PREFIX = "gr"
ACCESS_S = 15 * 60.0
#: A session ends when it was not refreshed for so long, and in any case after `SESSION_S`.
IDLE_S = 7 * 86_400.0
SESSION_S = 30 * 86_400.0
REFUSED = "name or password is wrong, or the login has ended"
REFUSED_CODE = "this code does not hold, or not any more; gateway dashboard makes another"


@dataclass(frozen=True, slots=True)
class Session:
    """`expires_at`: when its refresh token ends. `by_code`: it began with a code, so nobody has to know a password."""

    id: str
    user: str
    created_at: float
    refreshed_at: float
    expires_at: float
    ip: str
    by_code: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives."""

    expires_at: float
    refresh_expires_at: float
    user: User
    access: str = field(repr=False)
    refresh: str = field(repr=False)


_LISTING = Listing(
    "sessions", "id", {"created_at": "created_at", "id": "id"}, {"user": exactly("user")}, ("user", "ip")
)


class Sessions:
    """The logins of one control plane."""

    def __init__(
        self,
        changes: Changes,
        audit: Audit,
        users: Users,
        identity: Identity,
        attempts: Attempts,
        rules: Callable[[], AccessRules],
        wall: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._audit = audit
        self._users = users
        self._identity = identity
        self._attempts = attempts
        self._rules = rules
        self._wall = wall
        self._table = Table(Session, "session", _LISTING)
        self._alive: dict[str, Session] = {}
        self._known: dict[str, User] = {}
        self.codes = LoginCodes(lambda: self._known.values(), wall)  # noqa: PLW0108  (`load` puts another there)

    def load(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute("SELECT * FROM sessions WHERE expires_at > ?", (self._wall(),)):
            self._alive[row["id"]] = self._table.of(row)
        self._known = {user.name: user for user in self._users.load(connection)}

    def user_changed(self, name: str, user: User | None) -> None:
        """Told by `Users`: without a user there are no sessions."""
        if user is not None:
            self._known[name] = user
            return
        self._known.pop(name, None)
        self._alive = {key: session for key, session in self._alive.items() if session.user != name}

    async def login(self, name: str, password: str, *, by: Actor) -> Tokens:
        """Raises LoginRefused, TooManyAttempts; a refusal is audited."""
        keys = (f"ip:{by.ip}" if by.ip else "", f"user:{name}")
        self._attempts.check(*keys)
        user = await self._users.verify(name, password)
        if user is None:
            self._attempts.failed(*keys)
            await self._audit.record(
                by, "session.login", f"user:{name[:64]}", outcome="refused", reason="login_refused"
            )
            raise LoginRefused(REFUSED)
        self._attempts.succeeded(f"user:{name}")
        return await self._begin(name, by)

    async def login_by_code(self, code: str, *, by: Actor) -> Tokens:
        """Log in whom a code is for; it holds once. Raises LoginRefused, TooManyAttempts; a refusal is audited."""
        key = f"ip:{by.ip}" if by.ip else ""
        self._attempts.check(key)
        name = self.codes.take(code)
        if name is None:
            self._attempts.failed(key)
            await self._audit.record(by, "session.login", "code", outcome="refused", reason="login_refused")
            raise LoginRefused(REFUSED_CODE)
        return await self._begin(name, by, by_code=True)

    async def _begin(self, name: str, by: Actor, *, by_code: bool = False) -> Tokens:
        made = bearer.new(PREFIX)
        now = self._wall()
        session = Session(made.id, name, now, now, now + IDLE_S, by.ip, by_code)
        actor = Actor("user", name, by.ip, by.request_id)

        def work(connection: sqlite3.Connection) -> Change[None]:
            if connection.execute("SELECT 1 FROM users WHERE name = ? AND enabled = 1", (name,)).fetchone() is None:
                raise LoginRefused(REFUSED)
            self._table.insert(connection, session, secret=made.digest)
            connection.execute("UPDATE users SET last_login_at = ? WHERE name = ?", (now, name))
            details = {"session": session.id, **({"by": "code"} if by_code else {})}
            return Change(None, f"user:{name}", details=details, then=lambda: self._take_over(session))

        await self._changes.make(actor, "session.login", work, reserve=True)
        return self._tokens(session, made.text)

    async def refresh(self, refresh_token: str, *, by: Actor) -> Tokens:
        """The next pair of tokens. Raises LoginRefused, TooManyAttempts."""
        key = f"ip:{by.ip}" if by.ip else ""
        self._attempts.check(key)
        parts = bearer.read(PREFIX, refresh_token)
        made = bearer.new(PREFIX, parts[0] if parts else None)

        def work(connection: sqlite3.Connection) -> Change[Session | None]:
            row = None
            if parts is not None:
                row = connection.execute("SELECT * FROM sessions WHERE id = ?", (parts[0],)).fetchone()
            known = bearer.matches(parts[1] if parts else "", None if row is None else row["secret"])
            if parts is None or row is None:
                raise LoginRefused(REFUSED)
            old = self._table.of(row)
            if not known:
                if not bearer.matches(parts[1], row["previous_secret"]):
                    raise LoginRefused(REFUSED)
                # Used a second time: one of the two who have it should not. Neither goes on.
                self._table.delete(connection, old.id)
                details = {"session": old.id, "why": "refresh token used twice"}
                return Change(None, f"user:{old.user}", details=details, then=lambda: self._gone(old.id))
            now = self._wall()
            user = connection.execute("SELECT enabled FROM users WHERE name = ?", (old.user,)).fetchone()
            if old.expires_at <= now or user is None or not user["enabled"]:
                raise LoginRefused(REFUSED)
            ends_at = min(now + IDLE_S, old.created_at + SESSION_S)
            new = replace(old, refreshed_at=now, expires_at=ends_at, ip=by.ip or old.ip)
            self._table.put(connection, new, secret=made.digest, previous_secret=row["secret"])
            details = {"session": old.id}
            return Change(new, f"user:{old.user}", details=details, then=lambda: self._take_over(new))

        try:
            session = await self._changes.make(by, "session.refresh", work, reserve=True)
        except LoginRefused:
            self._attempts.failed(key)
            raise
        if session is None:
            raise LoginRefused(REFUSED)
        return self._tokens(session, made.text)

    async def end(self, session_id: str, *, by: Actor, dry_run: bool = False) -> None:
        """Raises NotFound."""

        def work(connection: sqlite3.Connection) -> Change[None]:
            session = self._table.get(connection, session_id)
            self._table.delete(connection, session_id)
            return Change(None, f"user:{session.user}", before=public(session), then=lambda: self._gone(session_id))

        await self._changes.make(by, "session.end", work, dry_run=dry_run, reserve=True)

    async def logout(self, session_id: str, *, by: Actor) -> None:
        """End one's own session; one that has ended already is no error."""
        try:
            await self.end(session_id, by=by)
        except NotFound:
            return

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, sort: str = "-created_at", user: str | None = None
    ) -> Page[Session]:
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort, None, {"user": user})
        )

    def authenticate(self, access_token: str) -> tuple[User, str] | None:
        """Whose access token it is and of which session, if both stand; asks no disk."""
        rules = self._rules()
        verifier = TokenVerifier(
            self._identity.verification_keys(),
            audience=rules.audience,
            leeway=0.0,
            max_lifetime=ACCESS_S,
            token_type=TOKEN_TYPE,
        )
        try:
            principal = verifier.verify(access_token, self._wall())
        except TokenError:
            return None
        user = self.standing(principal.subject, principal.token_id)
        return None if user is None else (user, principal.token_id)

    def standing(self, name: str, session_id: str) -> User | None:
        """The user of a session, while both stand."""
        session = self._alive.get(session_id)
        user = self._known.get(name)
        if session is None or user is None or session.user != user.name or not user.enabled:
            return None
        return _as_seen(user, session)

    def by_code(self, session_id: str | None) -> bool:
        """Whether that login began with a code."""
        session = self._alive.get(session_id or "")
        return session is not None and session.by_code

    async def prune(self) -> None:
        """Forget sessions that have ended."""
        now = self._wall()
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,)).rowcount
        )
        self._alive = {key: session for key, session in self._alive.items() if session.expires_at > now}

    def _tokens(self, session: Session, refresh: str) -> Tokens:
        now = self._wall()
        access = self._identity.mint(
            session.user,
            Kind.ADMIN,
            (),
            (),
            ACCESS_S,
            now,
            audience=self._rules().audience,
            token_id=session.id,
            token_type=TOKEN_TYPE,
        )
        expires_at = float(int(now) + int(ACCESS_S))
        return Tokens(expires_at, session.expires_at, _as_seen(self._known[session.user], session), access, refresh)

    def _take_over(self, session: Session) -> None:
        self._alive[session.id] = session

    def _gone(self, session_id: str) -> None:
        self._alive.pop(session_id, None)


def _as_seen(user: User, session: Session) -> User:
    """A user within a login: the password that a code has stood in for need not be changed first."""
    return replace(user, must_change_password=False) if session.by_code else user
