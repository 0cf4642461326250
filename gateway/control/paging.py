"""Lists a page at a time: filtered, sorted and cut in SQL, so that a page costs the same whatever the table holds.

A page goes on behind the last row of the one before it, by that row's sort key and id. So rows that come or go
meanwhile make nothing appear twice and nothing disappear that stood all the time.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.errors import InvalidChange

R = TypeVar("R")
S = TypeVar("S")

MAX_LIMIT = 1000
#: A condition with one question mark for each value that the filter's value is turned into.
Filter = Callable[[Any], tuple[str, tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """`next`: the cursor of the page after this one, None at the end."""

    items: tuple[R, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """How one table can be listed. `sorts`: SQL by the name of each order, `filters`: by the name of each filter,
    `searched`: the columns that `q` looks into, `key`: the column that is unique."""

    table: str
    key: str
    sorts: Mapping[str, str]
    filters: Mapping[str, Filter]
    searched: tuple[str, ...] = ()

    def count(self, connection: sqlite3.Connection, q: str | None, filters: Mapping[str, object]) -> int:
        where, values = self._where(q, filters)
        (count,) = connection.execute(f"SELECT count(*) FROM {self.table}{_clause(where)}", values).fetchone()
        return int(count)

    def rows(
        self,
        connection: sqlite3.Connection,
        cursor: str | None,
        limit: int,
        sort: str,
        q: str | None,
        filters: Mapping[str, object],
    ) -> tuple[list[sqlite3.Row], str | None]:
        """One page of rows and the cursor of the next. Raises InvalidChange for what cannot be asked."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidChange(f"limit is from 1 to {MAX_LIMIT}", "/limit")
        descending, name = sort.startswith("-"), sort.removeprefix("-")
        expression = self.sorts.get(name)
        if expression is None:
            raise InvalidChange(f"sort is one of {', '.join(self.sorts)}; with - in front it is reversed", "/sort")
        where, values = self._where(q, filters)
        if cursor is not None:
            where.append(f"({expression}, {self.key}) {'<' if descending else '>'} (?, ?)")
            values.extend(_read_cursor(cursor, sort))
        direction = " DESC" if descending else ""
        rows = connection.execute(
            f"SELECT *, {expression} AS sort_key FROM {self.table}{_clause(where)} "
            f"ORDER BY {expression}{direction}, {self.key}{direction} LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
        if len(rows) <= limit:
            return rows, None
        rows.pop()
        return rows, _cursor(sort, rows[-1]["sort_key"], rows[-1][self.key])

    def _where(self, q: str | None, filters: Mapping[str, object]) -> tuple[list[str], list[object]]:
        where: list[str] = []
        values: list[object] = []
        for name, value in filters.items():
            if value is None:
                continue
            make = self.filters.get(name)
            if make is None:
                raise InvalidChange(f"there is no filter {name!r}; there is {', '.join(self.filters)}", f"/{name}")
            condition, parameters = make(value)
            where.append(condition)
            values.extend(parameters)
        if q:
            text = " || ' ' || ".join(self.searched)
            where.append(f"instr(lower({text}), ?) > 0")
            values.append(q.lower())
        return where, values


def exactly(column: str) -> Filter:
    return lambda value: (f"{column} = ?", (value,))


def flag(column: str) -> Filter:
    return lambda value: (f"{column} = ?", (int(bool(value)),))


def at_least(expression: str) -> Filter:
    return lambda value: (f"{expression} >= ?", (value,))


def below(expression: str) -> Filter:
    return lambda value: (f"{expression} < ?", (value,))


def _clause(where: list[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""


def _cursor(sort: str, value: object, key: object) -> str:
    return urlsafe_b64encode(json.dumps([sort, value, key], separators=(",", ":")).encode()).rstrip(b"=").decode()


def _read_cursor(cursor: str, sort: str) -> tuple[object, object]:
    try:
        made_for, value, key = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError):
        made_for, value, key = None, None, None
    if made_for != sort or not all(isinstance(part, str | int | float) for part in (value, key)):
        raise InvalidChange("this cursor is of no such list; begin without one", "/cursor")
    return value, key
