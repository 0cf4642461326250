"""A board that runs on by itself: a reset, a watchdog that bites and a sleep start its firmware again."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Self

from tests.device.interpreters import PATIENCE_S, Interpreter

#: How a board ends that resets itself, and one that sleeps.
RESET, ASLEEP = 42, 43
POLL_S = 0.05


class Rebooting:
    """``await board.expect(runs="1.2.0")`` reads what the firmware says, over all its boots."""

    def __init__(
        self, interpreter: Interpreter, program: str, *arguments: object, root: Path, **environment: str
    ) -> None:
        self.interpreter = interpreter
        self.program = program
        self.arguments = arguments
        self.root = root
        # A board that is busy for a moment on a slow machine is no fault.
        self.environment = {"PYTHONASYNCIODEBUG": ""} | environment
        # Its name is no module's: MicroPython finds directories of the working directory first.
        self.world = root / "state"
        self.world.mkdir(exist_ok=True)
        self.boots = 0
        self.starved = 0
        self.slept: list[int] = []
        self.errors = b""
        self.running = True
        self._lines: asyncio.Queue[Any] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.running = False
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self._task
        if error[1] is None:
            assert self.errors == b"", self.errors.decode()

    async def _run(self) -> None:
        code = RESET
        while code in (RESET, ASLEEP):
            if code == ASLEEP:
                self.slept.append(int((self.world / "sleep").read_text()))
            (self.world / "watchdog").unlink(missing_ok=True)
            self.boots += 1
            self._process = await asyncio.create_subprocess_exec(
                *self.interpreter.command,
                "-m",
                self.program,
                *map(str, self.arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.root,
                env=self.interpreter.environment() | {"HOST_STATE": str(self.world)} | self.environment,
            )
            bites = asyncio.create_task(self._watchdog(self._process))
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            errors = asyncio.create_task(self._process.stderr.read())
            async for line in self._process.stdout:
                self._lines.put_nowait(json.loads(line))
            self.errors += await errors
            code = await self._process.wait()
            if not bites.done():
                bites.cancel()
            elif self.running:
                code = RESET
        self._lines.put_nowait(None)

    async def _watchdog(self, process: asyncio.subprocess.Process) -> None:
        """End a process that does not feed its watchdog any more."""
        bites = self.world / "watchdog"
        while not bites.exists() or time.time() < float(bites.read_text()):  # noqa: ASYNC110  (a file says it)
            await asyncio.sleep(POLL_S)
        self.starved += 1
        (self.world / "reset-cause").write_text("3")
        process.kill()

    async def expect(self, **event: Any) -> Any:
        """The next line, which must hold at least these values."""
        async with asyncio.timeout(PATIENCE_S):
            line = await self._lines.get()
        if line is None or line | event != line:
            raise AssertionError(f"expected {event}, the firmware said {line}\n{self.errors.decode()}")
        return line
