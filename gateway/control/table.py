"""Records at rest: a frozen dataclass a table, one column a field.

Lists and maps are JSON in their column, enumerations and flags what SQLite has for them. A table may have columns that
the record does not show (`hidden`): the digests of secrets.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

from gateway.control.paging import Listing, Page
from gateway.errors import NotFound, StaleVersion
from gateway.storage.database import Database

R = TypeVar("R")


class Table(Generic[R]):
    """How records of one class are kept. `noun` is what a person calls one."""

    def __init__(self, record: Callable[..., R], noun: str, listing: Listing) -> None:
        self.noun = noun
        self.listing = listing
        self.name = listing.table
        self.key = listing.key
        self._record = record
        hints = get_type_hints(record)
        self._fields = tuple(hints)
        self._readers = {name: _reader(hint) for name, hint in hints.items()}
        self._as_json = {name: _as_json(name, hint) for name, hint in hints.items()}

    def of(self, row: sqlite3.Row) -> R:
        return self._record(**{name: self._readers[name](row[name]) for name in self._fields})

    def find(self, connection: sqlite3.Connection, key: object) -> R | None:
        row = connection.execute(f"SELECT * FROM {self.name} WHERE {self.key} = ?", (key,)).fetchone()
        return None if row is None else self.of(row)

    def get(self, connection: sqlite3.Connection, key: object, expect: int | None = None) -> R:
        """Raises NotFound, or StaleVersion when its version is not the expected one."""
        record = self.find(connection, key)
        if record is None:
            raise NotFound(f"there is no {self.noun} {key!r}")
        version = getattr(record, "version", None)
        if expect is not None and version != expect:
            raise StaleVersion(f"{self.noun} {key!r} has changed: it has version {version}, not {expect}")
        return record

    def insert(self, connection: sqlite3.Connection, record: R, **hidden: object) -> R:
        values = {name: stored(getattr(record, name)) for name in self._fields} | hidden
        columns = ", ".join(values)
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {self.name} ({columns}) VALUES ({marks})", tuple(values.values()))
        return record

    def put(self, connection: sqlite3.Connection, record: R, **hidden: object) -> R:
        """Replace what stands under the record's key; hidden columns that are not named stay."""
        values = {name: stored(getattr(record, name)) for name in self._fields if name != self.key} | hidden
        columns = ", ".join(f"{name} = ?" for name in values)
        key = getattr(record, self.key)
        connection.execute(f"UPDATE {self.name} SET {columns} WHERE {self.key} = ?", (*values.values(), key))
        return record

    def delete(self, connection: sqlite3.Connection, key: object) -> None:
        connection.execute(f"DELETE FROM {self.name} WHERE {self.key} = ?", (key,))

    def page(
        self,
        connection: sqlite3.Connection,
        cursor: str | None,
        limit: int,
        sort: str,
        q: str | None = None,
        filters: Mapping[str, object] | None = None,
    ) -> Page[R]:
        rows, following = self.listing.rows(connection, cursor, limit, sort, q, filters or {})
        return Page(tuple(self.of(row) for row in rows), following)

    def json_lines(
        self, connection: sqlite3.Connection, names: Sequence[str], after: str, limit: int
    ) -> tuple[str, str]:
        """The next rows by their key as JSON lines, and the last one's key; no text when there are none.

        SQLite writes them, outside of the interpreter's lock: a thread that made objects of thousands of rows would
        hold up the event loop for as long as it is lent the lock at a time.
        """
        pairs = ", ".join(f"'{name}', {self._as_json[name]}" for name in names)
        text, last = connection.execute(
            "SELECT group_concat(line, char(10)), max(key) FROM ("
            f"SELECT {self.key} AS key, json_object({pairs}) AS line FROM {self.name} WHERE {self.key} > ? "
            f"ORDER BY {self.key} LIMIT ?)",
            (after, limit),
        ).fetchone()
        return text or "", last or after


class Readable(Generic[R]):
    """A resource whose records are those of one table. `ordered`: how a list is sorted that says nothing else."""

    ordered: ClassVar[str] = "-created_at"
    _database: Database
    _table: Table[R]

    async def get(self, key: str) -> R:
        """Raises NotFound."""
        return await self._database.read(lambda connection: self._table.get(connection, key))

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sort: str | None = None,
        q: str | None = None,
        **filters: object,
    ) -> Page[R]:
        """One page, by the orders and filters of the table's listing. Raises InvalidChange for others."""
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort or self.ordered, q, filters)
        )


def stored(value: object) -> Any:
    """A field's value as its column has it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple | list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def public(record: object) -> dict[str, object]:
    """A record as the audit and the API show it: plain values by name."""
    shown: dict[str, object] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, tuple):
            value = [public(item) if dataclasses.is_dataclass(item) else item for item in value]
        shown[field.name] = value
    return shown


def _as_json(name: str, hint: Any) -> str:
    """The SQL of a column's value within `json_object`."""
    if get_origin(hint) in (tuple, dict):
        return f"json({name})"
    if hint is bool:
        return f"json(CASE WHEN {name} THEN 'true' ELSE 'false' END)"
    return name


def _reader(hint: Any) -> Callable[[Any], Any]:
    """How a column becomes a value of this type."""
    origin = get_origin(hint)
    if origin is tuple:
        item = get_args(hint)[0]
        if isinstance(item, type) and issubclass(item, StrEnum):
            return lambda text: tuple(item(entry) for entry in json.loads(text))
        return lambda text: tuple(json.loads(text))
    if origin is dict:
        return json.loads
    if hint is bool:
        return bool
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return lambda value: value
