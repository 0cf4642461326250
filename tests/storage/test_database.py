"""The database layer on real files: what is acknowledged, refused, locked, kept short."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.storage import database as layer
from gateway.storage.database import Database
from gateway.storage.schema import Migration, Schema
from tests.storage.stores import NEWER, SCHEMA, Alarms, delete_all, insert, numbers, opened
from tests.volumes import resize, small_volume

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "test.db"


async def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    database = await opened(path)
    for n in range(3):
        assert await database.write(insert(n)) == n
    await database.close()
    database = await opened(path)
    assert await database.read(numbers) == [0, 1, 2]
    await database.close()
    assert not path.with_name("test.db-wal").exists()


async def test_writes_that_wait_share_a_commit(path: Path) -> None:
    database = await opened(path)
    await asyncio.gather(*(database.write(insert(n)) for n in range(500)))
    assert database.commits <= 20
    assert await database.read(numbers) == list(range(500))
    await database.close()


async def test_one_that_fails_takes_no_other_with_it(path: Path) -> None:
    database = await opened(path)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO rows VALUES (1000, x'00')")
        raise LookupError("no")

    outcomes = await asyncio.gather(
        database.write(insert(1)),
        database.write(broken),
        database.write(insert(1)),
        database.write(insert(2)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [int, LookupError, sqlite3.IntegrityError, int]
    assert await database.read(numbers) == [1, 2]
    await database.close()


async def test_whoever_goes_away_has_written_all_the_same(path: Path) -> None:
    """What memory takes over follows the disk, not the caller."""
    database = await opened(path)
    taken: list[int] = []
    task = asyncio.create_task(database.write(insert(7), committed=taken.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(insert(8), committed=taken.append)
    assert taken == [7, 8]
    assert await database.read(numbers) == [7, 8]
    await database.close()


async def test_a_reader_cannot_write(path: Path) -> None:
    database = await opened(path)
    with pytest.raises(StorageError):
        await database.read(insert(1))
    assert await database.read(numbers) == []
    await database.close()


async def test_a_read_sees_one_moment(path: Path) -> None:
    database = await opened(path)
    await database.write(insert(0))
    between, go_on = threading.Event(), threading.Event()

    def twice(connection: sqlite3.Connection) -> tuple[list[int], list[int]]:
        first = numbers(connection)
        between.set()
        go_on.wait(10)
        return first, numbers(connection)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(between.wait, 10)
    await database.write(insert(1))
    go_on.set()
    assert await reading == ([0], [0])
    await database.close()


async def test_a_read_that_takes_too_long_is_broken_off(path: Path) -> None:
    """fault 74: so that the log can be reset"""
    database = await opened(path)

    def for_ever(connection: sqlite3.Connection) -> None:
        connection.execute(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
        ).fetchone()

    began = time.monotonic()
    with pytest.raises(StorageError) as refused:
        await database.read(for_ever, limit_s=0.2)
    assert refused.value.reason == "storage_busy"
    assert time.monotonic() - began < 5
    assert await database.read(numbers) == []
    await database.close()


async def test_a_log_that_grows_without_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault 74: a held read transaction; an alarm, then a reset as soon as the reader is gone"""
    monkeypatch.setattr(layer, "MAX_WAL_BYTES", 1024 * 1024)
    monkeypatch.setattr(layer, "_RESET_EVERY_S", 0.0)
    alarms = Alarms()
    database = await opened(path, alarms)
    await database.write(insert(0))
    with closing(sqlite3.connect(path)) as stranger:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM rows").fetchone()
        n = 1
        while database.wal_bytes() <= 2 * 1024 * 1024:
            await database.write(insert(n, bytes(60_000)))
            n += 1
            if "wal_large" in alarms.standing:
                # Each further attempt would wait a second for the reader.
                monkeypatch.setattr(layer, "_RESET_EVERY_S", 3600.0)
        assert "wal_large" in alarms.standing
        stranger.execute("ROLLBACK")
    monkeypatch.setattr(layer, "_RESET_EVERY_S", 0.0)
    await database.write(insert(n))
    await database.write(insert(n + 1))
    assert "wal_large" not in alarms.standing
    assert database.wal_bytes() < 1024 * 1024
    await database.close()


