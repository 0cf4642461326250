"""A board on this machine: its firmware as it is, on a real interpreter, in a world that the test writes down.

The board's flash is a directory, and so is its world ($HOST_STATE, see firmware_stubs/README.md). A reset is a new
process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.device.interpreters import FIRMWARE, PATIENCE_S, REPOSITORY, Interpreter

#: How a board ends that resets itself, and one that sleeps.
REBOOT, ASLEEP = 42, 43
SEARCH = ":".join(map(str, (FIRMWARE / "host", FIRMWARE / "appliance", REPOSITORY)))


@dataclass
class Board:
    """`flash` is the working directory, `world` what is around it. `bare`: the SDK is in its flash, and not that of the
    repository. `lines` is all that it has printed so far."""

    interpreter: Interpreter
    main: Path
    flash: Path
    world: Path
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    bare: bool = False
    process: asyncio.subprocess.Process | None = None
    _reading: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flash.mkdir(exist_ok=True)
        self.world.mkdir(exist_ok=True)

    async def boot(self, **environment: str) -> None:
        """Switch it on. Its settings are in its flash."""
        search = str(FIRMWARE / "host") if self.bare else SEARCH
        self.process = await asyncio.create_subprocess_exec(
            *self.interpreter.command,
            str(self.main),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.flash,
            env=self.interpreter.environment()
            # A board that is busy for a moment on a slow machine is no fault.
            | {"MICROPYPATH": f"{search}:.frozen", "PYTHONPATH": search, "PYTHONASYNCIODEBUG": ""}
            | {"HOST_STATE": str(self.world)}
            | environment,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._reading = [
            asyncio.create_task(self._read(self.process.stdout, self.lines)),
            asyncio.create_task(self._read(self.process.stderr, self.errors)),
        ]

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        async for line in stream:
            into.append(line.decode().rstrip("\n"))

    def tell(self, name: str, text: object) -> None:
        """What is around it from now on."""
        beside = self.world / f"{name}~"
        beside.write_text(str(text))
        beside.rename(self.world / name)

    def did(self, name: str) -> str:
        """What it has done last to the world; empty where it has not."""
        with contextlib.suppress(OSError):
            return (self.world / name).read_text()
        return ""

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that it does. The failure says what it printed."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():  # noqa: ASYNC110  (a file and a pipe of another process set no events)
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"it did not; it said {self.lines[-20:]}\n{self.errors}") from None

    def type(self, line: str) -> None:
        """At its serial console."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def ended(self) -> int:
        """Wait until it ends by itself, and return how. Nothing may have died unnoticed."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        await asyncio.gather(*self._reading)
        assert self.errors == [], self.errors
        return code

    async def off(self) -> None:
        """Pull the plug."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        if self.process is not None:
            await self.process.wait()
            await asyncio.gather(*self._reading)
            assert self.errors == [], self.errors
