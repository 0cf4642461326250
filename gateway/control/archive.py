"""What a backup is as a file, how it is checked, and how it takes the place of what is in a data directory.

A tar of `manifest.json` (its format, and the digests of the others), `gateway.db`, `identity/` and `settings.toml`. A
restore unpacks it beside what is there, checks all of it, and only then lets it take its place (`restoring`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gateway.control.identity import locked
from gateway.control.restoring import IDENTITY, MOVES, SCRATCH, finish
from gateway.errors import StorageError
from gateway.storage.file import FileLock, connect, damage_of, sync_directory
from gateway.storage.schema import Schema, version_of

DATABASE = "gateway.db"
SETTINGS = "settings.toml"
MANIFEST = "manifest.json"
#: 1 had no settings.
FORMAT = 2
#: What is read at once: a database may have a gigabyte, and the node not so much memory.
PIECE = 1024 * 1024
#: How a directory in which an archive is looked at begins.
LOOKING = ".verify-"
_MAX_MANIFEST = 1024 * 1024

_MEMBER = re.compile(r"manifest\.json|gateway\.db|settings\.toml|identity/[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """`entries`: names of what is in it."""

    ok: bool
    why: str = ""
    entries: tuple[str, ...] = ()


def verify_archive(path: Path, schema: Schema, *, near: Path | None = None) -> BackupCheck:
    """Whether an archive is whole, its digests hold and its database is sound.

    It is unpacked in `near`, or beside itself, where that can be: /tmp may be a small part of the memory.
    """
    import tarfile

    places = [place for place in (near, path.parent) if place is not None and os.access(place, os.W_OK)]
    try:
        with tempfile.TemporaryDirectory(prefix=LOOKING, dir=places[0] if places else None) as directory:
            names = _unpack(path, Path(directory))
            _sound(Path(directory) / DATABASE, schema)
    except OSError as error:
        return BackupCheck(False, error.strerror or str(error))
    except (StorageError, tarfile.TarError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        return BackupCheck(False, str(error))
    return BackupCheck(True, entries=names)


def restore_archive(path: Path, data: Path, schema: Schema) -> tuple[Path, ...]:
    """Put a backup in the place of what is in `data`; return where that went. The node must be stopped.

    Raises:
        StorageError: a node runs there (`storage_locked`), the archive is no sound backup (`backup_damaged`), or the
            disk refuses. Nothing is changed then.
    """
    import tarfile

    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(data / f"{DATABASE}.lock")
    except OSError as error:
        raise _refused(data, error) from error
    scratch = data / SCRATCH
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        _unpack(path, scratch)
        _sound(scratch / DATABASE, schema)
        sync_directory(scratch / IDENTITY)
        sync_directory(scratch)
        return _put_in_place(scratch, data)
    except (tarfile.TarError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise StorageError(f"{path} is no sound backup: {error}", reason="backup_damaged") from error
    except OSError as error:
        raise _refused(data, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def _put_in_place(scratch: Path, data: Path) -> tuple[Path, ...]:
    with locked(data / "identity.lock"):
        finish(data)
        scratch.rename(data / MOVES)
        # From here on it is restored, whatever happens: the next start goes on with it.
        return finish(data)


def _refused(data: Path, error: OSError) -> StorageError:
    why = f"{error.filename or data}: {error.strerror or error}"
    if (data / MOVES).exists():
        text = f"{why}. The backup has not taken its place in {data} yet: the next start goes on with it"
    else:
        text = f"nothing is restored into {data}, which is as it was: {why}"
    return StorageError(text, reason="storage_failed")


def _unpack(path: Path, to: Path) -> tuple[str, ...]:
    """Write what is in the archive into a directory, each file checked against the manifest."""
    import tarfile

    manifest: dict[str, Any] = {}
    found: dict[str, str] = {}
    with tarfile.open(path, mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is None or _MEMBER.fullmatch(member.name) is None or "/.." in member.name:
                raise ValueError(f"{member.name!r} does not belong in a backup")
            if member.name == MANIFEST:
                manifest = json.loads(file.read(_MAX_MANIFEST))
                if not 1 <= manifest["format"] <= FORMAT:
                    raise ValueError(f"it has format {manifest['format']!r}, this program knows {FORMAT}")
            else:
                found[member.name] = _write_out(file, to / member.name)
    if set(manifest["files"]) != set(found) or DATABASE not in found:
        raise ValueError("it lacks files that its manifest names, or has others")
    for name, digest in found.items():
        if digest != manifest["files"][name]:
            raise ValueError(f"{name} is damaged")
    return tuple(sorted(found))


def _write_out(content: IO[bytes], target: Path) -> str:
    """Copy it to a new file, onto the disk; return the digest."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        while piece := content.read(PIECE):
            digest.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(descriptor)
    return digest.hexdigest()


def _sound(path: Path, schema: Schema) -> None:
    """Raises ValueError where it is not."""
    try:
        damage = damage_of(path, schema)
        with closing(connect(path, read_only=True)) as connection:
            version = version_of(connection)
    except StorageError as error:
        if error.reason != "storage_newer":
            raise ValueError("its database is another program's") from error
        with closing(connect(path, read_only=True)) as connection:
            version = version_of(connection)
        raise ValueError(
            f"a newer version wrote it (schema {version}, this program knows {schema.version}): restore it with that"
        ) from error
    if damage:
        raise ValueError(f"its database is damaged: {damage}")