async def until_refused(database: Database) -> tuple[int, StorageError]:
    """Write until there is no room: how many were taken, and the refusal."""
    for n in range(1000):
        try:
            await database.write(insert(n, bytes(20_000)))
        except StorageError as refusal:
            return n, refusal
    raise AssertionError("there is no end to it")


async def test_a_full_database_refuses_writes_and_nothing_else(path: Path) -> None:
    """fault 72: reads go on, what makes room goes through, and it recovers without a restart"""
    alarms = Alarms()
    database = await opened(path, alarms, max_bytes=400 * 1024)
    n, refusal = await until_refused(database)
    assert refusal.reason == "storage_full"
    assert str(path) in refusal.text
    assert "storage_full" in alarms.standing
    assert await database.read(numbers) == list(range(n))
    with pytest.raises(StorageError):
        await database.write(insert(n, bytes(20_000)))
    # Small ones get through beside a large one that does not.
    outcomes = await asyncio.gather(
        database.write(insert(5000, bytes(200_000))), database.write(lambda connection: 1), return_exceptions=True
    )
    assert isinstance(outcomes[0], StorageError)
    assert outcomes[1] == 1
    await database.write(insert(6000, bytes(20_000)), reserve=True)
    await database.write(delete_all, reserve=True)
    await database.write(insert(n, bytes(20_000)))
    assert alarms.standing == {}
    await database.close()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with small_volume(tmp_path / "volume", "2m") as volume:
        yield volume


async def test_a_full_disk(volume: Path) -> None:
    """fault 72: on a volume that grows again"""
    database = await opened(volume / "data" / "test.db")
    n, refusal = await until_refused(database)
    assert refusal.reason in ("storage_full", "storage_failed")
    assert await database.read(numbers) == list(range(n))
    resize(volume, "8m")
    await database.write(insert(n))
    assert await database.read(numbers) == list(range(n + 1))
    await database.close()


async def test_a_second_process_is_refused(path: Path) -> None:
    """fault 75"""
    database = await opened(path)
    script = "import sys, asyncio; from pathlib import Path; from tests.storage.stores import opened; "
    script += f"asyncio.run(opened(Path({str(path)!r})))"
    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert f"in use by another process (process {os.getpid()})" in second.stderr
    await database.write(insert(1))
    await database.close()
    database = await opened(path)
    with pytest.raises(StorageError) as refused:
        await opened(path)
    assert refused.value.reason == "storage_locked"
    await database.close()


