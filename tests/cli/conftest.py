"""The command line as a user runs it, in this process or in one of its own, and a real `gateway run` as a child.

A command costs a process half a second of imports on a small machine; what is held here is mostly what it prints and
its exit code. So `Shell.run` calls it in a thread of this process, with its own standard streams and environment, and
`Shell.spawn` and `Shell.start` are for what needs a process: signals, pipes, the entry point itself.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.cli import main
from gateway.control.runtime import Runtime
from tests.client.peer import free_port

GATEWAY = (sys.executable, "-m", "gateway.cli")


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment in which nothing of the developer's own gateway is found."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY", "XDG_"))}
    return {**keep, "HOME": str(home), "COLUMNS": "200", "PYTHONUNBUFFERED": "1", **more}


@dataclass
class Shell:
    """Runs commands with one environment."""

    environ: dict[str, str]
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    def with_environment(self, **more: str) -> Shell:
        """The same shell with more variables; what it starts ends with this one."""
        return Shell({**self.environ, **more}, self.started)

    async def start(
        self, *arguments: str, stdin: int | None = asyncio.subprocess.DEVNULL
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *GATEWAY,
            *arguments,
            env=self.environ,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(process)
        return process

    async def end(self) -> None:
        """End what a failed test has left running; SIGTERM, so that it ends its own children."""
        for process in self.started:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.communicate(), 20)

    async def run(self, *arguments: str, stdin: bytes | None = None, timeout: float = 30) -> Result:
        """Call the command line in a thread of this process."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def call() -> None:
            result = called(arguments, self.environ, stdin or b"")
            loop.call_soon_threadsafe(lambda: done.done() or done.set_result(result))

        # A daemon, so that a command that hangs fails its test and not the whole run.
        threading.Thread(target=call, name=" ".join(arguments[:2]), daemon=True).start()
        return await asyncio.wait_for(done, timeout)

    async def spawn(self, *arguments: str, stdin: bytes | None = None, timeout: float = 30) -> Result:
        """Run the command line as a process."""
        process = await self.start(
            *arguments, stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), timeout)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Result(process.returncode, out, err.decode())


def called(arguments: tuple[str, ...], environ: dict[str, str], stdin: bytes) -> Result:
    """What the command line does in this process, for which it is given standard streams and an environment."""
    out, err = io.BytesIO(), io.BytesIO()
    with (
        streams(stdin, out, err),
        patch.dict(os.environ, environ, clear=True),
    ):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue().decode())


@contextmanager
def streams(stdin: bytes, out: io.BytesIO, err: io.BytesIO) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", write_through=True)
    try:
        yield
    finally:
        # Whoever keeps one of them must not close what the test reads.
        for stream in (sys.stdout, sys.stderr):
            stream.detach()
        sys.stdin, sys.stdout, sys.stderr = before


@dataclass(frozen=True)
class RunningNode:
    data: Path
    port: int
    tcp_port: int
    environ: dict[str, str]
    """The settings that it was started with."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/rsocket"


@pytest.fixture(autouse=True, scope="package")
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach the commands: a shell starts what it puts into the background with SIGINT ignored, for good."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    shell = Shell(environment(tmp_path / "home"))
    yield shell
    await shell.end()


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One `gateway run --dev --data DIR` for all tests, with its addresses from the environment."""
    directory = tmp_path_factory.mktemp("node")
    data = directory / "data"
    ports = [free_port() for _ in range(2)]
    settings = {
        "GATEWAY__LISTEN__WEBSOCKET": f"127.0.0.1:{ports[0]}",
        "GATEWAY__LISTEN__TCP": f"127.0.0.1:{ports[1]}",
        "GATEWAY__ADMIN__LISTEN": "127.0.0.1:0",
        "GATEWAY__TELEMETRY__LISTEN": "127.0.0.1:0",
    }
    environ = environment(directory, **settings)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (*GATEWAY, "run", "--dev", "--data", data), env=environ, stdout=output, stderr=output
        )
    try:
        until_ready(process, data, log)
        yield RunningNode(data, ports[0], ports[1], settings)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert process.returncode == 0, log.read_text()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Wait until a node has opened all that it opens."""
    deadline = time.monotonic() + 30
    while Runtime.read(data) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
