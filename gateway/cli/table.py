"""Documents of the admin API on standard output: as a table or a list of fields for people, as JSON for programs.

What devices and users have chosen is shown with its control characters escaped (fault 101). Must not know: where
documents come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import typer

Style = Literal["table", "wide", "json", "jsonl"]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """`key` is the name of a field, or gives the value of a document; `wide`: left out of the narrow table."""

    title: str
    key: str | Callable[[Document], Any]
    wide: bool = False

    def cell(self, document: Document) -> str:
        if callable(self.key):
            return shown(self.key(document))
        return shown(document.get(self.key), self.key)


def listing(documents: Iterable[Document], columns: Sequence[Column], style: Style) -> int:
    """Print a list and return how long it was. JSON lines go out as they come, a table when its widths are known."""
    count = 0
    if style == "jsonl":
        for document in documents:
            count += 1
            typer.echo(as_json(document))
        return count
    found = list(documents)
    if style == "json":
        typer.echo(as_json(found))
        return len(found)
    columns = [column for column in columns if style == "wide" or not column.wide]
    rows = [[column.title for column in columns]]
    rows += [[column.cell(document) for column in columns] for document in found]
    rows_out(rows)
    return len(found)


def rows_out(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fields(document: Document, style: Style) -> None:
    """Print one document, a field a line."""
    if style in ("json", "jsonl"):
        typer.echo(as_json(document))
        return
    flat = list(_flat(document))
    width = max((len(name) for name, _ in flat), default=0)
    for name, value in flat:
        typer.echo(f"{name.replace('_', ' '):<{width}}  {shown(value, name)}".rstrip())


def as_json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


def shown(value: Any, name: str = "") -> str:
    """A value as a person reads it; `name` is that of its field, whose ending says what it counts."""
    if value is None or value in ("", [], (), {}):
        return "-"
    match value:
        case bool():
            return "yes" if value else "no"
        case str() if name.endswith(("_at", "not_before", "not_after", "since")) or name == "at":
            return _moment(value)
        case int() | float() if name.endswith("_s"):
            return lasting(value)
        case float():
            return f"{value:g}"
        case dict():
            return " ".join(f"{key}={shown(item)}" for key, item in value.items())
        case list() | tuple():
            return ",".join(map(shown, value))
    return printable(str(value))


def printable(text: str) -> str:
    """The text with what a terminal would obey, and line ends, as escapes."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def lasting(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 m 5 s`, `2 h 4 m`, `3 d 1 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {smaller}"
    return f"{whole} s"


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return printable(text)


def _flat(document: Document, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
