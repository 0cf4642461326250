"""Copies of what a node cannot do without: the database as it stands at one moment, and the identity.

One archive a backup, `<data>/backups/<time>.tar`, 0600, because it holds the node's keys: a tar of `manifest.json`
(what is in it, with digests), `gateway.db` and `identity/`. It appears whole, by one rename. To restore is for a node
that is stopped; what was there is kept as `<name>.before-<time>`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from gateway.control.audit import Actor, Audit
from gateway.errors import NotFound, StorageError
from gateway.storage.database import Database
from gateway.storage.file import FileLock, connect, damage_of, sync_directory, sync_file
from gateway.storage.schema import Schema, version_of

DATABASE = "gateway.db"
IDENTITY = "identity"
MANIFEST = "manifest.json"
FORMAT = 1
#: What is read at once: a database may have a gigabyte, and the node not so much memory.
_PIECE = 1024 * 1024
_MAX_MANIFEST = 1024 * 1024

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.tar")
_MEMBER = re.compile(r"manifest\.json|gateway\.db|identity/[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Backup:
    """`id` is the file's name."""

    id: str
    path: Path
    bytes: int
    created_at: float
    sha256: str


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """`entries`: names of what is in it."""

    ok: bool
    why: str = ""
    entries: tuple[str, ...] = ()


class Backups:
    """The backups of one node."""

    def __init__(
        self, database: Database, schema: Schema, audit: Audit, identity: Path, wall: Callable[[], float]
    ) -> None:
        self._database = database
        self._schema = schema
        self._audit = audit
        self._identity = identity
        self._wall = wall
        self._directory = database.path.parent / "backups"
        self._digests: dict[tuple[str, int, int], str] = {}

    async def create(self, *, by: Actor) -> Backup:
        """Back up while the node runs. Raises StorageError; then there is no backup."""
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._directory / f"{stamp}.tar"
        await self._audit.record(by, "backup.create", f"backup:{path.name}")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            copy = self._directory / f".{stamp}.db"
            try:
                await self._database.copy(copy)
                await asyncio.to_thread(_pack, path, copy, self._identity, self._wall())
            finally:
                copy.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{error.filename or path}: {error.strerror or error}", reason="storage_failed"
            ) from error
        return await asyncio.to_thread(self._described, path)

    async def list(self) -> tuple[Backup, ...]:
        """Newest first."""
        return await asyncio.to_thread(self._all)

    def times(self) -> tuple[float, ...]:
        """When each was made, Unix seconds, newest first; for a thread, as it looks into the directory."""
        found = []
        for path in self._paths():
            # Somebody's own file may have such a name, and a date that is none.
            with suppress(ValueError):
                found.append(_made(path))
        return tuple(found)

    def _all(self) -> tuple[Backup, ...]:
        return tuple(self._described(path) for path in self._paths())

    def _paths(self) -> tuple[Path, ...]:
        paths = self._directory.glob("*.tar") if self._directory.is_dir() else ()
        return tuple(sorted((path for path in paths if _NAME.fullmatch(path.name)), reverse=True))

    async def get(self, backup_id: str) -> Backup:
        """Raises NotFound."""
        return await asyncio.to_thread(self._described, self._path(backup_id))

    async def verify(self, backup_id: str) -> BackupCheck:
        """Whether it could be restored. Raises NotFound."""
        return await asyncio.to_thread(verify_archive, self._path(backup_id), self._schema)

    async def delete(self, backup_id: str, *, by: Actor) -> None:
        """Raises NotFound."""
        path = self._path(backup_id)
        await self._audit.record(by, "backup.delete", f"backup:{backup_id}")
        await asyncio.to_thread(path.unlink)
        self._digests = {state: digest for state, digest in self._digests.items() if state[0] != backup_id}

    def _described(self, path: Path) -> Backup:
        found = path.stat()
        state = (path.name, found.st_size, found.st_mtime_ns)
        if state not in self._digests:
            self._digests[state] = _digest_of(path)
        return Backup(path.name, path, found.st_size, _made(path), self._digests[state])

    def _path(self, backup_id: str) -> Path:
        path = self._directory / backup_id
        if _NAME.fullmatch(backup_id) is None or not path.is_file():
            raise NotFound(f"there is no backup {backup_id!r}")
        return path


