"""One database file on disk: who may open it, whether it is ours, and what becomes of it when it is damaged.

Everything here runs before the first connection is opened, and under the lock. Afterwards the file must not be opened
by other means: closing any descriptor of it would drop SQLite's own locks.

* One process at a time (fault 75): a lock on `<name>.lock`, which the system releases when the process dies.
* The file is 0600, its directory 0700 (fault 76).
* A file that is no database of ours is refused; one that is damaged is moved to `<name>.corrupt-<time>`, with an
  alarm; one from a newer program is refused (fault 73). Nothing is ever replaced in silence.
* A new file appears whole, by one rename, so that an empty one is always damage.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import StorageError
from gateway.storage.faults import reason_of, storage_error
from gateway.storage.schema import Schema, migrate, version_of

#: What belongs to a database besides its file.
SIDES = ("", "-wal", "-shm")
#: How many copies from before a migration are kept.
KEPT_COPIES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found. `quarantined`: where a damaged file went. `migrated_from`: the version it had before."""

    created: bool = False
    quarantined: Path | None = None
    damage: str = ""
    migrated_from: int | None = None
    copy: Path | None = None


class FileLock:
    """Held from construction until `release`. Raises StorageError (`storage_locked`) when another process has it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            whose = f" (process {holder})" if holder else ""
            raise StorageError(
                f"{path.with_suffix('')} is in use by another process{whose}: one node for a data directory",
                reason="storage_locked",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_of(path: Path) -> FileLock:
    """The lock of a database file. Raises StorageError when another process has it, or none can be made."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FileLock(path.with_name(f"{path.name}.lock"))
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{error.filename or path}: {error.strerror or error}. The data directory must belong to the user that "
        f"runs the gateway (uid {os.getuid()}) and be writable.",
        reason="storage_failed",
    )


@contextmanager
def plain(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection for one purpose, outside the event loop."""
    with closing(connect(path, read_only=read_only)) as connection:
        yield connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )
    connection.row_factory = sqlite3.Row
    return connection


def prepare(path: Path, schema: Schema) -> Prepared:
    """See that `path` is a sound database of the schema's version, making it on first use. The lock is held.

    Raises:
        StorageError: the file is another program's, or a newer one's, or cannot be read or written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        quarantined, damage = None, ""
        if path.exists():
            damage = damage_of(path, schema)
            if damage:
                quarantined = quarantine(path)
        if not path.exists():
            _create(path, schema)
            return Prepared(created=True, quarantined=quarantined, damage=damage)
        path.chmod(0o600)
        return _migrated(path, schema)
    except OSError as error:
        raise _unusable(path, error) from error
    except sqlite3.Error as error:
        raise storage_error(error, path) or error from error


def damage_of(path: Path, schema: Schema) -> str:
    """What is wrong with the file; empty when nothing is.

    Raises:
        StorageError: it is sound but not ours, or from a newer program.
    """
    header = _header(path)
    if len(header) < 100:
        return f"it has {path.stat().st_size} bytes, too few for a database"
    if not header.startswith(b"SQLite format 3\x00"):
        return "it does not begin as a database does"
    application_id = int.from_bytes(header[68:72], "big")
    if application_id != schema.application_id:
        raise StorageError(
            f"{path} is a database of another program (application id {application_id:#x}); move it away",
            reason="storage_foreign",
        )
    try:
        with plain(path) as connection:
            version = version_of(connection)
            if version > schema.version:
                raise StorageError(
                    f"{path} was written by a newer version (schema {version}, this program knows {schema.version}): "
                    "install that version again, or restore a backup from before the upgrade",
                    reason="storage_newer",
                )
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if reason_of(error) != "storage_corrupt":
            raise
        return str(error)
    return "" if verdict == "ok" else str(verdict)


def quarantine(path: Path) -> Path:
    """Move a damaged file and what belongs to it out of the way; return where it went."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    away = path.with_name(f"{path.name}.corrupt-{stamp}")
    for side in SIDES:
        part = path.with_name(path.name + side)
        if part.exists():
            part.rename(away.with_name(away.name + side))
    sync_directory(path.parent)
    return away


def _create(path: Path, schema: Schema) -> None:
    fresh = path.with_name(f".{path.name}.new")
    # What a start that was killed left here was never in use; what lies beside a file that is gone belongs to no file.
    for stale in (fresh, path):
        for side in SIDES:
            stale.with_name(stale.name + side).unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with plain(fresh) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        migrate(connection, schema)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync_file(fresh)
    fresh.rename(path)
    sync_directory(path.parent)


def _migrated(path: Path, schema: Schema) -> Prepared:
    with plain(path) as connection:
        standing = version_of(connection)
        if standing == schema.version:
            return Prepared()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        copy = path.with_name(f"{path.name}.schema-{standing}-{stamp}")
        try:
            _copy_kept(connection, path, copy)
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection, schema)
        except (OSError, sqlite3.Error) as error:
            # The file is as it was, and the next start makes another one.
            copy.unlink(missing_ok=True)
            if _no_room(error):
                raise StorageError(
                    f"{path} cannot be brought from schema {standing} to {schema.version}: there is no room for a copy "
                    f"of it and as much again, {2 * path.stat().st_size >> 10} KiB. It is as it was: free space on the "
                    "volume and start again",
                    reason="storage_full",
                ) from error
            raise
    return Prepared(migrated_from=standing, copy=copy)


def _copy_kept(connection: sqlite3.Connection, path: Path, copy: Path) -> None:
    """Make the copy from before a migration. Of earlier ones, a few are kept: a start that is killed again and again
    must not fill the volume."""
    for unfinished in path.parent.glob(f".{path.name}.schema-*.new*"):
        unfinished.unlink()
    copy_into(connection, copy)
    copies = sorted(path.parent.glob(f"{path.name}.schema-*"), key=lambda each: each.name.rpartition("-")[2])
    for older in copies[:-KEPT_COPIES]:
        older.unlink()


def _no_room(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return reason_of(error) == "storage_full"
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def copy_into(connection: sqlite3.Connection, copy: Path) -> None:
    """Write a sound, compact copy of the database, as it stands at one moment, that outlives a power cut.

    Writers go on meanwhile. Raises sqlite3.Error or OSError; then there is no copy.
    """
    fresh = copy.with_name(f".{copy.name}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(fresh),))
        sync_file(fresh)
        fresh.rename(copy)
        sync_directory(copy.parent)
    finally:
        fresh.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)
