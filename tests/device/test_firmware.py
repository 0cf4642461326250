"""The boards' firmware runs unmodified on a PC, on both interpreters, and survives a gateway that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.wire import frames
from tests.device.conftest import cpython, micropython_from_source
from tests.device.interpreters import FIRMWARE, REPOSITORY, Interpreter, Program
from tests.device.peer import Peer, composite, route_of

THERMOSTAT = FIRMWARE / "boards" / "esp32_thermostat" / "main.py"

Boot = Callable[..., Awaitable[Program]]


@pytest.fixture(params=["cpython", "micropython-py"])
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    return cpython() if request.param == "cpython" else micropython_from_source("128k")


@pytest.fixture
async def boot(interpreter: Interpreter, tmp_path: Path) -> AsyncIterator[Boot]:
    """``await boot(main, **environment)``: start a board, as ``gateway simulate --micropython`` does."""
    running: list[Program] = []

    async def run(main: Path, cwd: Path = tmp_path, **environment: str) -> Program:
        path = f"{FIRMWARE / 'host'}:{FIRMWARE / 'appliance'}:{REPOSITORY}"
        process = await asyncio.create_subprocess_exec(
            *interpreter.command,
            str(main),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=interpreter.environment() | {"MICROPYPATH": path + ":.frozen", "PYTHONPATH": path} | environment,
        )
        running.append(Program(process))
        return running[-1]

    yield run
    for program in running:
        errors = await program.errors()
        await program.process.wait()
        assert errors == ""


@pytest.mark.parametrize("board", sorted(FIRMWARE.glob("boards/*/main.py")), ids=lambda path: path.parent.name)
def test_main_is_short(board: Path) -> None:
    assert board.read_bytes().count(b"\n") <= 80


async def test_thermostat(boot: Boot, tmp_path: Path) -> None:
    """Telemetry by fire-and-forget, `set_target`, a `readings` stream, and nothing on standard output."""
    (tmp_path / "device.json").write_text('{"period_s": 0.1}')
    async with Peer() as peer:
        settings = {"GATEWAY_URL": peer.url, "GATEWAY_DEVICE_ID": "thermostat-1", "GATEWAY_TOKEN": "t"}
        program = await boot(THERMOSTAT, **settings)
        link = await peer.link()
        await link.accept()
        reading = await link.find(frames.RequestFnf)
        assert route_of(reading) == "telemetry.readings"
        assert json.loads(reading.data)["target"] == 20
        link.send(frames.RequestResponse(2, composite("thermostat-1.set_target"), b"21.5"))
        assert json.loads((await link.find(frames.Payload)).data)["target"] == 21.5
        for stream_id, data, code in ((4, b"warm", 0x301), (6, b"99", 0x302)):
            link.send(frames.RequestResponse(stream_id, composite("thermostat-1.set_target"), data))
            assert (await link.find(frames.Error)).code == code
        link.send(frames.RequestStream(8, composite("thermostat-1.readings"), b"", 2))
        first = json.loads((await link.find(frames.Payload)).data)
        second = json.loads((await link.find(frames.Payload)).data)
        assert first.keys() == second.keys() == {"temperature", "target", "heating"}
        assert 15 <= first["temperature"] <= 30

        link.reset()
        link = await peer.link()
        await link.accept()
        assert json.loads((await link.find(frames.RequestFnf)).data)["target"] == 21.5
        program.process.terminate()
        assert await program.process.wait() == -15
        assert program.process.stdout is not None
        assert await program.process.stdout.read() == b""


async def test_verbose(boot: Boot) -> None:
    async with Peer() as peer:
        settings = {"GATEWAY_URL": peer.url, "GATEWAY_DEVICE_ID": "thermostat-1", "GATEWAY_VERBOSE": "1"}
        program = await boot(THERMOSTAT, **settings)
        assert program.process.stdout is not None
        line = await program.process.stdout.readline()
        assert line.decode().startswith("thermostat-1 19.0")


async def test_settings_file(boot: Boot, tmp_path: Path) -> None:
    """A board finds device.json where it runs; the environment of a PC goes before it."""
    async with Peer() as peer:
        device = {"url": "ws://127.0.0.1:1/", "device_id": "kitchen", "token": "from the file", "wifi": ["ssid", "key"]}
        (tmp_path / "device.json").write_text(json.dumps(device))
        await boot(THERMOSTAT, GATEWAY_URL=peer.url)
        link = await peer.link()
        await link.accept()
        assert b"from the file" in (link.setup.metadata or b"")
        link.send(frames.RequestResponse(2, composite("kitchen.set_target"), b"18"))
        assert (await link.find(frames.Payload)).complete


async def test_starved_watchdog_reboots(boot: Boot, tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("import machine, time\nw = machine.WDT(timeout=50)\nw.feed()\ntime.sleep(0.2)\nw.feed()\n")
    program = await boot(main)
    assert await program.process.wait() == 42
