"""What a device logged, through the command line: the tail, then what follows, each line with its time in UTC."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.wire import frames
from tests.cli.conftest import Shell, environment
from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import REPOSITORY, Interpreter
from tests.device.test_node import address, registered, stop, token
from tests.local_node import LocalNode
from tests.rawclient import RawClient, composite


@pytest.fixture
def shell(node: LocalNode, tmp_path: Path) -> Shell:
    """Somebody who may call everything."""
    credential = node.token("operator", "admin", (), ("*",))
    return Shell(environment(tmp_path, GATEWAY_URL=address(node), GATEWAY_TOKEN=credential))


async def printed(shell: Shell) -> list[dict[str, Any]]:
    result = await shell.run("device", "log", "dev-1", "-o", "json")
    assert result.code == 0, result.err
    # The node is in this process and logs to the same output.
    return [json.loads(line) for line in result.out.splitlines() if line.startswith(b"{")]


async def test_tail_and_follow(node: LocalNode, interpreter: Interpreter, start: Start, shell: Shell) -> None:
    """Lines from before the clock was set have their real time; the ring forgets the oldest; credit holds the device
    back, and who reads slowly misses lines and is told how many."""
    program = await start(interpreter, "logging_device", address(node), DEVICE_TOKEN=token(node))
    await program.expect(unset=0, up=True)
    now = (await program.line())["now"]
    assert abs(now / 1000 - time.time()) < 30
    lines = await printed(shell)
    assert [(line["number"], line["text"]) for line in lines] == [(1, "booted"), (2, "up")]
    times = [datetime.fromisoformat(line["at"]).timestamp() for line in lines]
    assert times == sorted(times)
    assert all(abs(at - time.time()) < 30 for at in times)

    operator = await node.client()
    follower = await node.client(subject="follower")
    number = follower.next_stream_id()
    follower.send(frames.RequestStream(number, composite("dev-1.log"), b"follow", initial_n=1))
    assert (await item(follower)).endswith(b" booted")
    operator.request("dev-1.log.this", "a|b|c|d|e|f|gr\u00fc\u00df\x1b".encode())
    assert isinstance(await operator.recv(), frames.Payload)
    follower.send(frames.RequestN(number, 8))
    rest = [(await item(follower)).decode().split(" ", 2)[::2] for _ in range(5)]
    assert rest == [["2", "up"], ["6", "d"], ["7", "e"], ["8", "f"], ["9", "gr\u00fc\u00df\x1b"]]
    result = await shell.run("device", "log", "dev-1")
    texts = re.findall(r"^\d{4}-\d\d-\d\dT\S+Z (.*)$", result.out.decode(), re.MULTILINE)
    assert texts[:3] == ["d", "e", "f"]
    assert "\x1b" not in texts[3]
    follower.send(frames.Cancel(number))
    await stop(node)
    await program.finish()


async def item(client: RawClient) -> bytes:
    frame = await client.recv(20)
    assert isinstance(frame, frames.Payload), frame
    return frame.data


async def test_follow(node: LocalNode, compiled: Path, start: Start, shell: Shell) -> None:
    program = await start(micropython_compiled(compiled), "logging_device", address(node), DEVICE_TOKEN=token(node))
    await program.expect(unset=0)
    await program.line()
    following = await shell.start("device", "log", "dev-1", "--follow")
    assert following.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert (await following.stdout.readline()).endswith(b" booted\n")
            assert (await following.stdout.readline()).endswith(b" up\n")
            operator = await node.client()
            operator.request("dev-1.log.this", b"new")
            assert (await following.stdout.readline()).endswith(b"Z new\n")
    finally:
        await shell.end()
    await stop(node)
    await program.finish()


async def test_a_device_that_is_not_there(shell: Shell) -> None:
    result = await shell.run("device", "log", "dev-1")
    assert result.code == 1
    assert "no route" in result.err


SNIPPET = re.findall(
    r"^```python\n(.*?)^```", (REPOSITORY / "docs/device/log.md").read_text(), re.DOTALL | re.MULTILINE
)


async def test_the_page(node: LocalNode, compiled: Path, start: Start, shell: Shell, tmp_path: Path) -> None:
    """docs/device/log.md: its first snippet is a program, its second sets a clock whatever its epoch."""
    first = SNIPPET[0].replace("ws://127.0.0.1:7878/rsocket", address(node))
    (tmp_path / "page.py").write_text(f"TOKEN = {node.token('lamp', 'device', ('lamp',))!r}\n{first}")
    program = await start(micropython_compiled(compiled, "72k"), "page")
    await registered(node, "lamp")
    async with asyncio.timeout(30):
        while b" connected\n" not in (result := await shell.run("device", "log", "lamp")).out:
            assert result.code == 0, result.err
    assert b" started\n" in result.out
    program.process.kill()


@pytest.mark.parametrize("epoch", [0, 946_684_800])
def test_setting_the_boards_clock(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board whose seconds count from 2000 gets the same time as one whose count from 1970, and no summer time."""
    real, told = time.gmtime, []
    monkeypatch.setattr(time, "gmtime", lambda seconds: tuple(real(seconds + epoch)))
    machine = ModuleType("machine")
    machine.RTC = lambda: SimpleNamespace(datetime=told.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "machine", machine)
    scope: dict[str, Any] = {}
    exec(SNIPPET[1], scope)
    scope["set_rtc"](1_782_907_200_000)
    assert told == [(2026, 7, 1, 2, 12, 0, 0, 0)]
