"""A migration that is killed at every step: `python -m tests.upgrade.kills DATABASE DIRECTORY`.

A step is a statement, or a file that is opened, renamed or removed. A child process kills itself before the n-th, for
each n until one comes to its end. Prints how many had left the file of the old version and of the new one, and what was
wrong with it after the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.control.plane import schema
from gateway.storage import file
from tests.upgrade.recordings import rows, version_of

EVENTS = {"open", "os.rename", "os.remove"}


def killed(work: Callable[[Callable[..., None]], object], step: int) -> bool:
    """Whether a child that does it was killed before this step of it. What `work` is given counts a step."""
    child = os.fork()
    if child == 0:
        left = step

        def count(*what: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(lambda event, arguments: count() if event in EVENTS else None)
        work(count)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def prepare(path: Path, count: Callable[..., None]) -> None:
    """As a start does it, each statement a step."""
    connect = file.connect

    def traced(database: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(database, read_only=read_only)
        connection.set_trace_callback(count)
        return connection

    file.connect = traced
    file.prepare(path, schema())
    count()


def main(database: Path, directory: Path) -> None:
    found: dict[str, list[str] | int] = {"old": 0, "new": 0}
    wrong: list[str] = []
    before, standing, wanted = rows(database), version_of(database), schema().version
    for step in range(10_000):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        path = directory / database.name
        shutil.copy(database, path)
        if not killed(partial(prepare, path), step):
            break
        version = version_of(path)
        if rows(path, like=database) != before or version not in (standing, wanted):
            wrong.append(f"killed at {step}: version {version}")
        side = "old" if version == standing else "new"
        found[side] = int(str(found[side])) + 1
        file.prepare(path, schema())
        if rows(path, like=database) != before or version_of(path) != wanted:
            wrong.append(f"started after a kill at {step}: version {version_of(path)}")
        copies = [copy for copy in directory.glob("*.schema-*") if rows(copy) == before]
        if not copies:
            wrong.append(f"no copy after a kill at {step}")
    print(json.dumps({**found, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
