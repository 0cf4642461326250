"""A node of this version starts on the data of every earlier one, and nothing is lost (fault 96).

The directories were written by earlier commits of this program. The node's clock begins at the moment at which they
were packed, so that the tokens of then still hold.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.config import load
from gateway.control.archive import DATABASE, restore_archive
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane, schema
from gateway.errors import ConfigError, StorageError
from gateway.spool.store import schema as spool_schema
from gateway.spooling.depot import FILE
from gateway.storage.file import lock_of, prepare
from gateway.storage.schema import Schema
from gateway.wire import frames
from tests.local_node import LocalNode, until
from tests.upgrade.recordings import Recording, names, rows, unpacked, version_of
from tests.volumes import small_volume


@pytest.fixture(params=names())
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Recording:
    return unpacked(request.param, tmp_path)


@pytest.fixture
async def node(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalNode]:
    """This version, on the data as it was recorded, a minute later."""
    ahead = recording.at + 60 - time.time()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    local = await LocalNode.start(recording.data)
    yield local
    await local.finish()


def test_this_version_has_recorded_its_own() -> None:
    """A migration comes with a directory of its version: tools/record_data.py writes it."""
    assert names()[-1] == f"{schema().version}-{spool_schema().version}"


def test_no_row_is_lost(recording: Recording) -> None:
    """What a table had before the migrations it has after them, column by column; the copy from before is as it was."""
    files: tuple[tuple[str, Schema, int], ...] = (
        (DATABASE, schema(), recording.control),
        (FILE, spool_schema(), recording.spool),
    )
    for file, wanted, standing in files:
        path = recording.data / file
        if not standing:
            continue
        before = rows(path)
        prepared = prepare(path, wanted)
        assert version_of(path) == wanted.version
        if standing == wanted.version:
            assert (prepared.migrated_from, prepared.copy) == (None, None)
            continue
        assert prepared.migrated_from == standing
        assert prepared.copy is not None
        assert version_of(prepared.copy) == standing
        assert rows(prepared.copy) == before
        assert rows(path, like=prepared.copy) == before


async def test_who_was_there_comes_back(node: LocalNode, recording: Recording) -> None:
    """Node, device, user, key, documents, firmware and waiting messages, and the chain of the audit."""
    recorded = recording.recorded
    control = node.node.control
    assert control is not None
    assert node.node.identity.node_id == recorded["node"]
    assert [path.name for path in recording.data.glob("*.corrupt-*")] == []
    assert {alarm.slug for alarm in control.alarms} == set()
    device = await node.connect()
    device.setup(recorded["token"], (recorded["device"],))
    await device.ready()
    assert not (await control.devices.get("lost-1")).enabled
    assert (await control.authenticate(recorded["key"])).type == "api_key"
    assert (await control.users.get(recorded["user"])).role == "operator"
    assert (await control.audit.verify()).ok
    assert node.node.config.limits.drain_grace_s == 2  # the command line's, before what was set over the API
    if recorded["messages"]:
        servant = await node.servant(name="historian")
        await until(lambda: len(servant.got(frames.RequestFnf)) == recorded["messages"])
        assert [frame.data for frame in servant.got(frames.RequestFnf)] == [
            str(number).encode() for number in range(recorded["messages"])
        ]
    if recording.control >= 5:
        assert (await control.device_configs.list()).items
    if recording.control >= 6:
        (image,) = (await control.firmware.list()).items
        assert (recording.data / "firmware" / image.sha256).is_file()


def test_its_settings_are_taken(recording: Recording) -> None:
    """Every setting that an earlier version had, in a file of its own and as the API has kept it, is one still."""
    config = load(recording.settings, {}, {"node.data": recording.data}, secrets=recording.data / "no-secrets")
    assert config.limits.drain_grace_s == 3
    with recording.settings.open("a") as file:
        file.write("[from_tomorrow]\nlistn = 1\n")
    with pytest.raises(ConfigError) as refused:
        load(recording.settings, {}, {"node.data": recording.data}, secrets=recording.data / "no-secrets")
    assert f"from_tomorrow (in {recording.settings}) is not a setting" in refused.value.text


async def test_its_backup_is_restored(recording: Recording, tmp_path: Path) -> None:
    """Into a directory that is empty: the same node, with what it knew, brought forward."""
    empty = tmp_path / "empty"
    assert restore_archive(recording.backup, empty, schema()) == ()
    assert Identity.open(empty).node_id == recording.recorded["node"]
    async with await ControlPlane.offline(empty) as control:
        assert (await control.devices.get(recording.recorded["device"])).profile == "thermostat"
        assert (await control.audit.verify()).ok


@pytest.mark.parametrize("file", [DATABASE, FILE])
async def test_what_is_newer_is_refused_and_left_alone(file: str, tmp_path: Path) -> None:
    recording = unpacked(names()[-1], tmp_path)
    path = recording.data / file
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, beside = path.read_bytes(), sorted(recording.data.iterdir())
    wanted = schema() if file == DATABASE else spool_schema()
    lock = lock_of(path)
    try:
        with pytest.raises(StorageError) as refused:
            prepare(path, wanted)
    finally:
        lock.release()
    assert refused.value.reason == "storage_newer"
    assert refused.value.text == (
        f"{path} was written by a newer version (schema 99, this program knows {wanted.version}): install that "
        "version again, or restore a backup from before the upgrade"
    )
    assert path.read_bytes() == before
    assert sorted(recording.data.iterdir()) == beside


@contextmanager
def suppress_into(refusals: list[StorageError]) -> Iterator[None]:
    try:
        yield
    except StorageError as refusal:
        refusals.append(refusal)


def test_a_full_disk_while_migrating(tmp_path: Path) -> None:
    """One line, the file as it was, no half of a copy. With more room each time, a start does it in the end."""
    recorded = unpacked(names()[0], tmp_path)
    with small_volume(tmp_path / "volume", "2m") as volume:
        path = volume / DATABASE
        shutil.copy(recorded.data / DATABASE, path)
        before, room = rows(path), shutil.disk_usage(volume).free
        refusals: list[StorageError] = []
        while version_of(path) == recorded.control:
            room -= 32 * 1024
            (volume / "ballast").write_bytes(bytes(max(0, room)))
            with suppress_into(refusals):
                prepare(path, schema())
                continue
            assert rows(path) == before
            assert list(volume.glob("*.schema-*")) == list(volume.glob(".*.new")) == []
        assert len(refusals) > 1
        assert {refusal.reason for refusal in refusals} == {"storage_full"}
        line = f"{path} cannot be brought from schema {recorded.control} to {schema().version}: there is no room"
        assert all(refusal.text.startswith(line) for refusal in refusals)
        assert version_of(path) == schema().version


def test_killed_at_every_step_of_a_migration(tmp_path: Path) -> None:
    """Before each statement, and before each file is opened, renamed or removed: of the old version or of the new one,
    and the next start makes it of the new one with nothing lost."""
    recorded = unpacked(names()[0], tmp_path)
    command = [sys.executable, "-m", "tests.upgrade.kills", str(recorded.data / DATABASE), str(tmp_path / "killed")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    kills = json.loads(done.stdout)
    # As many as the migrations have statements, at least, and on both sides of the commit.
    assert kills["old"] > len(schema().migrations)
    assert kills["new"] > 0
    assert kills["wrong"] == []


def test_a_start_that_is_killed_again_and_again_fills_no_disk(tmp_path: Path) -> None:
    """A few copies are kept, the newest; what a copy was when its maker was killed is removed."""
    recorded = unpacked(names()[0], tmp_path)
    for day in range(1, 6):
        (recorded.data / f"{DATABASE}.schema-{day * 3}-2026010{day}T000000Z").write_bytes(b"")
        (recorded.data / f".{DATABASE}.schema-1-2026010{day}T000000Z.new").write_bytes(b"half")
    copy = prepare(recorded.data / DATABASE, schema()).copy
    assert copy is not None
    kept = {path.name for path in recorded.data.glob("*.schema-*")}
    assert kept == {f"{DATABASE}.schema-12-20260104T000000Z", f"{DATABASE}.schema-15-20260105T000000Z", copy.name}
    assert list(recorded.data.glob(".*.new")) == []
