"""A board: starts its firmware again after each reset, and keeps what survives one in a directory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Self

from tests.device.interpreters import PATIENCE_S, Interpreter

RESET = 42


class Board:
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
        self.boots = 0
        self.errors = b""
        self._lines: asyncio.Queue[Any] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self._task
        if error[1] is None:
            assert self.errors == b"", self.errors.decode()

    async def _run(self) -> None:
        code = RESET
        while code == RESET:
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
                env=self.interpreter.environment() | self.environment,
            )
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            errors = asyncio.create_task(self._process.stderr.read())
            async for line in self._process.stdout:
                self._lines.put_nowait(json.loads(line))
            self.errors += await errors
            code = await self._process.wait()
        self._lines.put_nowait(None)

    async def expect(self, **event: Any) -> Any:
        """The next line, which must hold at least these values."""
        async with asyncio.timeout(PATIENCE_S):
            line = await self._lines.get()
        if line is None or line | event != line:
            raise AssertionError(f"expected {event}, the firmware said {line}\n{self.errors.decode()}")
        return line
