"""Either side killed at any instant: nothing acknowledged is lost, nothing takes effect twice, keys keep their order.

The checker is Jepsen's for queues: attempts, acknowledged and read are sets of (writer, number); lost is acknowledged
less read, unexpected is read less attempts.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.spool.edge import WINDOW

ROOT = Path(__file__).parents[2]
RESTART_S = 5.0
Told = tuple[str, int]


class Journal:
    """What the processes said, over all of their lives."""

    def __init__(self) -> None:
        self.attempts: set[Told] = set()
        self.acked: set[Told] = set()
        self.again = 0
        self.alarms: list[str] = []

    def note(self, line: bytes) -> None:
        if not line.endswith(b"\n"):  # of a line that was cut nobody was told
            return
        what, *more = line.decode().split()
        match what:
            case "try":
                self.attempts.add((more[0], int(more[1])))
            case "acked":
                self.acked.add((more[0], int(more[1])))
            case "again":
                self.again += int(more[0])
            case "alarm":
                self.alarms.append(more[0])


class Child:
    def __init__(self, journal: Journal, program: str, *arguments: object) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.spool.{program}", *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != b"ready\n":
            assert line, f"{program} ended before it was ready"
            journal.note(line)
        self.took = time.monotonic() - began
        self._reader = threading.Thread(target=self._read, args=(journal,))
        self._reader.start()

    def _read(self, journal: Journal) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                journal.note(line)

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        code = self.process.wait(60)
        self._reader.join(60)
        return code


def torture(directory: Path, rounds: int, seed: int) -> None:
    random = Random(seed)
    journal = Journal()
    spool, inbox = directory / "spool.sqlite3", directory / "inbox.sqlite3"
    # A socket's path may be too long below a test's own directory.
    with tempfile.TemporaryDirectory(prefix="spool-") as short:
        socket = f"{short}/s"
        children: dict[str, Child] = {}

        def start(program: str) -> Child:
            if program == "centre":
                return Child(journal, "centre", inbox, socket)
            return Child(journal, "edge", spool, socket, max((n for _, n in journal.attempts), default=-1) + 1)

        try:
            for program in ("centre", "edge"):
                children[program] = start(program)
            for _ in range(rounds):
                time.sleep(random.uniform(0.0, 0.25))
                program = random.choice(["edge", "edge", "centre"])
                children[program].kill()
                children[program] = start(program)
                assert children[program].took <= RESTART_S
            children["edge"].kill()
            children["edge"] = Child(journal, "edge", spool, socket, -1)
            assert children["edge"].wait() == 0
        finally:
            for child in children.values():
                child.kill()
    check(journal, inbox, rounds + 2)


def check(journal: Journal, inbox: Path, kills: int) -> None:
    with closing(sqlite3.connect(inbox)) as connection:
        read = [tuple(row) for row in connection.execute("SELECT key, number FROM effects ORDER BY rowid")]
    lost = journal.acked - set(read)
    assert not lost, f"{len(lost)} of {len(journal.acked)} acknowledged are lost, such as {sorted(lost)[:5]}"
    assert not set(read) - journal.attempts
    assert len(read) == len(set(read)), "an effect took place twice"
    assert journal.again <= kills * WINDOW
    by_key: dict[str, list[int]] = defaultdict(list)
    for key, number in read:
        by_key[key].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert journal.alarms == []
    assert len(journal.acked) > kills


async def test_killed_twenty_times(tmp_path: Path) -> None:
    """Fault 69, and the first promise in short: kill -9 of either side."""
    await asyncio.to_thread(torture, tmp_path, 20, 69)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_killed_two_hundred_times(tmp_path: Path) -> None:
    """Fault 69, and the first promise: 0 acknowledged messages lost over 200 kills."""
    await asyncio.to_thread(torture, tmp_path, 200, 1069)
