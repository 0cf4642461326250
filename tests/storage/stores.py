"""A small database for tests of the layer, and what can be done to its files."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from gateway.storage.database import Database
from gateway.storage.schema import Migration, Schema

FIRST = Migration(1, "0001_rows.sql", "CREATE TABLE rows (n INTEGER PRIMARY KEY, v BLOB NOT NULL);")
SECOND = Migration(2, "0002_marks.sql", "ALTER TABLE rows ADD COLUMN mark TEXT; CREATE INDEX marks ON rows (mark);")
SCHEMA = Schema(0x54657374, (FIRST,))
NEWER = Schema(0x54657374, (FIRST, SECOND))
PAYLOAD = bytes(range(200))


def insert(n: int, payload: bytes = PAYLOAD) -> Any:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO rows (n, v) VALUES (?, ?)", (n, payload))
        return n

    return work


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM rows ORDER BY n")]


def delete_all(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM rows")


class Alarms:
    """What stands and what was ever raised."""

    def __init__(self) -> None:
        self.standing: dict[str, str] = {}
        self.raised: list[str] = []

    def alarm(self, slug: str, text: str) -> None:
        self.standing[slug] = text
        self.raised.append(slug)

    def calm(self, slug: str) -> None:
        self.standing.pop(slug, None)


async def opened(path: Path, alarms: Alarms | None = None, schema: Schema = SCHEMA, **options: Any) -> Database:
    alarms = alarms or Alarms()
    return await Database.open(path, schema, alarm=alarms.alarm, calm=alarms.calm, **options)
