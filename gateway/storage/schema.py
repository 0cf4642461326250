"""What a database file has to be: its application id and its numbered migrations.

Migrations are files `0001_what.sql` in a package directory, applied in order, all that a file lacks in one transaction
together with the number they lead to (`PRAGMA user_version`): it is of the version that it had, or of this program's.
They only go forward: a file from a newer program is refused (fault 96). Once released, a migration is never edited.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from importlib.resources import files

from gateway.errors import StorageError

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """`number` is the version that the file has afterwards."""

    number: int
    name: str
    script: str


@dataclass(frozen=True, slots=True)
class Schema:
    """`application_id` marks a file as this kind of database (sqlite.org/fileformat, offset 68)."""

    application_id: int
    migrations: tuple[Migration, ...]

    @classmethod
    def of_package(cls, application_id: int, package: str, directory: str = "migrations") -> Schema:
        """The schema whose migrations are in a directory of a package.

        Raises:
            StorageError: a file is not named as a migration, or a number is missing.
        """
        found: list[Migration] = []
        for entry in sorted(files(package).joinpath(directory).iterdir(), key=lambda entry: entry.name):
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            found.append(Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
        if not found or [migration.number for migration in found] != list(range(1, len(found) + 1)):
            raise StorageError(f"the migrations of {package} are incomplete: install the program again")
        return cls(application_id, tuple(found))

    @property
    def version(self) -> int:
        return self.migrations[-1].number


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, schema: Schema) -> list[Migration]:
    """Bring the file to the schema's version; return what was applied. Where that fails, nothing was."""
    lacking = list(schema.migrations[version_of(connection) :])
    if not lacking:
        return []
    # One script, because `executescript` ends whatever transaction was begun before it.
    steps = "\n;".join(migration.script for migration in lacking)
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{steps}\n;PRAGMA user_version = {schema.version};\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return lacking
