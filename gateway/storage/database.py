"""A SQLite database that one event loop reads and writes.

* One connection writes, and it alone checkpoints. The SQLite of Debian 12 can lose a transaction when two connections
  do (the "WAL-reset bug", sqlite.org/wal.html); readers are connections of their own that cannot write.
* Work is a function of a `sqlite3.Connection`, run in the connection's thread. It sees no half of another's work, and
  the loop never waits for the disk.
* What is acknowledged is on disk: `synchronous = FULL`. Works that wait while the disk syncs share the next sync
  (group commit); each is a savepoint, so one that raises takes none of the others with it.
* A full disk or database refuses writes and nothing else; it is tried again with the next one (fault 72). When the disk
  fails otherwise, the writer's connection is opened anew before anything more is taken (fault 71): what SQLite holds
  in memory after a failed sync is not to be believed.
* A read that takes longer than `READ_S` is broken off, so that the write-ahead log can be reset (fault 74).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from gateway.errors import StorageError
from gateway.storage.faults import reason_of, storage_error
from gateway.storage.file import FileLock, Prepared, connect, copy_into, lock_of, prepare
from gateway.storage.schema import Schema

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

READERS = 2
READ_S = 5.0
#: A backup reads for longer, and nobody waits for it.
COPY_S = 120.0
#: Works that share one commit, at most.
GROUP = 128
PAGE_BYTES = 4096
MAX_WAL_BYTES = 64 * 1024 * 1024
#: What deletions and revocations may use beyond `max_bytes`, so that a full database can be emptied.
RESERVE_BYTES = 4 * 1024 * 1024
#: How many instructions of SQLite pass between two looks at the clock.
_LOOK_EVERY = 20_000
#: How often a log that is too long is tried to be reset, in seconds.
_RESET_EVERY_S = 10.0


class _Link(aiosqlite.Connection):
    """A connection in a thread of its own. The thread does not keep a process alive that is about to end."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, 64)
        self._thread.daemon = True

    async def run(self, work: Work[T]) -> T:
        result: T = await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]
        return result

    @classmethod
    async def to(cls, connector: Callable[[], sqlite3.Connection]) -> _Link:
        link = cls(connector)
        await link
        return link


