"""Tokens that are refused before they expire: by subject, by key, by token id (fault 60: never by the token's text).

A revocation is forgotten when no token that it refuses can be alive any more.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.control import validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, Page, exactly
from gateway.control.registry import Registry
from gateway.control.table import Table, public
from gateway.errors import InvalidChange

RevocationKind = Literal["subject", "key", "token"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """`value`: a subject, key id or token id. `not_before`: which of a subject's tokens are accepted. `issuer`: whose
    key. `until`: when it can be forgotten."""

    id: str
    kind: str
    value: str
    issuer: str
    not_before: float | None
    created_at: float
    until: float | None
    reason: str
    created_by: str


_LISTING = Listing(
    "revocations",
    "id",
    {"created_at": "created_at", "id": "id", "value": "value"},
    {"kind": exactly("kind"), "value": exactly("value")},
    ("value", "reason"),
)


class Revocations:
    """`longest_s`: the longest that a token may live, in seconds. `own_issuer`: whose keys are meant by default."""

    SORTS = tuple(_LISTING.sorts)

    def __init__(
        self,
        changes: Changes,
        registry: Registry,
        wall: Callable[[], float],
        *,
        own_issuer: str,
        longest_s: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._wall = wall
        self._own_issuer = own_issuer
        self._longest_s = longest_s
        self._table = Table(Revocation, "revocation", _LISTING)

    def load(self, connection: sqlite3.Connection) -> list[Revocation]:
        return [self._table.of(row) for row in connection.execute("SELECT * FROM revocations")]

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, sort: str = "-created_at", **filters: object
    ) -> Page[Revocation]:
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort, None, filters)
        )

    async def revoke_subject(
        self, subject: str, *, not_before: float | None = None, reason: str = "", by: Actor, dry_run: bool = False
    ) -> Revocation:
        """Refuse the tokens of a subject that were issued before `not_before` (default: now)."""
        validation.identifier(subject, "/subject")
        return await self._make("subject", subject, "", not_before, reason, by, dry_run)

    async def revoke_key(
        self, key_id: str, *, issuer: str = "", reason: str = "", by: Actor, dry_run: bool = False
    ) -> Revocation:
        """Refuse every token that this key signed, for good. `issuer`: whose key; empty: this node's."""
        validation.text(key_id, "/key_id", empty=False)
        return await self._make("key", key_id, issuer or self._own_issuer, None, reason, by, dry_run)

    async def revoke_token(self, token_id: str, *, reason: str = "", by: Actor, dry_run: bool = False) -> Revocation:
        """Refuse one token, by its `jti`."""
        validation.text(token_id, "/token_id", empty=False)
        return await self._make("token", token_id, "", None, reason, by, dry_run)

    async def _make(
        self,
        kind: RevocationKind,
        value: str,
        issuer: str,
        not_before: float | None,
        reason: str,
        by: Actor,
        dry_run: bool,
    ) -> Revocation:
        validation.text(reason, "/reason")

        def work(connection: sqlite3.Connection) -> Change[Revocation]:
            made = self.revoke(connection, kind, value, issuer=issuer, not_before=not_before, reason=reason, by=by)
            return Change(made, f"{kind}:{value}", after=public(made), then=lambda: self.take_over(made))

        return await self._changes.make(by, f"{kind}.revoke", work, dry_run=dry_run, reserve=True)

    def revoke(
        self,
        connection: sqlite3.Connection,
        kind: RevocationKind,
        value: str,
        *,
        issuer: str = "",
        not_before: float | None = None,
        reason: str = "",
        by: Actor,
    ) -> Revocation:
        """Revoke within a transaction; `take_over` it once that is committed."""
        now = self._wall()
        standing = connection.execute(
            "SELECT * FROM revocations WHERE kind = ? AND value = ? AND issuer = ?", (kind, value, issuer)
        ).fetchone()
        if kind == "subject":
            not_before = now if not_before is None else validation.number(not_before, "/not_before", 0, 2**40)
            if standing is not None:
                not_before = max(not_before, standing["not_before"])
            connection.execute("UPDATE devices SET not_before = ? WHERE id = ?", (not_before, value))
        made = Revocation(
            id=standing["id"] if standing is not None else secrets.token_hex(8),
            kind=kind,
            value=value,
            issuer=issuer,
            not_before=not_before,
            created_at=now,
            # A key may sign a new token at any time; the others end with the last token that they can refuse.
            until=None if kind == "key" else max(now, not_before or 0.0) + self._longest_s(),
            reason=reason,
            created_by=by.id,
        )
        (self._table.insert if standing is None else self._table.put)(connection, made)
        return made

    async def lift(self, revocation_id: str, *, by: Actor, dry_run: bool = False) -> None:
        """Accept again what was refused. Raises NotFound; InvalidChange for a device that was deleted."""

        def work(connection: sqlite3.Connection) -> Change[None]:
            lifted = self._table.get(connection, revocation_id)
            if lifted.reason == "device deleted":
                raise InvalidChange("the tokens of a deleted device stay refused; issue a new one")
            self._table.delete(connection, revocation_id)
            if lifted.kind == "subject":
                connection.execute("UPDATE devices SET not_before = NULL WHERE id = ?", (lifted.value,))
            return Change(
                None, f"{lifted.kind}:{lifted.value}", before=public(lifted), then=lambda: self._forget(lifted)
            )

        await self._changes.make(by, "revocation.lift", work, dry_run=dry_run)

    def take_over(self, revocation: Revocation) -> None:
        """Tell the registry of a revocation that is on disk."""
        if revocation.kind == "subject":
            self._registry.subject_not_before(revocation.value, revocation.not_before)
        elif revocation.kind == "key":
            self._registry.key_revoked(revocation.issuer, revocation.value)
        else:
            self._registry.token_ends(revocation.value, revocation.created_at, None)

    def _forget(self, revocation: Revocation) -> None:
        if revocation.kind == "subject":
            self._registry.subject_not_before(revocation.value, None)
        elif revocation.kind == "key":
            self._registry.key_revoked(revocation.issuer, revocation.value, revoked=False)
        else:
            self._registry.token_forgiven(revocation.value)

    async def prune(self) -> None:
        """Forget what refuses nothing any more."""

        def work(connection: sqlite3.Connection) -> list[Revocation]:
            rows = connection.execute(
                "DELETE FROM revocations WHERE until IS NOT NULL AND until < ? RETURNING *", (self._wall(),)
            ).fetchall()
            return [self._table.of(row) for row in rows]

        def forget(gone: list[Revocation]) -> None:
            for revocation in gone:
                self._forget(revocation)

        await self._database.write(work, committed=forget)
