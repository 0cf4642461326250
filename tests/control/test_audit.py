"""The audit trail: what was done and what was refused, in a chain that shows every tampering."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from gateway.control.audit import GENESIS, KEPT_S, Actor
from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane
from gateway.control.roles import Role
from gateway.errors import InvalidChange, StorageError
from tests.control.conftest import OPERATOR, Site

ROWS = 30


async def filled(site: Site) -> None:
    control = await site.open()
    for n in range(ROWS):
        await control.devices.create(NewDevice(f"d{n}"), by=OPERATOR)
        site.clock.now += 1.5
    check = await control.audit.verify()
    assert (check.ok, check.entries) == (True, ROWS)
    await site.close()


def tamper(site: Site, *statements: str) -> None:
    """As somebody does who has the file and knows SQL."""
    with closing(sqlite3.connect(site.data / "gateway.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_a_change_tells_who_what_and_how_it_was(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("a", profile="lamp"), by=OPERATOR)
    await control.devices.update("a", {"profile": "pump"}, by=OPERATOR)
    update, create = (await control.audit.list()).items
    assert (create.action, create.object, create.outcome, create.before) == ("device.create", "device:a", "ok", None)
    assert (update.actor_type, update.actor_id, update.ip, update.request_id) == ("user", "alice", "192.0.2.7", "req-1")
    assert update.diff == {"profile": ["lamp", "pump"], "version": [1, 2]}
    assert update.before == create.after
    assert update.after not in (None, update.before)


async def test_secrets_are_masked(control: ControlPlane) -> None:
    """fault 101"""
    await control.users.create("bob", "a long password", role=Role.VIEWER, scopes=[], by=OPERATOR)
    await control.users.set_password("bob", "another password", by=OPERATOR)
    details = {"password": "hunter2", "token": "t", "nested": {"api_secret": "s", "plain": 1}, "token_id": "x"}
    entry = await control.audit.record(OPERATOR, "test", "thing", details=details)
    assert entry.diff == {
        "password": "***",
        "token": "***",
        "nested": {"api_secret": "***", "plain": 1},
        "token_id": "x",
    }
    entries = [entry async for entry in control.audit.export()]
    assert not any("long password" in str(entry) or "another" in str(entry) for entry in entries)


@pytest.mark.parametrize(
    ("statements", "broken_at"),
    [
        (["DROP TRIGGER audit_is_never_changed", "UPDATE audit SET actor_id = 'mallory' WHERE id = 7"], 7),
        (["DROP TRIGGER audit_is_never_changed", "UPDATE audit SET at = at + 1 WHERE id = 7"], 7),
        (["DROP TRIGGER audit_is_never_changed", "UPDATE audit SET diff = '{}' WHERE id = 1"], 1),
        (["DROP TRIGGER audit_is_never_changed", "UPDATE audit SET digest = 'x' WHERE id = 30"], 30),
        (["DELETE FROM audit WHERE id = 7"], 7),
        (["DELETE FROM audit WHERE id < 7"], 1),
        (["DELETE FROM audit WHERE id > 25"], 26),
        (["DELETE FROM audit"], 1),
        (
            [
                "DROP TRIGGER audit_is_never_changed",
                "UPDATE audit SET id = 99 WHERE id = 7",
                "UPDATE audit SET id = 7 WHERE id = 8",
                "UPDATE audit SET id = 8 WHERE id = 99",
            ],
            7,
        ),
    ],
)
async def test_whatever_was_tampered_with_is_found(site: Site, statements: list[str], broken_at: int) -> None:
    """fault 102: a row edited, removed, moved; the beginning or the end cut off"""
    await filled(site)
    tamper(site, *statements)
    check = await (await site.open()).audit.verify()
    assert not check.ok
    assert check.broken_at == broken_at
    assert check.why


async def test_a_row_cannot_be_changed_by_mistake(site: Site) -> None:
    await filled(site)
    with pytest.raises(sqlite3.IntegrityError):
        tamper(site, "UPDATE audit SET actor_id = 'mallory' WHERE id = 7")


async def test_old_rows_go_and_the_chain_holds(site: Site) -> None:
    await filled(site)
    control = await site.open()
    pruned = await control.audit.prune(site.clock.now - 15)
    assert 0 < pruned < ROWS
    check = await control.audit.verify()
    assert (check.ok, check.entries) == (True, ROWS - pruned)
    assert await control.audit.prune(site.clock.now + KEPT_S) == ROWS - pruned
    await control.devices.create(NewDevice("after"), by=OPERATOR)
    check = await control.audit.verify()
    assert (check.ok, check.entries) == (True, 1)
    assert check.head != GENESIS


async def test_a_change_that_cannot_be_audited_is_not_made(control: ControlPlane) -> None:
    """fault 102"""
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    unauditable = Actor("user", "alice", request_id=b"\xff")  # type: ignore[arg-type]
    with pytest.raises(StorageError) as refused:
        await control.devices.update("a", {"profile": "x"}, by=unauditable)
    assert refused.value.reason == "audit_failed"
    assert (await control.devices.get("a")).profile == ""
    assert (await control.audit.verify()).entries == 1


async def test_a_full_database_refuses_changes_but_not_what_takes_rights_away(site: Site) -> None:
    """fault 102, fault 72: no change without its audit row; who has to go, goes"""
    control = await site.open(max_bytes=1024 * 1024)
    filler, notes = 0, "x" * 4000
    with pytest.raises(StorageError) as refused:
        await fill(control, notes)
    assert refused.value.reason == "storage_full"
    filler = await control.devices.count()
    assert [alarm.slug for alarm in control.alarms] == ["storage_full"]
    assert (await control.audit.verify()).entries == filler
    assert (await control.devices.disable("d0", by=OPERATOR)).enabled is False
    for n in range(1, 60):
        await control.devices.delete(f"d{n}", by=OPERATOR)
    await control.devices.create(NewDevice("again", notes=notes), by=OPERATOR)
    assert control.alarms == ()
    assert (await control.audit.verify()).ok


async def fill(control: ControlPlane, notes: str) -> None:
    for n in range(1000):
        await control.devices.create(NewDevice(f"d{n}", notes=notes), by=OPERATOR)


async def test_changes_at_once_are_one_chain(control: ControlPlane) -> None:
    await asyncio.gather(*(control.devices.create(NewDevice(f"d{n}"), by=OPERATOR) for n in range(200)))
    check = await control.audit.verify()
    assert (check.ok, check.entries) == (True, 200)
    assert control.database.commits < 50


async def test_entries_are_found(site: Site) -> None:
    await filled(site)
    control = await site.open()
    await control.devices.disable("d3", by=Actor("cli", "root"))
    for filters, count in (
        ({"actor": "root"}, 1),
        ({"action": "device."}, ROWS + 1),
        ({"action": "device.disable"}, 1),
        ({"object": "device:d3"}, 2),
        ({"outcome": "refused"}, 0),
        ({"since": site.clock.now - 15}, 11),
        ({"until": site.clock.now - 15}, ROWS + 1 - 11),
    ):
        assert await control.audit.count(**filters) == count, filters  # type: ignore[arg-type]
    page = await control.audit.list(limit=4)
    assert [entry.id for entry in page.items] == [31, 30, 29, 28]
    page = await control.audit.list(limit=4, cursor=page.next)
    assert [entry.id for entry in page.items] == [27, 26, 25, 24]
    with pytest.raises(InvalidChange):
        await control.audit.list(colour="red")
