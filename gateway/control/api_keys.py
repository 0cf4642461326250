"""Keys for programs: `gk_<id>_<secret>`, shown once, with a role and explicit scopes.

A key never makes keys or users, whatever its scopes say. Rotation gives a new secret; the old one may work a while
longer. Keys are checked in memory: nothing waits for the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.control import bearer, validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, exactly, flag
from gateway.control.roles import LOGIN_ONLY, Role
from gateway.control.table import Readable, Table, public
from gateway.errors import NotAllowed

PREFIX = "gk"
MAX_OVERLAP_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    role: Role
    scopes: tuple[str, ...]
    enabled: bool
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None
    version: int


@dataclass(frozen=True, slots=True)
class _Secrets:
    current: bytes
    previous: bytes | None
    previous_until: float


_LISTING = Listing(
    "api_keys",
    "id",
    {"id": "id", "created_at": "created_at", "name": "name"},
    {"role": exactly("role"), "enabled": flag("enabled")},
    ("id", "name", "created_by"),
)


def _expiry(value: object) -> float | None:
    return None if value is None else validation.number(value, "/expires_at", 1, 2**40)


_CHECKS: dict[str, Callable[[Any], object]] = {
    "name": lambda value: validation.text(value, "/name", empty=False),
    "role": validation.role,
    "scopes": lambda value: validation.scopes(value, "/scopes", LOGIN_ONLY),
    "enabled": lambda value: validation.flag(value, "/enabled"),
    "expires_at": _expiry,
}


class ApiKeys(Readable[ApiKey]):
    """The API keys of one control plane."""

    def __init__(self, changes: Changes, wall: Callable[[], float]) -> None:
        self._changes = changes
        self._database = changes.database
        self._wall = wall
        self._table = Table(ApiKey, "API key", _LISTING)
        self._keys: dict[str, tuple[ApiKey, _Secrets]] = {}
        self._used: dict[str, float] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute("SELECT * FROM api_keys"):
            self._keys[row["id"]] = (self._table.of(row), _secrets(row))

    async def create(
        self,
        name: str,
        *,
        role: Role,
        scopes: Sequence[str],
        expires_at: float | None = None,
        by: Actor,
        dry_run: bool = False,
    ) -> tuple[ApiKey, str]:
        """A key and its text, shown this once. Raises InvalidChange, NotAllowed (a key asks)."""
        _by_a_person(by)
        asked = {"name": name, "role": role, "scopes": scopes, "enabled": True, "expires_at": expires_at}
        values: dict[str, Any] = {field: _CHECKS[field](value) for field, value in asked.items()}
        made = bearer.new(PREFIX)

        def work(connection: sqlite3.Connection) -> Change[ApiKey]:
            key = ApiKey(id=made.id, **values, created_at=self._wall(), created_by=by.id, last_used_at=None, version=1)
            self._table.insert(connection, key, secret=made.digest)
            secrets = _Secrets(made.digest, None, 0.0)
            return Change(key, f"api_key:{made.id}", after=public(key), then=lambda: self._take_over(key, secrets))

        return await self._changes.make(by, "api_key.create", work, dry_run=dry_run), made.text

    async def update(
        self,
        key_id: str,
        changes: Mapping[str, object],
        *,
        by: Actor,
        expect: int | None = None,
        dry_run: bool = False,
    ) -> ApiKey:
        """Raises NotFound, StaleVersion, InvalidChange, NotAllowed."""
        _by_a_person(by)
        validation.only(changes, _CHECKS)
        values: dict[str, Any] = {field: _CHECKS[field](value) for field, value in changes.items()}

        def work(connection: sqlite3.Connection) -> Change[ApiKey]:
            old = self._table.get(connection, key_id, expect)
            new = replace(old, **values, version=old.version + 1)
            self._table.put(connection, new)
            return Change(
                new,
                f"api_key:{key_id}",
                before=public(old),
                after=public(new),
                then=lambda: self._take_over(new, self._keys[key_id][1]),
            )

        return await self._changes.make(by, "api_key.update", work, dry_run=dry_run, reserve=True)

    async def rotate(
        self, key_id: str, *, overlap_s: float = 0.0, by: Actor, dry_run: bool = False
    ) -> tuple[ApiKey, str]:
        """A new secret; the old one works for `overlap_s` seconds more. Raises NotFound, NotAllowed, InvalidChange."""
        _by_a_person(by)
        validation.number(overlap_s, "/overlap_s", 0, MAX_OVERLAP_S)
        made = bearer.new(PREFIX, key_id)

        def work(connection: sqlite3.Connection) -> Change[ApiKey]:
            old = self._table.get(connection, key_id)
            row = connection.execute("SELECT secret FROM api_keys WHERE id = ?", (key_id,)).fetchone()
            new = replace(old, version=old.version + 1)
            secrets = _Secrets(made.digest, row["secret"] if overlap_s else None, self._wall() + overlap_s)
            self._table.put(
                connection,
                new,
                secret=secrets.current,
                previous_secret=secrets.previous,
                previous_until=secrets.previous_until,
            )
            return Change(
                new,
                f"api_key:{key_id}",
                details={"overlap_s": overlap_s},
                then=lambda: self._take_over(new, secrets),
            )

        return await self._changes.make(by, "api_key.rotate", work, dry_run=dry_run), made.text

    async def delete(self, key_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> None:
        """Raises NotFound, StaleVersion, NotAllowed."""
        _by_a_person(by)

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._table.get(connection, key_id, expect)
            self._table.delete(connection, key_id)
            return Change(None, f"api_key:{key_id}", before=public(old), then=lambda: self._gone(key_id))

        await self._changes.make(by, "api_key.delete", work, dry_run=dry_run, reserve=True)

    def authenticate(self, text: str) -> ApiKey | None:
        """The key with this text, if it may be used now."""
        parts = bearer.read(PREFIX, text)
        key_id, secret = parts or ("", "")
        key, secrets = self._keys.get(key_id, (None, _Secrets(bearer.NOBODY, None, 0.0)))
        now = self._wall()
        previous = secrets.previous if secrets.previous_until > now else None
        fits = bearer.matches(secret, secrets.current) | bearer.matches(secret, previous)
        if key is None or not fits or not key.enabled or (key.expires_at is not None and key.expires_at <= now):
            return None
        self._used[key_id] = now
        return key

    async def write_used(self) -> None:
        """Put on disk when each key was used last."""
        if self._used:
            used, self._used = self._used, {}
            await self._database.write(
                lambda connection: connection.executemany(
                    "UPDATE api_keys SET last_used_at = ? WHERE id = ?", [(at, key_id) for key_id, at in used.items()]
                )
            )

    def _take_over(self, key: ApiKey, secrets: _Secrets) -> None:
        self._keys[key.id] = (key, secrets)

    def _gone(self, key_id: str) -> None:
        self._keys.pop(key_id, None)
        self._used.pop(key_id, None)


def _by_a_person(by: Actor) -> None:
    if by.type == "api_key":
        raise NotAllowed("a key can make and change no keys: log in")


def _secrets(row: sqlite3.Row) -> _Secrets:
    return _Secrets(row["secret"], row["previous_secret"], row["previous_until"] or 0.0)
