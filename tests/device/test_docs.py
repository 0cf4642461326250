"""docs/device/sdk.md: every snippet is a program that runs as printed, on both interpreters, against a real node."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from device_sdk import Device
from gateway.wire import frames
from tests.device.conftest import Start, cpython, micropython_from_source
from tests.device.interpreters import REPOSITORY, Interpreter, Program
from tests.device.test_node import address, registered
from tests.local_node import LocalNode, until

PAGE = (REPOSITORY / "docs" / "device" / "sdk.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FIRST, ASKING, SERVING, POSTING = range(4)

Run = Callable[..., Awaitable[Program]]


@pytest.fixture(params=["cpython", "micropython-py"])
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    return cpython() if request.param == "cpython" else micropython_from_source()


@pytest.fixture
def run(node: LocalNode, interpreter: Interpreter, start: Start, tmp_path: Path) -> Run:
    async def run(snippet: int, subject: str) -> Program:
        token = node.token(subject, "device", (subject,))
        program = SNIPPETS[snippet].replace("ws://127.0.0.1:7878/rsocket", address(node))
        (tmp_path / f"snippet{snippet}.py").write_text(f"TOKEN = {token!r}\n{program}")
        return await start(interpreter, f"snippet{snippet}")

    return run


async def output(program: Program) -> list[str]:
    assert program.process.stdout is not None
    text = (await program.process.stdout.read()).decode()
    assert await program.process.wait() == 0, await program.errors()
    return text.splitlines()


async def test_first_device(node: LocalNode, run: Run) -> None:
    listener = await node.client(serving=("telemetry",))
    program = await run(FIRST, "lamp")
    await registered(node, "lamp")
    telemetry = await listener.recv(20)
    assert isinstance(telemetry, frames.RequestFnf)
    assert telemetry.data == b'{"on": true}'
    client = await node.client()
    client.request("lamp.set", b"on")
    answer = await client.recv(20)
    assert isinstance(answer, frames.Payload)
    assert answer.data == b"now on"
    program.process.kill()
    await until(lambda: not any(route.service == "lamp" for route in node.node.plane.table), 20)


async def test_asking_and_serving(node: LocalNode, run: Run) -> None:
    serving = await run(SERVING, "lamp")
    await registered(node, "lamp")
    lines = await output(await run(ASKING, "dev-1"))
    assert lines == ["now off", "blink 0", "blink 1", "blink 2", "one", "two"]
    assert serving.process.stdout is not None
    assert await serving.process.stdout.readline() == b"nobody answers this\n"
    serving.process.kill()
    await until(lambda: not any(route.service == "lamp" for route in node.node.plane.table), 20)


async def test_posting(node: LocalNode, run: Run) -> None:
    servant = await node.servant(name="telemetry")
    assert await output(await run(POSTING, "dev-1")) == []
    assert [frame.data for frame in servant.got(frames.RequestResponse)] == [b"0", b"1", b"2"]


def test_every_snippet_is_run() -> None:
    assert len(SNIPPETS) == 4


def test_every_setting_is_documented() -> None:
    settings = {
        name for name, value in vars(Device).items() if not name.startswith("_") and not inspect.isroutine(value)
    }
    assert "keepalive_ms" in settings
    for name in settings - {"ws", "error", "runner", "ready", "supervise"}:
        assert f"`{name}`" in PAGE, name
