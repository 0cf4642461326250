"""The receiver's side: effect and mark in one transaction (fault 77)."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.spool.inbox import Arrived, Inbox
from gateway.storage.database import Database
from gateway.storage.schema import Migration, Schema
from tests.examples import examples

EFFECTS = Schema(0x54455354, (Migration(1, "0001", "CREATE TABLE effects (seq INTEGER)"),))
FILE = 7 << 20


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "inbox.sqlite3", EFFECTS)
    await Inbox(opened).prepare()
    yield opened
    await opened.close()


def effect(connection: sqlite3.Connection, seq: int) -> None:
    connection.execute("INSERT INTO effects VALUES (?)", (seq,))


def arrived(*seqs: int, epoch: int = FILE + 1, oldest: int = FILE + 1, floor: int = 1) -> Arrived:
    return Arrived("edge-1", "uplink/5", epoch, oldest, floor, seqs)


async def effects(database: Database) -> list[int]:
    return await database.read(lambda c: [row[0] for row in c.execute("SELECT seq FROM effects ORDER BY rowid")])


async def marks(database: Database) -> list[tuple[int, int]]:
    return await database.read(
        lambda c: [tuple(row) for row in c.execute("SELECT epoch, settled FROM arrivals ORDER BY epoch")]
    )


async def test_what_comes_again_takes_effect_once(database: Database) -> None:
    """Fault 77: at or below what is settled: acknowledged, dropped."""
    inbox = Inbox(database)
    first = await inbox.receive(arrived(1, 2, 3), effect)
    assert (first.settled, first.fresh, first.duplicates, first.gap) == (3, (1, 2, 3), 0, False)
    again = await inbox.receive(arrived(2, 3, 4), effect)
    assert (again.settled, again.fresh, again.duplicates) == (4, (4,), 2)
    assert await effects(database) == [1, 2, 3, 4]


async def test_a_gap_is_accepted_and_flagged_and_closed_by_the_floor(database: Database) -> None:
    """Fault 77: what is ahead is kept; what is still awaited is not missing until the sender says so."""
    inbox = Inbox(database)
    ahead = await inbox.receive(arrived(3, 5), effect)
    assert (ahead.settled, ahead.gap, ahead.missing) == (0, True, 0)
    late = await inbox.receive(arrived(1, 2), effect)
    assert (late.settled, late.gap) == (3, True)
    closed = await inbox.receive(arrived(6, floor=5), effect)
    assert (closed.settled, closed.gap, closed.missing) == (6, False, 1)
    assert (await inbox.receive(arrived(4), effect)).duplicates == 1
    assert await effects(database) == [3, 5, 1, 2, 6]


async def test_an_effect_that_fails_leaves_no_mark(database: Database) -> None:
    inbox = Inbox(database)

    def fails(connection: sqlite3.Connection, seq: int) -> None:
        effect(connection, seq)
        if seq == 2:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await inbox.receive(arrived(1, 2), fails)
    assert await effects(database) == []
    assert (await inbox.receive(arrived(1, 2), effect)).fresh == (1, 2)


async def test_an_epoch_that_is_over_is_forgotten_and_its_late_copies_kept_out(database: Database) -> None:
    inbox = Inbox(database)
    for run in range(1, 50):
        epoch = FILE + run
        receipt = await inbox.receive(arrived(1, 2, epoch=epoch, oldest=max(FILE + 1, epoch - 1)), effect)
        assert receipt.fresh == (1, 2)
    assert await marks(database) == [(FILE + 48, 2), (FILE + 49, 2)]
    late = await inbox.receive(arrived(1, 2, epoch=FILE + 3, oldest=FILE + 3), effect)
    assert (late.fresh, late.duplicates, late.settled) == ((), 2, 2)


async def test_lanes_nodes_and_files_do_not_mix(database: Database) -> None:
    """A node that lost its file begins at another random epoch, lower or higher: none of it is taken for old."""
    inbox = Inbox(database)
    await inbox.receive(arrived(1, epoch=FILE + 9, oldest=FILE + 9), effect)
    for other in (
        Arrived("edge-1", "uplink/5", 9, 9, 1, (1,)),
        Arrived("edge-1", "uplink/0", FILE + 2, FILE + 2, 1, (1,)),
        Arrived("edge-2", "uplink/5", FILE + 3, FILE + 3, 1, (1,)),
    ):
        assert (await inbox.receive(other, effect)).fresh == (1,)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "fail", "restart"]), st.lists(st.integers(1, 12), min_size=1, max_size=6)
    ),
    max_size=15,
)


async def follow(directory: Path, steps: list[tuple[str, list[int]]]) -> None:
    path, come = directory / "inbox.sqlite3", set[int]()
    database = await Database.open(path, EFFECTS)
    await Inbox(database).prepare()
    for what, seqs in steps:
        if what == "restart":
            await database.close()
            database = await Database.open(path, EFFECTS)
        elif what == "arrive":
            receipt = await Inbox(database).receive(arrived(*seqs), effect)
            assert set(receipt.fresh) == set(seqs) - come
            assert receipt.duplicates == len(seqs) - len(receipt.fresh)
            come |= set(seqs)
        else:
            fresh = set(seqs) - come

            def fails(connection: sqlite3.Connection, seq: int, last: int = max(fresh, default=0)) -> None:
                effect(connection, seq)
                if seq == last:
                    raise LookupError(seq)

            try:
                await Inbox(database).receive(arrived(*seqs), fails)
            except LookupError:
                assert fresh
            else:
                assert not fresh
        assert sorted(await effects(database)) == sorted(come)
        settled = next(seq for seq in range(1, 14) if seq not in come) - 1
        assert await marks(database) in ([], [(FILE + 1, settled)])
        assert not come or await marks(database)
    await database.close()


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_whatever_comes_and_fails_in_between_takes_effect_once(steps: list[tuple[str, list[int]]]) -> None:
    """Fault 77: duplicated, reordered, gapped, undone and after a restart: effects and mark go together."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(follow(Path(directory), steps))
