"""Whatever happens to the process or the power: what was acknowledged is there, and the next start is quick.

Each round starts a process that writes (`tests.storage.load`), ends it in the middle, and opens the database again.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from tests.storage.stores import Alarms, numbers, opened
from tests.volumes import cut_power, image, mounted

__all__ = ["image"]
ROOT = Path(__file__).parents[2]
RESTART_S = 5.0


class Load:
    """One process that writes. `acknowledged`: what it has told so far, read as it comes."""

    def __init__(self, path: Path, first: int) -> None:
        self.acknowledged: list[int] = []
        self.refused = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.load", str(path), str(first)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                if line.startswith(b"refused"):
                    self.refused = line.decode().split()[1]
                elif line.endswith(b"\n"):  # of a line that was cut nobody was told
                    self.acknowledged.append(int(line))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        self.process.wait(60)
        self._reader.join(60)


async def check(path: Path, promised: set[int]) -> int:
    """Everything that was promised is there; return the first number that is free."""
    alarms = Alarms()
    began = time.monotonic()
    database = await opened(path, alarms)
    there = await database.read(numbers)
    took = time.monotonic() - began
    verdict = await database.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0])
    await database.close()
    lost = promised - set(there)
    assert not lost, f"{len(lost)} of {len(promised)} acknowledged are lost, such as {sorted(lost)[:5]}"
    assert verdict == "ok"
    assert alarms.raised == []
    assert took <= RESTART_S
    return max([*there, -1]) + 1


async def killed(path: Path, rounds: int) -> None:
    random = Random(69)
    promised: set[int] = set()
    first = 0
    for _ in range(rounds):
        load = await asyncio.to_thread(Load, path, first)
        await asyncio.sleep(random.uniform(0.0, 0.15))
        await asyncio.to_thread(load.kill)
        promised.update(load.acknowledged)
        first = await check(path, promised)
    assert len(promised) > rounds


async def test_killed_at_any_instant(tmp_path: Path) -> None:
    """fault 69: twenty times"""
    await killed(tmp_path / "test.db", 20)


@pytest.mark.soak
async def test_killed_at_any_instant_for_long(tmp_path: Path) -> None:
    """fault 69: two hundred times"""
    await killed(tmp_path / "test.db", 200)


async def cut(image: Path, volume: Path, rounds: int) -> None:
    random = Random(70)
    promised: set[int] = set()
    first = 0
    path = volume / "data" / "test.db"
    for _ in range(rounds):
        with mounted(image, volume):
            load = await asyncio.to_thread(Load, path, first)
            await asyncio.sleep(random.uniform(0.02, 0.3))
            # What comes later comes from a machine that has no power: ext4 lets a sync that is under way when it goes
            # down succeed, although it wrote nothing.
            promised.update(load.acknowledged)
            cut_power(volume)
            await asyncio.to_thread(load.kill)
        with mounted(image, volume):
            first = await check(path, promised)
    assert len(promised) > rounds


async def test_power_cut(image: Path, tmp_path: Path) -> None:
    """fault 70: five times"""
    await cut(image, tmp_path / "volume", 5)


@pytest.mark.soak
async def test_power_cut_for_long(image: Path, tmp_path: Path) -> None:
    """fault 70: fifty times"""
    await cut(image, tmp_path / "volume", 50)


async def test_a_disk_that_fails(image: Path, tmp_path: Path) -> None:
    """fault 71: EIO on write and sync; the writer is refused, tells of nothing as stored, and nothing told is lost"""
    volume = tmp_path / "volume"
    path = volume / "data" / "test.db"
    with mounted(image, volume):
        load = await asyncio.to_thread(Load, path, 0)
        await asyncio.sleep(0.3)
        promised = set(load.acknowledged)
        cut_power(volume)
        await asyncio.to_thread(load.wait)
        assert load.process.returncode == 0
        assert load.refused == "storage_failed"
    with mounted(image, volume):
        await check(path, promised)
    assert promised
