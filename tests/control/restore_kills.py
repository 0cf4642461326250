"""A restore that is killed at every step: `python -m tests.control.restore_kills DIRECTORY`.

A step is a file that is opened, renamed or removed. A child process kills itself before the n-th, for each n until one
comes to its end; then somebody starts on the directory. Prints how many had the old identity and database afterwards,
how many the new ones, and what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

from gateway.control.archive import DATABASE, restore_archive
from gateway.control.audit import SYSTEM
from gateway.control.devices import NewDevice
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane, schema
from tests.upgrade.kills import killed
from tests.upgrade.recordings import rows


async def filled(data: Path, device: str) -> Path:
    """A data directory with a device, and a backup of it."""
    async with await ControlPlane.offline(data) as control:
        await control.devices.create(NewDevice(device), by=SYSTEM)
        return (await control.backups.create(by=SYSTEM)).path


def main(directory: Path) -> None:
    old, new, data = directory / "old", directory / "new", directory / "data"
    asyncio.run(filled(old, "old"))
    backup = asyncio.run(filled(new, "new"))
    shutil.rmtree(old / "backups")
    of_old, of_new = (Identity.open(each, names=()).node_id for each in (old, new))
    expected = {of_old: "old", of_new: "new"}
    found, wrong = {"old": 0, "new": 0}, []
    for step in range(10_000):
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(old, data)
        if not killed(lambda count: restore_archive(backup, data, schema()) and count(), step):
            break
        node_id = Identity.open(data).node_id
        side = expected.get(node_id, "another one")
        devices = [row[0] for row in rows(data / DATABASE)["devices"]]
        if devices != [side]:
            wrong.append(f"killed at {step}: identity {side}, devices {devices}")
        else:
            found[side] += 1
        if any(path.name.startswith(".restore") and path.name != ".restoring" for path in data.iterdir()):
            wrong.append(f"killed at {step}: not finished")
    print(json.dumps({**found, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
