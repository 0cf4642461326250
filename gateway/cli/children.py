"""Processes that a command starts and ends: by their id, in order, within a bound of time.

Each child has a session of its own, so that Ctrl-C in the terminal reaches this process alone and the children end when
and in the order it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

GRACE_SECONDS = 15.0


@dataclass(slots=True)
class Child:
    """One running process. `name` is for people."""

    name: str
    process: asyncio.subprocess.Process
    _reading: list[asyncio.Task[None]] = field(default_factory=list)

    async def end(self, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM, and SIGKILL if it has not ended within `grace` seconds. Returns when it is gone."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), grace)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        await asyncio.gather(*self._reading, return_exceptions=True)


async def start(
    name: str,
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    on_line: Callable[[str, str], None] | None = None,
    log: IO[bytes] | None = None,
) -> Child:
    """Start a process. Its output goes line by line to `on_line(name, line)`, or whole into the file `log`."""
    output = asyncio.subprocess.PIPE if on_line is not None else (log or asyncio.subprocess.DEVNULL)
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    child = Child(name, process)
    if on_line is not None and process.stdout is not None:
        child._reading.append(asyncio.create_task(_relay(name, process.stdout, on_line)))
    return child


async def end_all(children: Sequence[Child]) -> None:
    """End them together."""
    await asyncio.gather(*(child.end() for child in children))


@asynccontextmanager
async def until_signalled() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGINT, SIGTERM and SIGHUP set, in place of what they do otherwise."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _relay(name: str, stream: asyncio.StreamReader, on_line: Callable[[str, str], None]) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            # A line beyond the reader's limit; what is left of it comes as the next one.
            continue
        if not line:
            return
        on_line(name, line.decode("utf-8", "replace").rstrip())
