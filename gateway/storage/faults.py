"""What SQLite refuses or fails at, as errors of this program.

`reason` is one of: `storage_full`, `storage_busy`, `storage_failed` (the disk or its file system), `storage_corrupt`,
`storage_foreign`, `storage_newer`, `storage_locked`, `storage_closed`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.errors import StorageError

_REASONS = {
    sqlite3.SQLITE_FULL: "storage_full",
    sqlite3.SQLITE_BUSY: "storage_busy",
    sqlite3.SQLITE_LOCKED: "storage_busy",
    sqlite3.SQLITE_INTERRUPT: "storage_busy",
    sqlite3.SQLITE_IOERR: "storage_failed",
    sqlite3.SQLITE_CANTOPEN: "storage_failed",
    sqlite3.SQLITE_READONLY: "storage_failed",
    sqlite3.SQLITE_PERM: "storage_failed",
    sqlite3.SQLITE_CORRUPT: "storage_corrupt",
    sqlite3.SQLITE_NOTADB: "storage_corrupt",
}
_ADVICE = {
    "storage_full": "there is no room left for it: free space on the volume, delete what is not needed, or raise "
    "storage.max_bytes. What is stored can still be read",
    "storage_busy": "it took too long; try again",
    "storage_failed": "the disk or its file system refused; see the system's log. Until it works nothing is stored",
    "storage_corrupt": "the file is damaged; stop the node and restore a backup",
}


def reason_of(error: sqlite3.Error) -> str | None:
    """The reason that goes with this error, or None where it is a bug of ours: wrong SQL, a broken constraint."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _REASONS.get(code & 0xFF)


def storage_error(error: sqlite3.Error, path: Path) -> StorageError | None:
    """The error to raise instead, or None where `error` is a bug and stays what it is."""
    reason = reason_of(error)
    if reason is None:
        return None
    return StorageError(f"{path}: {_ADVICE[reason]} ({error})", reason=reason)
