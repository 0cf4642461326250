"""Backups: whole or not at all, verified before they are trusted, restored beside what was there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from gateway.control.backups import restore_archive, verify_archive
from gateway.control.devices import NewDevice
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane, schema
from gateway.errors import NotFound, StorageError
from tests.control.conftest import OPERATOR, Site


async def test_a_node_is_as_it_was(site: Site, tmp_path: Path) -> None:
    control = await site.open()
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    key, text = await control.api_keys.create("ci", role="viewer", scopes=[], by=OPERATOR)  # type: ignore[arg-type]
    backup = await control.backups.create(by=OPERATOR)
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
    assert {path.name.split(".before-")[0] for path in kept} == {"gateway.db", "identity"}
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
