"""People who may log in: a role, explicit scopes, a password of which only a hash is kept.

No user has a default password. The first one is made with a generated password, which has to be changed (fault 100).
One enabled administrator with the scope `users` always stays, so that nobody locks everybody out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from gateway.control import validation
from gateway.control.audit import SYSTEM, Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, exactly, flag
from gateway.control.passwords import Passwords
from gateway.control.roles import SCOPES, Role
from gateway.control.table import Readable, Table, public
from gateway.errors import AlreadyExists, InvalidChange, LoginRefused

ADMINISTRATOR = "admin"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role
    scopes: tuple[str, ...]
    enabled: bool
    must_change_password: bool
    created_at: float
    updated_at: float
    last_login_at: float | None
    version: int


_LISTING = Listing(
    "users",
    "name",
    {"name": "name", "created_at": "created_at"},
    {"role": exactly("role"), "enabled": flag("enabled")},
    ("name", "role"),
)
_CHECKS: dict[str, Callable[[Any], object]] = {
    "role": validation.role,
    "scopes": lambda value: validation.scopes(value, "/scopes"),
    "enabled": lambda value: validation.flag(value, "/enabled"),
}


class Users(Readable[User]):
    """`changed` is called with the name of whoever has changed or gone, once that is on disk."""

    ordered = "name"

    def __init__(
        self, changes: Changes, wall: Callable[[], float], changed: Callable[[str, User | None], None]
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._wall = wall
        self._changed = changed
        self.passwords = Passwords()
        self._table = Table(User, "user", _LISTING)

    def load(self, connection: sqlite3.Connection) -> list[User]:
        return [self._table.of(row) for row in connection.execute("SELECT * FROM users")]

    async def create(
        self,
        name: str,
        password: str | None = None,
        *,
        role: Role,
        scopes: Sequence[str],
        must_change: bool | None = None,
        by: Actor,
        dry_run: bool = False,
    ) -> tuple[User, str | None]:
        """A user; without a password one is made and returned, shown this once. Raises AlreadyExists, InvalidChange."""
        validation.identifier(name, "/name")
        chosen = validation.role(role)
        allowed = validation.scopes(scopes, "/scopes")
        made = Passwords.generate() if password is None else None
        hashed = await self.passwords.hash(password if made is None else made)  # type: ignore[arg-type]

        def work(connection: sqlite3.Connection) -> Change[User]:
            if self._table.find(connection, name) is not None:
                raise AlreadyExists(f"there is a user {name!r} already")
            now = self._wall()
            must = made is not None if must_change is None else must_change
            user = User(name, chosen, allowed, True, must, now, now, None, 1)
            self._table.insert(connection, user, password=hashed)
            return Change(user, f"user:{name}", after=public(user), then=lambda: self._changed(name, user))

        return await self._changes.make(by, "user.create", work, dry_run=dry_run), made

    async def update(
        self,
        name: str,
        changes: Mapping[str, object],
        *,
        by: Actor,
        expect: int | None = None,
        dry_run: bool = False,
    ) -> User:
        """Change role, scopes or enabled; it holds for open sessions at once.

        Raises NotFound, StaleVersion, InvalidChange (nobody could manage users any more, too)."""
        validation.only(changes, _CHECKS)
        values: dict[str, Any] = {field: _CHECKS[field](value) for field, value in changes.items()}

        def work(connection: sqlite3.Connection) -> Change[User]:
            old = self._table.get(connection, name, expect)
            new = replace(old, **values, updated_at=self._wall(), version=old.version + 1)
            with self._someone_stays(connection):
                self._table.put(connection, new)
            return Change(
                new,
                f"user:{name}",
                before=public(old),
                after=public(new),
                then=lambda: self._changed(name, new),
            )

        return await self._changes.make(by, "user.update", work, dry_run=dry_run, reserve=True)

    async def delete(self, name: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> None:
        """Raises NotFound, StaleVersion, InvalidChange (nobody could manage users any more)."""

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._table.get(connection, name, expect)
            with self._someone_stays(connection):
                self._table.delete(connection, name)
            return Change(None, f"user:{name}", before=public(old), then=lambda: self._changed(name, None))

        await self._changes.make(by, "user.delete", work, dry_run=dry_run, reserve=True)

    async def set_password(
        self, name: str, password: str | None = None, *, must_change: bool | None = None, by: Actor
    ) -> str | None:
        """Give a user a new password and end its sessions; without one it is made and returned. Raises NotFound."""
        made = Passwords.generate() if password is None else None
        hashed = await self.passwords.hash(password if made is None else made)  # type: ignore[arg-type]
        must = made is not None if must_change is None else must_change
        await self._set(name, hashed, must, by, "user.set_password")
        return made

    async def change_password(self, name: str, old: str | None, new: str, *, by: Actor) -> User:
        """A user changes its own password; `old` None: it is known to be that user without.

        Raises LoginRefused when the old one is wrong, InvalidChange.
        """
        if old == new:
            raise InvalidChange("the new password is the old one", "/new_password")
        if old is not None and await self.verify(name, old) is None:
            raise LoginRefused("the old password is wrong")
        hashed = await self.passwords.hash(new)
        return await self._set(name, hashed, False, by, "user.change_password")

    async def _set(self, name: str, hashed: str, must_change: bool, by: Actor, action: str) -> User:
        def work(connection: sqlite3.Connection) -> Change[User]:
            old = self._table.get(connection, name)
            new = replace(old, must_change_password=must_change, updated_at=self._wall(), version=old.version + 1)
            self._table.put(connection, new, password=hashed)
            connection.execute("DELETE FROM sessions WHERE user = ?", (name,))

            def then() -> None:
                # Gone and back: whoever has a session of this user has none any more.
                self._changed(name, None)
                self._changed(name, new)

            return Change(new, f"user:{name}", details={"must_change_password": must_change}, then=then)

        return await self._changes.make(by, action, work, reserve=True)

    async def verify(self, name: str, password: str) -> User | None:
        """The enabled user with this name and password, or None; either takes as long."""

        def work(connection: sqlite3.Connection) -> tuple[User | None, str | None]:
            row = connection.execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
            return (None, None) if row is None else (self._table.of(row), row["password"])

        user, hashed = await self._database.read(work)
        fits = await self.passwords.verify(hashed, password)
        return user if fits and user is not None and user.enabled else None

    async def bootstrap(self) -> str | None:
        """Where there is no user yet, make the administrator and return its password, this once."""
        count = await self._database.read(lambda connection: _LISTING.count(connection, None, {}))
        if count:
            return None
        _, password = await self.create(ADMINISTRATOR, role=Role.ADMIN, scopes=SCOPES, by=SYSTEM)
        return password

    @classmethod
    @contextmanager
    def _someone_stays(cls, connection: sqlite3.Connection) -> Iterator[None]:
        """Raises InvalidChange when the change that is made within takes the last one who could undo it."""
        before = cls._is_managed(connection)
        yield
        if before and not cls._is_managed(connection):
            raise InvalidChange("nobody could manage users any more: one enabled admin with the scope users stays")

    @staticmethod
    def _is_managed(connection: sqlite3.Connection) -> bool:
        row = connection.execute(
            "SELECT 1 FROM users WHERE role = ? AND enabled = 1 "
            "AND EXISTS (SELECT 1 FROM json_each(scopes) WHERE value = 'users')",
            (Role.ADMIN.value,),
        ).fetchone()
        return row is not None
