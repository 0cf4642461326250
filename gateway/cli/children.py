"""Processes that a command starts and ends: by their id, in order, within a bound of time.

Each child has a session of its own, so that Ctrl-C in the terminal reaches this process alone and the children end when
and in the order it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

GRACE_SECONDS = 15.0


class Child:
    """One process, started again when it ends with the exit code `again`. `name` is for people."""

    def __init__(
        self, name: str, launch: Callable[[], Awaitable[asyncio.subprocess.Process]], again: int | None
    ) -> None:
        self.name = name
        self._launch = launch
        self._again = again
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[int] | None = None
        self._ending = asyncio.Event()

    async def start(self) -> None:
        """Raises OSError when the program cannot be run."""
        self._process = await self._launch()
        self._life = asyncio.create_task(self._live(), name=self.name)

    @property
    def running(self) -> bool:
        return self._life is not None and not self._life.done()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def wait(self) -> int:
        """Wait until it has ended for good; return its exit code."""
        assert self._life is not None
        return await asyncio.shield(self._life)

    async def end(self, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM, and SIGKILL if it has not ended within `grace` seconds. Returns when it is gone."""
        self._ending.set()
        if self._process is None or self._life is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.wait()

    async def _live(self) -> int:
        assert self._process is not None
        while True:
            code = await self._process.wait()
            if self._ending.is_set() or code != self._again:
                return code
            self._process = await self._launch()
            if self._ending.is_set():
                self._process.terminate()


async def start(
    name: str,
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    on_line: Callable[[str, str], None] | None = None,
    log: IO[bytes] | None = None,
    directory: Path | None = None,
    again: int | None = None,
) -> Child:
    """Start a process. Its output goes line by line to `on_line(name, line)`, or whole into the file `log`."""
    readers: set[asyncio.Task[None]] = set()

    async def launch() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            env={**os.environ, **environ},
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if on_line is not None else (log or asyncio.subprocess.DEVNULL),
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        if on_line is not None and process.stdout is not None:
            reader = asyncio.create_task(_relay(name, process.stdout, on_line))
            readers.add(reader)
            reader.add_done_callback(readers.discard)
        return process

    child = Child(name, launch, again)
    await child.start()
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
