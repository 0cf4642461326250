"""`gateway db`: the database of a node that is stopped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from gateway.cli.call import Change, Query, register
from gateway.cli.catalogue import application
from gateway.cli.data_directory import data_directory
from gateway.cli.table import lasting
from gateway.errors import StorageError

DAMAGED = 3


def attach(app: typer.Typer) -> None:
    group = application(help="The database of a node that is stopped.")
    for command in (check, migrate, vacuum):
        register(group, command)
    app.add_typer(group, name="db")


def check(call: Query) -> None:
    """Say whether the database is whole, and of which version; ends with 3 when it is damaged."""
    from gateway.storage.file import FileLock, damage_of, plain
    from gateway.storage.schema import version_of

    path = _database(call)
    schema = _schema()
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        damage = damage_of(path, schema)
        version = None
        if not damage:
            with plain(path, read_only=True) as connection:
                version = version_of(connection)
    finally:
        lock.release()
    call.show(
        {
            "database": str(path),
            "damage": damage or None,
            "version": version,
            "this program's version": schema.version,
            "bytes": path.stat().st_size,
        }
    )
    raise typer.Exit(DAMAGED if damage else 0)


def migrate(call: Change) -> None:
    """Bring the database to this program's version, after a copy. `gateway run` does the same when it starts."""
    from gateway.cli.offline import changed
    from gateway.storage.file import plain
    from gateway.storage.schema import version_of

    path = _database(call)
    with plain(path, read_only=True) as connection:
        before = version_of(connection)
    wanted = _schema().version
    call.confirm(f"Bring {path} from version {before} to {wanted}?")

    async def nothing(control: Any, by: Any) -> None:
        return None

    if not call.dry_run:
        changed(path.parent, nothing)
    call.done(f"{path} was of version {before} and is of {wanted}", {"before": before, "now": wanted})


def vacuum(call: Change) -> None:
    """Give the room that is free inside of the database back to the disk. It takes as much again meanwhile."""
    import time

    from gateway.storage.file import FileLock, connect

    path = _database(call)
    before = path.stat().st_size
    call.confirm(f"Rewrite {path} ({before} bytes)?")
    begun = time.monotonic()
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        if not call.dry_run:
            with closing(connect(path)) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        lock.release()
    now = path.stat().st_size
    taken = lasting(time.monotonic() - begun)
    call.done(f"{before} bytes are {now}, after {taken}", {"before": before, "now": now})


def _database(call: Query) -> Path:
    from gateway.control.archive import DATABASE

    path = data_directory(call.named_data) / DATABASE
    if not path.exists():
        raise StorageError(f"there is no database {path}; name its directory with --data")
    return path


def _schema() -> Any:
    from gateway.control.plane import schema

    return schema()
