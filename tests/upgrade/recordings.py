"""Data directories of earlier versions, as tools/record_data.py has packed them."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Recording:
    """`data`: the directory of a node that was stopped in order; `settings`: every setting of its version, as TOML.
    `recorded`: what it was given; `at`: when it was stopped, Unix seconds."""

    data: Path
    settings: Path
    recorded: dict[str, Any]

    @property
    def at(self) -> float:
        return float(self.recorded["at"])

    @property
    def control(self) -> int:
        return int(self.recorded["control"])

    @property
    def spool(self) -> int:
        """0 where it had none."""
        return int(self.recorded["spool"])

    @property
    def backup(self) -> Path:
        """The one that it had made."""
        (found,) = (self.data / "backups").glob("*.tar")
        return found


def names() -> list[str]:
    """Oldest first."""
    found = [path.name.removesuffix(".tar.gz") for path in DIRECTORY.glob("*.tar.gz")]
    return sorted(found, key=lambda name: [int(part) for part in name.split("-")])


def unpacked(name: str, place: Path) -> Recording:
    with tarfile.open(DIRECTORY / f"{name}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    (place / "data").chmod(0o700)
    recorded = json.loads((place / "recorded.json").read_text())
    return Recording(place / "data", place / "settings.toml", recorded)


def rows(database: Path, like: Path | None = None) -> dict[str, list[tuple[object, ...]]]:
    """Everything in a database, by table; of another one's tables and columns, where that is named."""
    shape = columns(like or database)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)
            for table, names in shape.items()
        }


def columns(database: Path) -> dict[str, list[str]]:
    """The columns of each table, in quotes."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        return {
            table: [f'"{row[1]}"' for row in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute(found).fetchall()
        }


def version_of(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
