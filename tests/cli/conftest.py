"""A real `gateway run` as a child process, and the command line run as a user runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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


@dataclass
class RunningNode:
    data: Path
    port: int
    tcp_port: int
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/rsocket"


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    shell = Shell(environment(tmp_path / "home"))
    yield shell
    await shell.end()


@pytest.fixture
async def node(tmp_path: Path, shell: Shell) -> AsyncIterator[RunningNode]:
    """`gateway run --dev --data DIR` with its addresses from the environment."""
    data = tmp_path / "data"
    ports = [free_port() for _ in range(2)]
    child = shell.with_environment(
        GATEWAY__LISTEN__WEBSOCKET=f"127.0.0.1:{ports[0]}",
        GATEWAY__LISTEN__TCP=f"127.0.0.1:{ports[1]}",
        GATEWAY__ADMIN__LISTEN="127.0.0.1:0",
        GATEWAY__TELEMETRY__LISTEN="127.0.0.1:0",
    )
    process = await child.start("run", "--dev", "--data", str(data))
    try:
        await until_accepting(process, ports[0])
        yield RunningNode(data, ports[0], ports[1], process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, err.decode()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_accepting(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            if process.returncode is not None:
                out, err = await process.communicate()
                raise AssertionError((out + err).decode())
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
