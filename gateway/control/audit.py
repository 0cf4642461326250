"""Who did what: rows that are only ever added, each chained to the one before it.

A row is written in the transaction of the change that it tells of, so there is neither without the other, and a change
that cannot be audited fails (fault 102). `digest` is the SHA-256 of the digest before it and of the row itself; a row
that was edited, removed or put in is found by `verify`. Rows beyond 90 days may be pruned from the old end; the digest
that the rest hangs on is kept.

No secret gets here: records hold none, and a detail with a telling name is masked.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.control.paging import Listing, Page, at_least, below, exactly
from gateway.control.table import Table
from gateway.storage.database import Database

GENESIS = "0" * 64
KEPT_S = 90 * 86_400
#: Rows that are read in one piece.
EXPORTED_AT_ONCE = 100
_MASKED = "***"
_TELLING = ("password", "secret", "token", "private")
#: Names that only sound like secrets.
_HARMLESS = ("token_id", "must_change_password")
_ANCHOR = "audit_anchor"
_SHOWN_CHARACTERS = 256
_SHOWN_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change. `type`: user, api_key, device, cli or system."""

    type: str
    id: str
    ip: str = ""
    request_id: str = ""


SYSTEM = Actor("system", "gateway")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`before`, `after`: digests of the object then; `diff`: what differs, as [old, new] by name, or details."""

    id: int
    at: float
    actor_type: str
    actor_id: str
    ip: str
    action: str
    object: str
    outcome: str
    reason: str
    request_id: str
    before: str | None
    after: str | None
    diff: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """`broken_at`: the first row that does not fit, `head`: the digest of the last row."""

    ok: bool
    entries: int
    broken_at: int | None = None
    why: str = ""
    head: str = GENESIS


def _action(value: str) -> tuple[str, tuple[object, ...]]:
    if value.endswith("."):
        return "substr(action, 1, ?) = ?", (len(value), value)
    return "action = ?", (value,)


_LISTING = Listing(
    "audit",
    "id",
    {"id": "id", "at": "at"},
    {
        "actor": exactly("actor_id"),
        "action": _action,
        "object": exactly("object"),
        "outcome": exactly("outcome"),
        "since": at_least("at"),
        "until": below("at"),
    },
    ("actor_id", "action", "object", "reason", "diff"),
)


class Audit:
    """The audit trail of one database."""

    SORTS = tuple(_LISTING.sorts)

    def __init__(self, database: Database, wall: Callable[[], float]) -> None:
        #: Told of each entry once it is on disk, in the loop; must not raise.
        self.listener: Callable[[AuditEntry], None] | None = None
        self._database = database
        self._wall = wall
        self._table = Table(AuditEntry, "audit entry", _LISTING)

    def add(
        self,
        connection: sqlite3.Connection,
        by: Actor,
        action: str,
        object: str,
        *,
        outcome: str = "ok",
        reason: str = "",
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Add a row within a transaction."""
        number, previous = self._last(connection)
        entry = AuditEntry(
            id=number + 1,
            at=float(self._wall()),
            actor_type=by.type,
            actor_id=by.id,
            ip=by.ip,
            action=action,
            object=object,
            outcome=outcome,
            reason=reason,
            request_id=by.request_id,
            before=None if before is None else _digest(before),
            after=None if after is None else _digest(after),
            diff=masked(details) if details is not None else difference(before, after),
            digest="",
        )
        digest = _chained(previous, entry)
        values = [getattr(entry, name) for name in AuditEntry.__dataclass_fields__]
        values[-2:] = [_canonical(entry.diff), digest]
        connection.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(values))})", values)
        return replace(entry, digest=digest)

    async def record(
        self,
        by: Actor,
        action: str,
        object: str,
        *,
        outcome: str = "ok",
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Tell of something that changed no record: a kick, an export, a refused login.

        Raises:
            StorageError: it cannot be recorded, so it must not be done.
        """

        def work(connection: sqlite3.Connection) -> AuditEntry:
            return self.add(connection, by, action, object, outcome=outcome, reason=reason, details=details or {})

        return await self._database.write(work, reserve=True, committed=self.tell)

    def tell(self, entry: AuditEntry) -> None:
        """Let the listener know of an entry that is on disk."""
        if self.listener is not None:
            self.listener(entry)

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, sort: str = "-id", q: str | None = None, **filters: object
    ) -> Page[AuditEntry]:
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort, q, filters)
        )

    async def count(self, *, q: str | None = None, **filters: object) -> int:
        return await self._database.read(lambda connection: _LISTING.count(connection, q, filters))

    async def export(self, **filters: object) -> AsyncIterator[AuditEntry]:
        """Every entry that fits, oldest first."""
        cursor: str | None = None
        while True:
            page = await self._database.read(
                lambda connection, after=cursor: self._table.page(
                    connection, after, EXPORTED_AT_ONCE, "id", None, filters
                )  # type: ignore[misc]
            )
            for entry in page.items:
                yield entry
            cursor = page.next
            if cursor is None:
                return

    async def verify(self) -> AuditCheck:
        """Whether every row is as it was written, and none is missing between the first and the last."""
        number, digest = await self._database.read(_anchor)
        entries = 0
        while True:
            rows = await self._database.read(lambda connection, after=number: _rows_after(connection, after))  # type: ignore[misc]
            if not rows:
                break
            for row in rows:
                entry = self._table.of(row)
                if entry.id != number + 1:
                    return AuditCheck(False, entries, number + 1, f"row {number + 1} is missing", digest)
                if _chained(digest, entry) != entry.digest:
                    return AuditCheck(False, entries, entry.id, f"row {entry.id} was changed", digest)
                number, digest, entries = entry.id, entry.digest, entries + 1
        written = await self._database.read(_written)
        if written > number:
            return AuditCheck(False, entries, number + 1, f"rows {number + 1} to {written} are missing", digest)
        return AuditCheck(True, entries, head=digest)

    async def prune(self, before: float) -> int:
        """Forget rows older than `before`; the chain goes on from the digest of the last of them."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT max(id) AS id FROM audit WHERE at < ?", (before,)).fetchone()
            last = connection.execute("SELECT id, digest FROM audit WHERE id = ?", (row["id"],)).fetchone()
            if last is None:
                return 0
            connection.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (_ANCHOR, json.dumps([last["id"], last["digest"]]))
            )
            return int(connection.execute("DELETE FROM audit WHERE id <= ?", (last["id"],)).rowcount)

        return await self._database.write(work, reserve=True)

    @staticmethod
    def _last(connection: sqlite3.Connection) -> tuple[int, str]:
        row = connection.execute("SELECT id, digest FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        return _anchor(connection) if row is None else (row["id"], row["digest"])


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """What differs, as [old, new] by name; secrets are masked."""
    old, new = before or {}, after or {}
    return {
        name: [_shown(name, old.get(name)), _shown(name, new.get(name))]
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    }


def masked(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details without what no log may hold."""
    return {name: _shown(name, value) for name, value in details.items()}


def _shown(name: str, value: Any) -> Any:
    if value is None or name in _HARMLESS:
        return value
    if any(word in name.lower() for word in _TELLING):
        return _MASKED
    if isinstance(value, Mapping):
        return masked(value)
    # To delete something must not take as much room as it had; the digest is of all of it.
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return value[:_SHOWN_CHARACTERS] + "…"
    if isinstance(value, list | tuple) and len(value) > _SHOWN_ENTRIES:
        return [*value[:_SHOWN_ENTRIES], f"and {len(value) - _SHOWN_ENTRIES} more"]
    return value


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _chained(previous: str, entry: AuditEntry) -> str:
    told = [getattr(entry, name) for name in AuditEntry.__dataclass_fields__ if name != "digest"]
    return hashlib.sha256(f"{previous}\n{_canonical(told)}".encode()).hexdigest()


def _anchor(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (_ANCHOR,)).fetchone()
    if row is None:
        return 0, GENESIS
    number, digest = json.loads(row["value"])
    return int(number), str(digest)


def _rows_after(connection: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT 1000", (number,)).fetchall()


def _written(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    return 0 if row is None else int(row["seq"])