@dataclass(slots=True)
class _Pending:
    work: Work[Any]
    reserve: bool
    committed: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.error is None and self.committed is not None:
            self.committed(self.result)
            self.committed = None
        if self.future.done():  # whoever waited has gone; what it asked for is done all the same
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Database:
    """Open with `Database.open`. `prepared` says what was found on disk.

    `alarm(slug, text)` is told of what somebody must look at, `calm(slug)` when it is over.
    """

    def __init__(
        self,
        path: Path,
        lock: FileLock,
        prepared: Prepared,
        max_bytes: int,
        alarm: Callable[[str, str], None],
        calm: Callable[[str], None],
    ) -> None:
        self.path = path
        self.prepared = prepared
        self.max_bytes = max_bytes
        self.commits = 0
        self._alarm = alarm
        self._calm = calm
        self._lock = lock
        self._wal = path.with_name(f"{path.name}-wal")
        self._writer: _Link | None = None
        self._readers: asyncio.Queue[_Link] = asyncio.Queue()
        self._waiting: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None
        self._reset_at = 0.0
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        schema: Schema,
        *,
        max_bytes: int = 1024 * 1024 * 1024,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        calm: Callable[[str], None] = lambda slug: None,
        lost: str = "restore a backup. Until then it knows no device, user, key or revocation",
    ) -> Database:
        """Lock, check, migrate and open the file, making it on first use. `lost`: what an alarm says of a damaged one.

        Raises:
            StorageError: another process has it (`storage_locked`), it is another program's or a newer one's, or it
                cannot be read and written. A damaged one is moved away, with an alarm.
        """
        lock = lock_of(path)
        database: Database | None = None
        try:
            prepared = await asyncio.to_thread(prepare, path, schema)
            database = cls(path, lock, prepared, max_bytes, alarm, calm)
            await database._start()
        except BaseException:
            if database is not None:
                await database._let_go()
            lock.release()
            raise
        if prepared.quarantined is not None:
            alarm(
                "database_quarantined",
                f"{path} was damaged ({prepared.damage}). It is kept as {prepared.quarantined}, and the node started "
                f"with an empty one: {lost}.",
            )
        return database

    async def read(self, work: Work[T], *, limit_s: float = READ_S) -> T:
        """Run `work` on a connection that only reads, in one transaction: it sees one moment.

        Raises:
            StorageError: it took longer than `limit_s` seconds, or the file cannot be read.
        """
        return await self._aside(lambda connection: _in_transaction(connection, work), limit_s)

    async def _aside(self, work: Work[T], limit_s: float) -> T:
        if self._closed:
            raise _closed(self.path)
        link = await self._readers.get()
        try:
            return await link.run(lambda connection: _read(connection, work, self.path, limit_s))
        finally:
            # Its thread does one thing after the other, so it may be lent again even while it is still at this one.
            self._readers.put_nowait(link)

    async def write(self, work: Work[T], *, reserve: bool = False, committed: Callable[[T], None] | None = None) -> T:
        """Run `work` in a transaction; when this returns, what it did is on disk.

        Whatever `work` raises undoes it and is raised here. `reserve`: it makes room or takes rights away, and may use
        what is kept back for that when the database is full. `committed` is called in the loop with the result once it
        is on disk, in the order of the commits, and even when the caller was canceled meanwhile; it must not raise.

        Raises:
            StorageError: it could not be stored, so nothing of it is (`storage_full`, `storage_failed`, …).
        """
        if self._closed:
            raise _closed(self.path)
        pending = _Pending(work, reserve, committed, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait(pending)
        return await pending.future  # type: ignore[no-any-return]

    async def copy(self, to: Path) -> None:
        """Write a copy of the database as it stands at one moment; reads and writes go on. Raises StorageError."""
        try:
            await self._aside(lambda connection: copy_into(connection, to), COPY_S)
        except OSError as error:
            raise StorageError(f"{to}: {error.strerror or error}", reason="storage_failed") from error

    def wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    async def close(self) -> None:
        """Finish what waits, move the log into the file, let go of the lock."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put_nowait(None)
        if self._writing is not None:
            await self._writing
        await self._let_go()
        self._lock.release()

    async def _start(self) -> None:
        await self._writer_link()
        for _ in range(READERS):
            self._readers.put_nowait(await _Link.to(lambda: _reader(self.path)))
        self._writing = asyncio.create_task(self._write_on(), name=f"writer of {self.path.name}")

    async def _writer_link(self) -> _Link:
        if self._writer is None:
            self._writer = await _Link.to(lambda: _writer(self.path, self.max_bytes))
        return self._writer

    async def _let_go(self) -> None:
        # The writer last: the last connection moves the log into the file, and only the writer may.
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        await self._drop_writer()

    async def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(sqlite3.Error):
                await writer.close()

    async def _write_on(self) -> None:
        """Commit what waits, in groups, until the database is closed."""
        ended = False
        while not ended:
            group: list[_Pending] = []
            first = await self._waiting.get()
            while first is not None:
                group.append(first)
                if len(group) >= GROUP or self._waiting.empty():
                    break
                first = self._waiting.get_nowait()
            ended = first is None
            if group:
                await self._commit(group)

    async def _commit(self, group: list[_Pending]) -> None:
        try:
            writer = await self._writer_link()
            await writer.run(lambda connection: _commit(connection, group, self.path, self.max_bytes))
            self.commits += 1
        except StorageError as error:
            await self._failed(group, error)
        except sqlite3.Error as error:
            await self._failed(group, storage_error(error, self.path) or StorageError(str(error)))
        else:
            self._calm("storage_full")
            self._calm("storage_failed")
        for pending in group:
            pending.settle()
        await self._keep_log_short()

    async def _failed(self, group: list[_Pending], error: StorageError) -> None:
        """Nothing of this group is stored."""
        if error.reason == "storage_full" and len(group) > 1:
            # One that asks for much must not take those with it that ask for little.
            for pending in group:
                pending.error = None
                await self._commit([pending])
            return
        self._alarm(error.reason, error.text)
        for pending in group:
            pending.error = error
        if error.reason != "storage_full":
            await self._drop_writer()

    async def _keep_log_short(self) -> None:
        if self.wal_bytes() <= MAX_WAL_BYTES or self._writer is None:
            return
        now = time.monotonic()
        if now - self._reset_at < _RESET_EVERY_S:
            return
        self._reset_at = now
        self._alarm("wal_large", f"{self._wal} has grown to {self.wal_bytes() >> 20} MiB: a reader holds it up")
        with suppress(sqlite3.Error, StorageError):
            if await self._writer.run(_reset_log):
                self._calm("wal_large")


def _closed(path: Path) -> StorageError:
    return StorageError(f"{path} is closed: the node is stopping", reason="storage_closed")


def _writer(path: Path, max_bytes: int) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
    connection.execute(f"PRAGMA max_page_count = {max_bytes // PAGE_BYTES}")
    return connection


def _reader(path: Path) -> sqlite3.Connection:
    connection = connect(path, read_only=True)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _read(connection: sqlite3.Connection, work: Work[T], path: Path, limit_s: float) -> T:
    deadline = time.monotonic() + limit_s
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)
    try:
        return work(connection)
    except sqlite3.Error as error:
        raise storage_error(error, path) or error from error
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _in_transaction(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN")
    result = work(connection)
    connection.execute("COMMIT")
    return result


def _commit(connection: sqlite3.Connection, group: list[_Pending], path: Path, max_bytes: int) -> None:
    """Run every work of the group and commit. Raises StorageError when nothing of it is stored."""
    reserve = any(pending.reserve for pending in group)
    try:
        if reserve:
            connection.execute(f"PRAGMA max_page_count = {(max_bytes + RESERVE_BYTES) // PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        for pending in group:
            _run(connection, pending)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise storage_error(error, path) or error from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if reserve:
            connection.execute(f"PRAGMA max_page_count = {max_bytes // PAGE_BYTES}")


def _run(connection: sqlite3.Connection, pending: _Pending) -> None:
    connection.execute("SAVEPOINT work")
    try:
        pending.result = pending.work(connection)
    except BaseException as error:
        # What the disk refuses ends the group: SQLite may have undone all of it already.
        if isinstance(error, sqlite3.Error) and reason_of(error) is not None:
            raise
        pending.error = error
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")


def _reset_log(connection: sqlite3.Connection) -> bool:
    """Move the log into the file and begin it anew; whether that could be done."""
    connection.execute("PRAGMA busy_timeout = 1000")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute("PRAGMA busy_timeout = 5000")
    return not busy
