"""The control plane as a whole: what it opens, publishes, keeps and shows."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from gateway.control.access_rules import AccessRules
from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane, schema
from gateway.errors import AlreadyExists, InvalidChange, NotFound, StorageError
from tests.control.conftest import OPERATOR, Site


async def test_one_node_for_a_data_directory(site: Site) -> None:
    """fault 75"""
    await site.open()
    with pytest.raises(StorageError) as refused:
        await ControlPlane.offline(site.data)
    assert refused.value.reason == "storage_locked"


async def test_a_damaged_database_is_an_alarm_that_stands(site: Site) -> None:
    """fault 73"""
    control = await site.open()
    await control.devices.create_many([NewDevice(f"d{n}") for n in range(500)], by=OPERATOR)
    await site.close()
    content = bytearray((site.data / "gateway.db").read_bytes())
    content[8 * 4096 : 12 * 4096] = bytes(4 * 4096)
    (site.data / "gateway.db").write_bytes(content)
    control = await site.open()
    assert site.alarms == ["database_quarantined"]
    (alarm,) = control.alarms
    assert "restore a backup" in alarm.text
    assert await control.devices.count() == 0
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    assert len(control.alarms) == 1


async def test_migrations_are_numbered_and_whole() -> None:
    assert [migration.number for migration in schema().migrations] == list(range(1, schema().version + 1))


async def test_the_schema_is_strict_where_it_matters(site: Site) -> None:
    await site.open()
    await site.close()
    with closing(sqlite3.connect(site.data / "gateway.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema().version,)


async def test_many_changes_are_one_publication(site: Site) -> None:
    control = await site.open()
    published = len(site.published)
    await asyncio.gather(*(control.devices.create(NewDevice(f"d{n}"), by=OPERATOR) for n in range(300)))
    await asyncio.sleep(0)
    assert len(site.published) - published <= control.database.commits + 1
    told = frozenset().union(*(p.subjects or frozenset() for p in site.published[published:]))
    assert told == {f"d{n}" for n in range(300)}
    assert len(site.published[-1].access.devices) == 300


async def test_what_was_published_does_not_change_under_its_reader(site: Site) -> None:
    control = await site.open()
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    await asyncio.sleep(0)
    before = site.published[-1].access
    await control.devices.create(NewDevice("b"), by=OPERATOR)
    await asyncio.sleep(0)
    assert set(before.devices) == {"a"}
    assert set(site.published[-1].access.devices) == {"a", "b"}


async def test_settings_that_change(site: Site) -> None:
    control = await site.open()
    control.govern(AccessRules(registered_only=True, device_ttl_s=60))
    await asyncio.sleep(0)
    assert site.published[-1].access.registered_only
    assert site.published[-1].subjects is None
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    issued = await control.credentials.issue("a", by=OPERATOR)
    assert issued.expires_at - issued.credential.issued_at == 60


async def test_revisions_of_the_settings(control: ControlPlane) -> None:
    assert await control.config_history.latest() is None
    for n in range(3):
        await control.config_history.append(f"a = {n}", comment=f"step {n}", by=OPERATOR)
    latest = await control.config_history.latest()
    assert latest is not None
    assert (latest.id, latest.text, latest.by, latest.comment) == (3, "a = 2", "alice", "step 2")
    assert (await control.config_history.get(1)).text == "a = 0"
    assert [revision.id for revision in (await control.config_history.list(limit=2)).items] == [3, 2]
    with pytest.raises(NotFound):
        await control.config_history.get(9)
    with pytest.raises(InvalidChange):
        await control.config_history.append("#" * 300_000, by=OPERATOR)


async def test_a_request_that_is_sent_again_is_answered_again(site: Site) -> None:
    control = await site.open()
    kept = control.idempotency
    assert await kept.begin("k", "alice", "digest") is None
    with pytest.raises(AlreadyExists) as busy:
        await kept.begin("k", "alice", "digest")
    assert busy.value.reason == "in_progress"
    await kept.finish("k", "alice", 201, {"etag": '"1"'}, b"{}")
    control = await site.open()
    kept = control.idempotency
    stored = await kept.begin("k", "alice", "digest")
    assert stored is not None
    assert (stored.status, stored.headers, stored.body) == (201, {"etag": '"1"'}, b"{}")
    with pytest.raises(InvalidChange):
        await kept.begin("k", "alice", "another digest")
    assert await kept.begin("k", "bob", "digest") is None
    await kept.abandon("k", "bob")
    assert await kept.begin("k", "bob", "digest") is None
    # The node was killed in the middle: after a minute it may be sent again; after a day everything is forgotten.
    site.clock.now += 61
    assert await kept.begin("k", "bob", "digest") is None
    assert await kept.begin("k", "alice", "digest") == stored
    site.clock.now += 86_400
    assert await kept.begin("k", "alice", "another digest") is None