def _made(path: Path) -> float:
    return datetime.strptime(path.name.removesuffix(".tar"), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()


def verify_archive(path: Path, schema: Schema) -> BackupCheck:
    """Whether an archive is whole, its digests hold and its database is sound.

    It is unpacked beside itself where that can be: /tmp may be a small part of the memory.
    """
    import tarfile

    beside = path.parent if os.access(path.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=beside) as directory:
        try:
            names = _unpack(path, Path(directory))
            _sound(Path(directory) / DATABASE, schema)
        except OSError as error:
            return BackupCheck(False, error.strerror or str(error))
        except (StorageError, tarfile.TarError, ValueError, KeyError, sqlite3.Error) as error:
            return BackupCheck(False, str(error))
        return BackupCheck(True, entries=names)


def restore_archive(path: Path, data: Path, schema: Schema) -> tuple[Path, ...]:
    """Put a backup in the place of what is in `data`; return where that went. The node must be stopped.

    Raises:
        StorageError: a node runs there (`storage_locked`), or the archive is no sound backup. Nothing is changed then.
    """
    import tarfile

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(data / f"{DATABASE}.lock")
    fresh = data / ".restored"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        try:
            _unpack(path, fresh)
            _sound(fresh / DATABASE, schema)
        except (OSError, tarfile.TarError, ValueError, KeyError, sqlite3.Error) as error:
            raise StorageError(f"{path} is no sound backup: {error}", reason="backup_damaged") from error
        return _put_in_place(fresh, data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        lock.release()


def _put_in_place(fresh: Path, data: Path) -> tuple[Path, ...]:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept: list[Path] = []
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", IDENTITY):
        if (data / name).exists():
            away = data / f"{name}.before-{stamp}"
            (data / name).rename(away)
            kept.append(away)
    for name in (DATABASE, IDENTITY):
        (fresh / name).rename(data / name)
    sync_directory(data)
    return tuple(kept)


def _pack(path: Path, database: Path, identity: Path, now: float) -> None:
    # Here and below: half a megabyte that only a node which makes backups has to hold.
    import tarfile

    keys = {
        f"{IDENTITY}/{entry.name}": entry.read_bytes()
        for entry in sorted(identity.iterdir())
        if entry.is_file() and not entry.name.startswith(".")
    }
    digests = {DATABASE: _digest_of(database)} | {
        name: hashlib.sha256(content).hexdigest() for name, content in keys.items()
    }
    manifest = json.dumps({"format": FORMAT, "created_at": now, "files": digests}, indent=1).encode()
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.TarFile(None, "w", file, copybufsize=_PIECE) as archive:

        def add(name: str, size: int, content: BinaryIO) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = size, 0o600, int(now)
            archive.addfile(member, content)

        add(MANIFEST, len(manifest), io.BytesIO(manifest))
        with database.open("rb") as content:
            add(DATABASE, database.stat().st_size, content)
        for name, key in keys.items():
            add(name, len(key), io.BytesIO(key))
    sync_file(fresh)
    fresh.rename(path)
    sync_directory(path.parent)


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
            else:
                found[member.name] = _write_out(file, to / member.name)
    if manifest["format"] != FORMAT:
        raise ValueError(f"it has format {manifest['format']!r}, this program knows {FORMAT}")
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
        while piece := content.read(_PIECE):
            digest.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(descriptor)
    return digest.hexdigest()


def _sound(path: Path, schema: Schema) -> None:
    damage = damage_of(path, schema)
    if damage:
        raise ValueError(f"its database is damaged: {damage}")
    with closing(connect(path, read_only=True)) as connection:
        version_of(connection)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
