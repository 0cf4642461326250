"""Settings as they were: each text that was put in force, who did it, and when. Rows are only ever added."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from gateway.control import validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, Page
from gateway.control.table import Table
from gateway.errors import InvalidChange

MAX_CHARACTERS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Revision:
    """`text` is TOML, `digest` its SHA-256."""

    id: int
    at: float
    by: str
    text: str
    digest: str
    comment: str


class ConfigHistory:
    """The revisions of one node's settings."""

    def __init__(self, changes: Changes, wall: Callable[[], float]) -> None:
        self._changes = changes
        self._database = changes.database
        self._wall = wall
        self._table = Table(Revision, "revision", Listing("revisions", "id", {"id": "id"}, {}, ("by", "comment")))

    async def append(self, text: str, *, comment: str = "", by: Actor, dry_run: bool = False) -> Revision:
        """Raises InvalidChange when it is too long."""
        if len(text) > MAX_CHARACTERS:
            raise InvalidChange(f"settings have at most {MAX_CHARACTERS} characters")
        validation.text(comment, "/comment", most=validation.MAX_NOTES)

        def work(connection: sqlite3.Connection) -> Change[Revision]:
            digest = hashlib.sha256(text.encode()).hexdigest()
            row = connection.execute(
                "INSERT INTO revisions (at, by, text, digest, comment) VALUES (?, ?, ?, ?, ?) RETURNING *",
                (self._wall(), by.id, text, digest, comment),
            ).fetchone()
            revision = self._table.of(row)
            return Change(revision, f"config:{revision.id}", details={"digest": digest, "comment": comment})

        return await self._changes.make(by, "config.change", work, dry_run=dry_run)

    async def get(self, revision_id: int) -> Revision:
        """Raises NotFound."""
        return await self._database.read(lambda connection: self._table.get(connection, revision_id))

    async def latest(self) -> Revision | None:
        page = await self.list(limit=1)
        return page.items[0] if page.items else None

    async def list(self, *, cursor: str | None = None, limit: int = 50, sort: str = "-id") -> Page[Revision]:
        return await self._database.read(lambda connection: self._table.page(connection, cursor, limit, sort))
