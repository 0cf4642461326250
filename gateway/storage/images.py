"""Firmware images on disk: one file each, named by the SHA-256 of what is in it.

A file appears whole, by one rename, after it has been synced; nothing in it is ever changed. So an image that does not
have its digest was damaged by the disk or by somebody, and is not opened. The digest is computed when a file is opened
that is not the one (by inode, size and time) that was last found good, and by `check`, which goes by nothing known.

All that is here waits for the disk: never call it in the event loop.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from threading import Lock

from gateway.errors import InvalidChange, StorageError
from gateway.storage.file import sync_directory

_NAME = re.compile(r"[0-9a-f]{64}")
_UPLOAD = ".upload-"
_PIECE = 256 * 1024

#: What a file was when its digest was right: inode, size, time of its last change in ns.
_State = tuple[int, int, int]


class Image:
    """An image that is open. `size`: bytes."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """The bytes from `offset` on, fewer than `count` at the end alone. Raises StorageError (`image_damaged`)."""
        wanted = min(count, self.size - offset)
        try:
            data = os.pread(self._descriptor, wanted, offset)
        except OSError as error:
            raise StorageError(f"an image cannot be read: {error.strerror}", reason="image_damaged") from error
        if len(data) != wanted:
            raise StorageError("an image became shorter while it was read", reason="image_damaged")
        return data

    def close(self) -> None:
        os.close(self._descriptor)


class Upload:
    """An image on its way in. End it with `Images.keep` or `discard`."""

    def __init__(self, images: Images, path: Path) -> None:
        self.path = path
        self.size = 0
        self.sha256 = ""
        self._images = images
        images.coming.add(path.name)
        self._digest = hashlib.sha256()
        # Whoever waits for a write may be gone, and discard what is being written.
        self._lock = Lock()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Raises StorageError (`storage_full`), InvalidChange when it becomes larger than an image may be."""
        most = self._images.max_image_bytes
        if self.size + len(data) > most:
            raise InvalidChange(f"an image has at most {most} bytes (firmware.max_image_bytes)", reason="image_large")
        with self._lock:
            if self._file.closed:
                return
            self._images.reserve(len(data))
            self.size += len(data)
            try:
                self._file.write(data)
            except OSError as error:
                raise _failed(self.path, error) from error
            self._digest.update(data)

    def finish(self) -> None:
        """Everything has come: it is on disk, and `sha256` says what it is. Raises StorageError."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _failed(self.path, error) from error
        self.sha256 = self._digest.hexdigest()

    def discard(self) -> None:
        """Forget it, unless it has been kept."""
        with self._lock:
            try:
                self._file.close()
            except OSError:
                # What is about to be removed need not be written.
                pass
            self._images.coming.discard(self.path.name)
            if self.path.exists():
                self.path.unlink()
                self._images.reserve(-self.size)


class Images:
    """The images in one directory; together at most `max_bytes`, one at most `max_image_bytes`."""

    def __init__(self, directory: Path, *, max_bytes: int = 2**62, max_image_bytes: int = 2**62) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.max_image_bytes = max_image_bytes
        #: Names of uploads that are under way.
        self.coming: set[str] = set()
        self._good: dict[str, _State] = {}
        self._lock = Lock()
        self._used: int | None = None

    def begin(self) -> Upload:
        """Raises StorageError."""
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            return Upload(self, self.directory / f"{_UPLOAD}{secrets.token_hex(8)}")
        except OSError as error:
            raise _failed(self.directory, error) from error

    def reserve(self, count: int) -> None:
        """Count bytes that come, or go. Raises StorageError (`storage_full`) when there would be too many."""
        with self._lock:
            if self._used is None:
                self._used = sum(path.stat().st_size for path in self._files())
            if count > 0 and self._used + count > self.max_bytes:
                text = f"images have at most {self.max_bytes} bytes together (firmware.max_bytes): delete some"
                raise StorageError(text, reason="storage_full")
            self._used += count

    def keep(self, upload: Upload) -> None:
        """Put a finished upload in its place, which may have the same image, or a damaged one. Raises StorageError."""
        path = self._path(upload.sha256)
        try:
            replaced = path.stat().st_size if path.exists() else 0
            upload.path.rename(path)
            sync_directory(self.directory)
            self._good[upload.sha256] = _state(os.stat(path))
        except OSError as error:
            raise _failed(path, error) from error
        self.reserve(-replaced)

    def open(self, sha256: str, size: int) -> Image:
        """Raises StorageError (`image_damaged`) when it is not there as it was written."""
        path = self._path(sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", reason="image_damaged") from error
        try:
            found = os.fstat(descriptor)
            if self._good.get(sha256) != _state(found) or found.st_size != size:
                self._judge(descriptor, path, sha256, size)
                self._good[sha256] = _state(found)
        except BaseException:
            os.close(descriptor)
            raise
        return Image(descriptor, size)

    def check(self, sha256: str, size: int) -> None:
        """Read all of it. Raises StorageError (`image_damaged`)."""
        self._good.pop(sha256, None)
        self.open(sha256, size).close()

    def remove(self, sha256: str) -> None:
        """Raises StorageError."""
        path = self._path(sha256)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed(path, error) from error
        self._good.pop(sha256, None)
        self.reserve(-size)

    def sweep(self, wanted: Collection[str]) -> list[str]:
        """Remove what nobody wants, and what is left of uploads that a process did not end; say what it was."""
        removed = [path for path in self._files() if path.name not in wanted and path.name not in self.coming]
        for path in removed:
            path.unlink(missing_ok=True)
        with self._lock:
            self._used = None
        return [path.name for path in removed]

    def _files(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [
            path for path in self.directory.iterdir() if _NAME.fullmatch(path.name) or path.name.startswith(_UPLOAD)
        ]

    def _path(self, sha256: str) -> Path:
        assert _NAME.fullmatch(sha256), sha256
        return self.directory / sha256

    def _judge(self, descriptor: int, path: Path, sha256: str, size: int) -> None:
        digest, read = hashlib.sha256(), 0
        try:
            while piece := os.pread(descriptor, _PIECE, read):
                digest.update(piece)
                read += len(piece)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", reason="image_damaged") from error
        if read != size:
            raise StorageError(f"{path} has {read} bytes, not {size}", reason="image_damaged")
        if digest.hexdigest() != sha256:
            raise StorageError(f"{path} is not what was written", reason="image_damaged")


def _state(found: os.stat_result) -> _State:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _failed(path: Path, error: OSError) -> StorageError:
    reason = "storage_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "storage_failed"
    return StorageError(f"{error.filename or path}: {error.strerror or error}", reason=reason)
