"""A device that nobody looks after: its Wi-Fi, its watchdog, its sleep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.wire import frames
from tests.device.conftest import Start, cpython, micropython_compiled
from tests.device.interpreters import FIRMWARE, Interpreter
from tests.device.peer import Link, Peer, composite, route_of
from tests.device.rebooting import Rebooting


@pytest.fixture(params=["cpython", "micropython-mpy"])
def board(request: pytest.FixtureRequest) -> Interpreter:
    """An interpreter with the host's stubs."""
    if request.param == "cpython":
        interpreter, boards = cpython(), FIRMWARE
    else:
        compiled = request.getfixturevalue("compiled")
        interpreter, boards = micropython_compiled(compiled, "64k"), compiled / "boards"
    return replace(interpreter, path=(*interpreter.path, boards / "host"))


async def test_wifi(board: Interpreter, start: Start) -> None:
    program = await start(board, "wireless")
    await program.expect(calls=["home"], ms=3000)
    await program.expect(calls=[])
    await program.expect(calls=["home"] * 3 + ["off", "home", "home", "reset"], errors=[["OSError"]] * 5)
    await program.finish()


async def test_watchdog(board: Interpreter, start: Start) -> None:
    """Fed without a link for as long as is allowed; not while nobody notices that the link is silent."""
    program = await start(board, "watched")
    for name, least, handshake in (("down", 999, 2), ("silent", 278, 0), ("no_link", 299, 0), ("lost", 398, 0)):
        line = await program.line()
        fed, more = line[name]
        assert least <= fed <= least + 2, line
        assert more == handshake, line
    await program.finish()


async def test_sleep(board: Interpreter, tmp_path: Path) -> None:
    """What it has goes out, what waits comes in, what it must know is there after the sleep."""
    posts: list[bytes] = []

    async def visited(link: Link) -> None:
        await link.accept()
        for stream_id, data in ((2, b"1"), (4, b"2")):
            link.send(frames.RequestResponse(stream_id, composite("dev-1.set"), data))
        answers = 0
        while not posts or answers < 2:
            frame = await link.recv()
            if isinstance(frame, frames.RequestResponse):
                assert route_of(frame) == "telemetry"
                posts.append(frame.data)
                link.send(frames.Payload(frame.stream_id, None, b"", complete=True, next=True))
            elif isinstance(frame, frames.Payload):
                answers += 1
        await link.ended()

    async with Peer(visited) as peer, Rebooting(board, "napping", peer.url, 30, root=tmp_path) as device:
        await device.expect(cause=1, kept=0)
        assert {(await device.expect())["set"] for _ in range(2)} == {"1", "2"}
        await device.expect(cause=4, kept=1)
        assert device.slept == [600_000]
        assert posts[0] == b"0"


async def test_sleep_without_a_gateway(board: Interpreter, tmp_path: Path, unused_port: int) -> None:
    """Awake no longer than its budget; what it posted is sent another time."""
    root = tmp_path
    async with Rebooting(board, "napping", f"ws://127.0.0.1:{unused_port}/", 0.1, root=root) as device:
        await device.expect(cause=1, kept=0)
        await device.expect(cause=4, kept=1)
        assert list((root / "outbox").iterdir())