async def test_nobody_else_reads_the_files(path: Path) -> None:
    """fault 76: 0600 in 0700, whatever the umask, and what was wider is narrowed"""
    before = os.umask(0)
    try:
        database = await opened(path)
        await database.write(insert(1))
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
        assert modes == dict.fromkeys(["test.db", "test.db-wal", "test.db-shm", "test.db.lock"], 0o600)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        copy = path.with_name("copy.db")
        await database.copy(copy)
        assert copy.stat().st_mode & 0o777 == 0o600
        await database.close()
        path.chmod(0o644)
        path.parent.chmod(0o755)
        database = await opened(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        await database.close()
    finally:
        os.umask(before)


async def test_a_copy_is_of_one_moment_while_writes_go_on(path: Path) -> None:
    database = await opened(path)
    await asyncio.gather(*(database.write(insert(n)) for n in range(2000)))
    stop = False

    async def go_on() -> int:
        n = 2000
        while not stop:
            await database.write(insert(n))
            n += 1
        return n

    writing = asyncio.create_task(go_on())
    copy = path.with_name("copy.db")
    await database.copy(copy)
    stop = True
    written = await writing
    await database.close()
    copied = await opened(copy)
    there = await copied.read(numbers)
    assert there == list(range(len(there)))
    assert 2000 <= len(there) <= written
    await copied.close()


async def test_a_closed_database_refuses(path: Path) -> None:
    database = await opened(path)
    waiting = [asyncio.create_task(database.write(insert(n))) for n in range(10)]
    await asyncio.sleep(0)
    await database.close()
    # What was asked for before is done.
    assert await asyncio.gather(*waiting) == list(range(10))
    for work in (database.write(insert(1)), database.read(numbers)):
        with pytest.raises(StorageError) as refused:
            await work
        assert refused.value.reason == "storage_closed"
    await database.close()


async def test_a_migration_keeps_a_copy_from_before(path: Path) -> None:
    """fault 96: forward, with the file as it was beside it"""
    database = await opened(path)
    await database.write(insert(1))
    await database.close()
    database = await opened(path, schema=NEWER)
    assert database.prepared.migrated_from == 1
    copy = database.prepared.copy
    assert copy is not None
    assert await database.read(lambda c: [tuple(row) for row in c.execute("SELECT n, mark FROM rows")]) == [(1, None)]
    await database.close()
    older = await opened(copy)
    assert await older.read(numbers) == [1]
    await older.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    database = await opened(path)
    await database.write(insert(1))
    await database.close()
    wrong = Migration(2, "0002_wrong.sql", "CREATE TABLE more (n INTEGER); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(sqlite3.OperationalError):
        await opened(path, schema=Schema(SCHEMA.application_id, (*SCHEMA.migrations, wrong)))
    database = await opened(path)
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]) == 1
    await database.close()


async def test_a_file_from_a_newer_program_is_refused(path: Path) -> None:
    """fault 73, fault 96: and left alone"""
    await (await opened(path, schema=NEWER)).close()
    before = path.read_bytes()
    with pytest.raises(StorageError) as refused:
        await opened(path)
    assert refused.value.reason == "storage_newer"
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2


async def test_a_file_of_another_program_is_refused(path: Path) -> None:
    """fault 73: and left alone"""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as stranger:
        stranger.execute("CREATE TABLE theirs (n)")
    before = path.read_bytes()
    with pytest.raises(StorageError) as refused:
        await opened(path)
    assert refused.value.reason == "storage_foreign"
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["zeroed page", "cut short", "empty", "no header", "bits", "text"])
async def test_a_damaged_file_is_moved_away_with_an_alarm(path: Path, damage: str) -> None:
    """fault 73: never silently empty"""
    database = await opened(path)
    await asyncio.gather(*(database.write(insert(n)) for n in range(2000)))
    await database.close()
    content = bytearray(path.read_bytes())
    if damage == "zeroed page":
        content[3 * 4096 : 4 * 4096] = bytes(4096)
    elif damage == "cut short":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    elif damage == "no header":
        content[:16] = bytes(16)
    elif damage == "bits":
        for at in range(5 * 4096, 6 * 4096):
            content[at] ^= 0x55
    else:
        content[:] = b"this is no database" * 1000
    path.write_bytes(content)
    alarms = Alarms()
    database = await opened(path, alarms)
    away = database.prepared.quarantined
    assert away is not None
    assert away.name.startswith("test.db.corrupt-")
    assert away.read_bytes() == content
    assert str(away) in alarms.standing["database_quarantined"]
    assert await database.read(numbers) == []
    await database.write(insert(1))
    await database.close()


async def test_a_start_that_was_killed_before_the_file_was_whole(path: Path) -> None:
    path.parent.mkdir()
    path.with_name(".test.db.new").write_bytes(b"half")
    path.with_name("test.db-wal").write_bytes(b"of a file that is gone")
    alarms = Alarms()
    database = await opened(path, alarms)
    assert alarms.raised == []
    await database.write(insert(1))
    await database.close()


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="data directory must belong"):
        await opened(tmp_path / "file" / "test.db")
