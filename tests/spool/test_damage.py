"""Files that are damaged, and disks that fail (faults 71 and 73)."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.spool.message import Message, Post
from gateway.spool.rules import SpoolRules
from gateway.spool.spool import Spool
from tests.spool.conftest import Stores

ROOMY = SpoolRules(min_free=0.0)
PAGE = 4096


async def fill(stores: Stores, count: int = 2000) -> Spool:
    spool = await (await stores.open()).spool("uplink", ROOMY)
    await spool.append([Message(b"%06d " % number + b"x" * 193, key=b"k%d" % (number % 9)) for number in range(count)])
    return spool


async def drained(spool: Spool) -> list[int]:
    numbers = []
    while (batch := await spool.take()) is not None:
        numbers += [int(message.payload[:6]) for message in batch.messages]
        spool.settle(batch)
    return numbers


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def test_a_flipped_bit_costs_one_message_which_is_put_aside(stores: Stores) -> None:
    """Fault 73: SQLite does not see it; the checksum does."""
    await fill(stores)
    await stores.close()
    data = stores.path.read_bytes()
    for number in (7, 1234):
        at = data.index(b"%06d " % number)
        overwrite(stores.path, at + 50, b"y")
    spool = await (await stores.open()).spool("uplink", ROOMY)
    assert await drained(spool) == [number for number in range(2000) if number not in (7, 1234)]
    assert spool.status().lost == {"corrupt": 2}
    await stores.close()
    with closing(sqlite3.connect(stores.path)) as connection:
        kept = [row[0] for row in connection.execute("SELECT record FROM quarantine")]
    assert len(kept) == 2
    assert b"000007 ".hex() in kept[0]


@pytest.mark.parametrize("torn", [[40], [25, 60, 61, 90]])
async def test_torn_pages_cost_what_was_on_them_and_the_node_starts(stores: Stores, torn: list[int]) -> None:
    """Fault 73: moved away with an alarm; what can be read of it still waits, with its ids and in its order."""
    spool = await fill(stores)
    ids = {message.id for message in await spool.peek(5000)}
    await stores.close()
    for page in torn:
        overwrite(stores.path, page * PAGE, b"\xa5" * PAGE)
    store = await stores.open()
    assert [slug for slug, _ in stores.alarms] == ["database_quarantined", "spool_salvaged"]
    assert len(list(stores.path.parent.glob("spool.sqlite3.corrupt-*Z"))) == 1
    spool = await store.spool("uplink", ROOMY)
    assert {message.id for message in await spool.peek(5000)} < ids
    numbers = await drained(spool)
    assert numbers == sorted(numbers)
    assert 2000 - 20 * len(torn) <= len(numbers) < 2000
    await spool.append([Message(b"goes on")])


async def test_what_devices_posted_is_known_after_damage(stores: Stores) -> None:
    spool = await fill(stores)
    posted = [Message(b"000000 posted", post=Post("meter", 7, 3))]
    (taken,) = await spool.append_each(posted)
    await stores.close()
    overwrite(stores.path, 40 * PAGE, b"\xa5" * PAGE)
    spool = await (await stores.open()).spool("uplink", ROOMY)
    assert stores.alarms
    (again,) = await spool.append_each(posted)
    assert taken is not None
    assert (again, spool.came_again) == (None, 1)


@pytest.mark.parametrize("length", [0, 50, 30 * PAGE, 60 * PAGE + 100])
async def test_a_truncated_file_never_keeps_a_node_from_starting(stores: Stores, length: int) -> None:
    """Fault 73: nor does a file of no bytes at all."""
    await fill(stores)
    await stores.close()
    with stores.path.open("r+b") as file:
        file.truncate(length)
    spool = await (await stores.open()).spool("uplink", ROOMY)
    assert stores.alarms[0][0] == "database_quarantined"
    numbers = await drained(spool)
    assert numbers == sorted(set(numbers))
    await spool.append([Message(b"goes on")])
    assert spool.messages >= 1


async def test_a_truncated_log_is_normal(stores: Stores) -> None:
    """Fault 73: what a power cut leaves; nothing is put away for it."""
    spool = await fill(stores)
    log = stores.path.with_name(stores.path.name + "-wal")
    saved, torn = stores.path.read_bytes(), log.read_bytes()
    await stores.close()
    stores.path.write_bytes(saved)
    log.write_bytes(torn[: len(torn) // 2 + 77])
    spool = await (await stores.open()).spool("uplink", ROOMY)
    assert stores.alarms == []
    numbers = await drained(spool)
    assert numbers == list(range(len(numbers)))


async def test_a_disk_that_fails_acknowledges_nothing_and_is_believed_again_when_it_works(stores: Stores) -> None:
    """Fault 71: writes beyond a limit fail as a broken disk does; then the disk works again."""
    spool = await fill(stores, 500)
    log = stores.path.with_name(stores.path.name + "-wal")
    acknowledged = set(range(500))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(stores.path.stat().st_size, log.stat().st_size) + 20_000, most))
    failed = 0
    try:
        for number in range(500, 1500):
            try:
                await spool.append([Message(b"%06d " % number + b"x" * 993)])
                acknowledged.add(number)
            except StorageError as error:
                failed += error.reason == "storage_failed"
            if failed > 5:
                break
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert failed > 5
    assert "storage_failed" in [slug for slug, _ in stores.alarms]
    [after] = await spool.append([Message(b"000499 after")])
    assert after is not None
    status = spool.status()
    assert status.messages == len(await spool.peek(5000))
    spool = await (await stores.reopen()).spool("uplink", ROOMY)
    assert acknowledged <= set(await drained(spool))
    assert status.refused["storage_failed"] == failed
