"""A process that takes one bundle after the other is killed (SIGKILL) at any moment: what is on disk is one whole
bundle, never an older one than it had said to act by, and the next process goes on from there."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest

from gateway.control.held_bundles import HeldState
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane
from tests.control.test_held_bundles import Centre, act, know
from tests.prepared import prepared

DOCUMENTS = 20


async def take(data: Path, centre: Path) -> None:
    """Take bundles for ever, and say which one is acted by; every seventh is gone back from."""
    made = Centre(centre)
    async with await ControlPlane.open(data, Identity.open(data)) as control:
        await know(control, made)
        last = control.held_bundles.last
        version = 0 if last is None else last.number
        while True:
            version += 1
            await act(control, made.bundle(version, *(f"v{version}-{n}" for n in range(DOCUMENTS))))
            if version % 7 == 0:
                await control.held_bundles.roll_back("every seventh")
            active = control.held_bundles.active
            print(0 if active is None else active.number, flush=True)


async def killed_once(data: Path, centre: Path, chance: random.Random) -> int:
    """The last version that the child said it acts by."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(data), str(centre), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = 0
    try:
        async with asyncio.timeout(60):
            for _ in range(chance.randint(1, 8)):
                said = int(await process.stdout.readline())
            # Somewhere within the next one.
            await asyncio.sleep(chance.random() * 0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        rest = (await process.communicate())[0].split()
    return int(rest[-1]) if rest else said


async def kill(root: Path, times: int) -> None:
    data, centre = prepared(root / "data"), root / "centre"
    Identity.open(centre, names=())
    chance = random.Random(times)
    for _ in range(times):
        said = await killed_once(data, centre, chance)
        async with await ControlPlane.open(data, Identity.open(data)) as control:
            active = control.held_bundles.active
            assert active is not None, said
            # The next one may be acted by and not have been said.
            assert said <= active.number
            names = {f"v{active.number}-{n}" for n in range(DOCUMENTS)}
            assert {document.name for document in control.documents.standing("Spool")} == names
            assert {document.name for document in (await control.documents.list(limit=200)).items} == names
            states = [held.state for held in (await control.held_bundles.list(limit=200)).items]
            assert states.count(HeldState.ACTIVE) == 1
            assert control.alarms == ()


async def test_one_whole_bundle_is_left(tmp_path: Path) -> None:
    await kill(tmp_path, 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_one_whole_bundle_is_left_every_time(tmp_path: Path) -> None:
    await kill(tmp_path, 200)


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]), Path(sys.argv[2])))
