"""Copies of what a node cannot do without: the database as it stands at one moment, the identity, the settings.

One archive a backup, `<data>/backups/<time>.tar`, 0600, because it holds the node's keys; `archive` has what is in it.
It appears whole, by one rename. To restore is for a node that is stopped, and keeps what was there.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from gateway.control.archive import (
    DATABASE,
    FORMAT,
    LOOKING,
    MANIFEST,
    PIECE,
    SETTINGS,
    BackupCheck,
    verify_archive,
)
from gateway.control.audit import Actor, Audit
from gateway.control.restoring import IDENTITY
from gateway.errors import NotFound, StorageError
from gateway.storage.database import Database
from gateway.storage.file import sync_directory, sync_file
from gateway.storage.schema import Schema

#: How long nobody looks at a backup.
_LEFT_S = 86_400.0
#: What the file of a backup is called: when it was made, in UTC.
NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.tar")


@dataclass(frozen=True, slots=True)
class Backup:
    """`id` is the file's name."""

    id: str
    path: Path
    bytes: int
    created_at: float
    sha256: str


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

    def tidy(self) -> None:
        """Remove what a process that was killed has left of a backup; nobody else is at it. For a thread."""
        for unfinished in (*self._directory.glob(".*.db"), *self._directory.glob(".*.tar.new")):
            unfinished.unlink(missing_ok=True)
        for looked_at in self._directory.glob(f"{LOOKING}*"):
            if self._wall() - looked_at.stat().st_mtime > _LEFT_S:
                shutil.rmtree(looked_at, ignore_errors=True)

    def _all(self) -> tuple[Backup, ...]:
        return tuple(self._described(path) for path in self._paths())

    def _paths(self) -> tuple[Path, ...]:
        paths = self._directory.glob("*.tar") if self._directory.is_dir() else ()
        return tuple(sorted((path for path in paths if NAME.fullmatch(path.name)), reverse=True))

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
        if NAME.fullmatch(backup_id) is None or not path.is_file():
            raise NotFound(f"there is no backup {backup_id!r}")
        return path


def _made(path: Path) -> float:
    return datetime.strptime(path.name.removesuffix(".tar"), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()


def _pack(path: Path, database: Path, identity: Path, now: float) -> None:
    # Here and below: half a megabyte that only a node which makes backups has to hold.
    import tarfile

    settings = identity.with_name(SETTINGS)
    keys = {
        f"{IDENTITY}/{entry.name}": entry.read_bytes()
        for entry in sorted(identity.iterdir())
        if entry.is_file() and not entry.name.startswith(".")
    }
    # Empty where none were set: a restore brings that back, too.
    keys[SETTINGS] = settings.read_bytes() if settings.exists() else b""
    digests = {DATABASE: _digest_of(database)} | {
        name: hashlib.sha256(content).hexdigest() for name, content in keys.items()
    }
    manifest = json.dumps({"format": FORMAT, "created_at": now, "files": digests}, indent=1).encode()
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.TarFile(None, "w", file, copybufsize=PIECE) as archive:

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


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
