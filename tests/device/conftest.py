from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.device.interpreters import FIRMWARE, PROGRAMS, REPOSITORY, SDK, Interpreter, Program, binary, compile_to

VARIANTS = ("cpython", "micropython-py", "micropython-mpy")
#: An eighth more than a board's budget: what is held at once depends on when frames come. Budgets: `test_budgets.py`.
HEAP = {"micropython-py": "256k", "micropython-mpy": "56k"}

Start = Callable[..., Awaitable[Program]]


def require(name: str) -> str:
    """The path of a tool. Without it the tests are skipped, but never in continuous integration."""
    path = binary(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing; `make setup` installs it")
        pytest.skip(f"{name} IS MISSING: the device SDK is not tested on MicroPython")
    return path


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory whose name is as short on every machine: MicroPython keeps paths on the heap, 9 bytes a letter."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def compiled() -> Iterator[Path]:
    """A directory with the SDK and the test programs as .mpy files, and `boards`, which is where firmware_stubs/ is.

    Its name is short, as `/lib` is on a board: MicroPython keeps the paths of what it imports on the heap.
    """
    require("mpy-cross")
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as directory:
        target = Path(directory)
        compile_to(target / "device_sdk", *SDK.glob("*.py"))
        compile_to(target, *PROGRAMS.glob("*.py"), optimise=0)
        (target / "boards").symlink_to(FIRMWARE)
        yield target


@pytest.fixture(params=VARIANTS)
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    if request.param == "cpython":
        return cpython()
    if request.param == "micropython-py":
        return micropython_from_source()
    return micropython_compiled(request.getfixturevalue("compiled"))


def cpython() -> Interpreter:
    return Interpreter("cpython", (sys.executable,), (PROGRAMS, REPOSITORY))


def micropython_from_source(heap: str = HEAP["micropython-py"]) -> Interpreter:
    command = (require("micropython"), "-X", f"heapsize={heap}")
    return Interpreter("micropython-py", command, (PROGRAMS, REPOSITORY))


def micropython_compiled(compiled: Path, heap: str = HEAP["micropython-mpy"]) -> Interpreter:
    return Interpreter("micropython-mpy", (require("micropython"), "-X", f"heapsize={heap}"), (compiled,))


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """``await start(interpreter, program, *arguments)`` runs a program of ``programs/``."""
    running: list[Program] = []

    async def run(interpreter: Interpreter, program: str, *arguments: object, **environment: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            *interpreter.command,
            "-m",
            program,
            *map(str, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # The working directory comes first on MicroPython's path: nothing may be found there.
            cwd=tmp_path,
            env=interpreter.environment() | environment,
        )
        running.append(Program(process))
        return running[-1]

    yield run
    for program in running:
        if program.process.returncode is None:
            program.process.kill()
        await program.process.wait()
        await program.errors()
        # What it said and nobody read keeps the pipe open.
        assert program.process.stdout is not None
        await program.process.stdout.read()
