"""Backups: whole or not at all, verified before they are trusted, restored beside what was there."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from gateway.control.archive import restore_archive, verify_archive
from gateway.control.devices import NewDevice
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane, schema
from gateway.errors import NotFound, StorageError
from tests.control.conftest import OPERATOR, Site
from tests.volumes import resize, small_volume


async def test_a_node_is_as_it_was(site: Site, tmp_path: Path) -> None:
    control = await site.open()
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    key, text = await control.api_keys.create("ci", role="viewer", scopes=[], by=OPERATOR)  # type: ignore[arg-type]
    (site.data / "settings.toml").write_text("[log]\nlevel = 'debug'\n")
    backup = await control.backups.create(by=OPERATOR)
    (site.data / "settings.toml").write_text("[log]\nlevel = 'error'\n")
    await control.devices.create(NewDevice("b"), by=OPERATOR)
    assert (await control.backups.verify(backup.id)).ok
    assert [found.id for found in await control.backups.list()] == [backup.id]
    assert (await control.backups.get(backup.id)).sha256 == backup.sha256
    assert backup.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError) as refused:
        restore_archive(backup.path, site.data, schema())
    assert refused.value.reason == "storage_locked"
    await site.close()

    kept = restore_archive(backup.path, site.data, schema())
    assert {path.name.split(".before-")[0] for path in kept} == {"gateway.db", "identity", "settings.toml"}
    assert (site.data / "settings.toml").read_text() == "[log]\nlevel = 'debug'\n"
    control = await site.open()
    assert [device.id for device in (await control.devices.list()).items] == ["a"]
    assert (await control.authenticate(text)).id == key.id
    assert (await control.audit.verify()).ok
    await site.close()

    elsewhere = tmp_path / "elsewhere"
    assert restore_archive(backup.path, elsewhere, schema()) == ()
    assert Identity.open(elsewhere).node_id == site.identity.node_id
    async with await ControlPlane.offline(elsewhere) as restored:
        assert await restored.devices.count() == 1
    assert (elsewhere / "identity" / "signing-key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "other", "traversal", "foreign member"])
async def test_a_damaged_backup_is_not_restored(site: Site, damage: str) -> None:
    control = await site.open()
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    backup = await control.backups.create(by=OPERATOR)
    await site.close()
    content = bytearray(backup.path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    elif damage == "other":
        content[:] = b"x" * 20_000
    else:
        name = "../outside" if damage == "traversal" else "identity/sub/dir"
        stream = io.BytesIO(bytes(content))
        with tarfile.open(fileobj=stream, mode="a") as archive:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        content[:] = stream.getvalue()
    backup.path.write_bytes(content)
    check = verify_archive(backup.path, schema())
    assert not check.ok
    assert check.why
    before = (site.data / "gateway.db").read_bytes()
    with pytest.raises(StorageError) as refused:
        restore_archive(backup.path, site.data, schema())
    assert refused.value.reason == "backup_damaged"
    assert (site.data / "gateway.db").read_bytes() == before
    assert not (site.data.parent / "outside").exists()
    assert (await (await site.open()).devices.get("a")).id == "a"


async def test_names_that_are_none(control: ControlPlane) -> None:
    """fault 98: path tricks"""
    for name in ("../identity/ca.pem", "x", "", "20260101T000000.000000Z.tar", "/etc/passwd"):
        for attempt in (control.backups.get, control.backups.verify):
            with pytest.raises(NotFound):
                await attempt(name)
        with pytest.raises(NotFound):
            await control.backups.delete(name, by=OPERATOR)


async def test_a_backup_goes_when_it_is_deleted(control: ControlPlane) -> None:
    backup = await control.backups.create(by=OPERATOR)
    await control.backups.delete(backup.id, by=OPERATOR)
    assert await control.backups.list() == ()
    actions = [entry.action for entry in (await control.audit.list()).items]
    assert actions == ["backup.delete", "backup.create"]


async def test_a_backup_of_another_version(site: Site, tmp_path: Path) -> None:
    """fault 96: one of a newer version says so, whichever part of it is newer, and nothing is changed."""
    control = await site.open()
    backup = await control.backups.create(by=OPERATOR)
    await site.close()
    newer, format_3 = tmp_path / "newer.tar", tmp_path / "format-3.tar"
    with tarfile.open(backup.path) as archive:
        archive.extractall(tmp_path / "in", filter="data")
    with closing(sqlite3.connect(tmp_path / "in" / "gateway.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA journal_mode = DELETE")
    manifest = json.loads((tmp_path / "in" / "manifest.json").read_text())
    for file in ("gateway.db", "manifest.json"):
        manifest["files"]["gateway.db"] = hashlib.sha256((tmp_path / "in" / "gateway.db").read_bytes()).hexdigest()
        manifest["format"] = 2 if file == "gateway.db" else 3
        (tmp_path / "in" / "manifest.json").write_text(json.dumps(manifest))
        with tarfile.open(newer if file == "gateway.db" else format_3, "w") as archive:
            for name in ("manifest.json", *sorted(manifest["files"])):
                archive.add(tmp_path / "in" / name, name)
    before = (site.data / "gateway.db").read_bytes()
    for path, why in (
        (newer, f"a newer version wrote it (schema 99, this program knows {schema().version}): restore it with that"),
        (format_3, "it has format 3, this program knows 2"),
    ):
        assert verify_archive(path, schema()).why == why
        with pytest.raises(StorageError) as refused:
            restore_archive(path, site.data, schema())
        assert refused.value.text == f"{path} is no sound backup: {why}"
    assert (site.data / "gateway.db").read_bytes() == before


async def test_a_full_disk_while_restoring(site: Site, tmp_path: Path) -> None:
    """Nothing is changed, and the line names what is full."""
    control = await site.open()
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    backup = await control.backups.create(by=OPERATOR)
    await site.close()
    with small_volume(tmp_path / "volume", "128k") as volume:
        data = volume / "data"
        with pytest.raises(StorageError) as refused:
            restore_archive(backup.path, data, schema())
        assert refused.value.text.startswith(f"nothing is restored into {data}, which is as it was: ")
        assert refused.value.text.endswith("No space left on device")
        assert {path.name for path in data.iterdir()} == {"gateway.db.lock"}
        resize(volume, "4m")
        restore_archive(backup.path, data, schema())
        async with await ControlPlane.offline(data) as restored:
            assert await restored.devices.count() == 1


def test_killed_at_every_step_of_a_restore(tmp_path: Path) -> None:
    """The next start has what was there, or what was restored; never the one's identity with the other's database."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.control.restore_kills", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    kills = json.loads(done.stdout)
    assert kills["old"] > 5
    assert kills["new"] > 2
    assert kills["wrong"] == []


async def test_what_a_killed_backup_has_left_is_removed(site: Site) -> None:
    control = await site.open()
    kept = await control.backups.create(by=OPERATOR)
    await site.close()
    for name in (".20260101T000000.000000Z.db", ".20260101T000000.000000Z.tar.new"):
        (kept.path.parent / name).write_bytes(b"half")
    await site.open()
    assert list(kept.path.parent.iterdir()) == [kept.path]
