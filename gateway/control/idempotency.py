"""Requests that carry a key of their own: sending one again does nothing again. The first answer is kept for a day."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.control import validation
from gateway.errors import AlreadyExists, InvalidChange
from gateway.storage.database import Database

KEPT_S = 86_400.0
#: A request whose answer never came, because the node was killed, may be sent again after so long.
ABANDONED_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer that was given."""

    status: int
    headers: dict[str, str]
    body: bytes


class Idempotency:
    """Answers by caller and key."""

    def __init__(self, database: Database, wall: Callable[[], float]) -> None:
        self._database = database
        self._wall = wall

    async def begin(self, key: str, caller: str, digest: str) -> Stored | None:
        """The answer to a request that was sent before, or None: it is for the caller to do, then to `finish`.

        `digest` tells requests apart. Raises InvalidChange when the key was used for another one, AlreadyExists
        (`in_progress`) while the first is under way.
        """
        validation.text(key, "/idempotency-key", most=validation.MAX_TEXT, empty=False)

        def work(connection: sqlite3.Connection) -> Stored | None:
            now = self._wall()
            connection.execute(
                "DELETE FROM idempotency WHERE at < ? OR (status IS NULL AND at < ?)",
                (now - KEPT_S, now - ABANDONED_S),
            )
            row = connection.execute("SELECT * FROM idempotency WHERE caller = ? AND key = ?", (caller, key)).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, NULL, '{}', x'')", (caller, key, digest, now)
                )
                return None
            if row["digest"] != digest:
                raise InvalidChange("this key was used for another request", "/idempotency-key")
            if row["status"] is None:
                raise AlreadyExists("the same request is under way", reason="in_progress")
            return Stored(row["status"], json.loads(row["headers"]), row["body"])

        return await self._database.write(work)

    async def finish(self, key: str, caller: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE idempotency SET status = ?, headers = ?, body = ? WHERE caller = ? AND key = ?",
                (status, json.dumps(dict(headers)), body, caller, key),
            )
        )

    async def abandon(self, key: str, caller: str) -> None:
        """It was not done: it may be sent again."""
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM idempotency WHERE caller = ? AND key = ? AND status IS NULL", (caller, key)
            )
        )
