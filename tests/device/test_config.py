"""Devices that are configured by a real node: what works stays, what does not is taken back, through restarts and power
cuts."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import FIRMWARE, REPOSITORY, Interpreter
from tests.device.rebooting import Rebooting
from tests.device.test_node import address, registered, stop, token
from tests.local_node import LocalNode

BY = Actor("user", "alice")
PAGE = REPOSITORY / "docs" / "device" / "config.md"


class Operator:
    """Who configures the device dev-1 of a node."""

    def __init__(self, node: LocalNode) -> None:
        assert node.node.control is not None
        self.control: ControlPlane = node.node.control

    async def register(self) -> None:
        await self.control.devices.create(NewDevice("dev-1"), by=BY)

    async def set(self, **document: Any) -> int:
        return (await self.control.device_configs.put("device:dev-1", document, by=BY)).version

    async def said(self, version: int, reason: str = "") -> int | None:
        """Wait until the device has spoken of a version: that it took it, or a reason with this in it. Returns which
        version it took last."""
        async with asyncio.timeout(30):
            while True:
                _, _, report = await self.control.device_configs.of_device("dev-1")
                if report is not None and report.version == version:
                    break
                await asyncio.sleep(0.02)
        assert report.ok == (not reason), report
        assert reason in report.reason
        return report.applied


def board(interpreter: Interpreter, node: LocalNode, root: Path, url: str = "") -> Rebooting:
    return Rebooting(interpreter, "configured", url or address(node), root=root, DEVICE_TOKEN=token(node))


async def test_what_works_stays_and_what_does_not_is_taken_back(
    node: LocalNode, interpreter: Interpreter, tmp_path: Path
) -> None:
    operator = Operator(node)
    await operator.register()
    first = await operator.set(led=1)
    async with board(interpreter, node, tmp_path) as device:
        await device.expect(given=None)
        await device.expect(given={"led": 1})
        assert await operator.said(first) == first

        # The application raises.
        bad = await operator.set(fail="no such led")
        await device.expect(given={"fail": "no such led"})
        await device.expect(given={"led": 1})
        assert await operator.said(bad, "no such led") == first

        # It takes the device down: the next boot is with the last one that worked.
        deadly = await operator.set(reset=True)
        await device.expect(given={"reset": True})
        await device.expect(given={"led": 1})
        assert await operator.said(deadly, "restart") == first
        assert device.boots == 2

        # The device does not come back with it.
        lost = await operator.set(astray=True)
        await device.expect(given={"astray": True})
        await device.expect(given={"led": 1})
        assert await operator.said(lost, "link") == first

        # Who is slow gets the newest, and none between.
        slow = await operator.set(wait=True)
        await device.expect(given={"wait": True})
        for value in (2, 3, 4):
            newest = await operator.set(led=value)
        await registered(node, "dev-1")
        client = await node.client()
        client.request("dev-1.go")
        assert isinstance(await client.recv(), frames.Payload)
        await device.expect(given={"led": 4})
        assert await operator.said(newest) == newest > slow
        await stop(node)

    # Offline: with what it has, and then with the newest.
    for value in (5, 6):
        newest = await operator.set(led=value)
    async with board(interpreter, node, tmp_path, "ws://127.0.0.1:1/") as device:
        await device.expect(given={"led": 4})
    async with board(interpreter, node, tmp_path) as device:
        await device.expect(given={"led": 4})
        await device.expect(given={"led": 6})
        assert await operator.said(newest) == newest
        bad = await operator.set(fail="no such pin")
        assert await operator.said(bad, "no such pin") == newest
        await stop(node)

    # What the application refused is offered once more after a restart, and refused for the same reason.
    async with board(interpreter, node, tmp_path) as device:
        await device.expect(given={"led": 6})
        await device.expect(given={"fail": "no such pin"})
        await device.expect(given={"led": 6})
        assert await operator.said(bad, "no such pin") == newest
        await stop(node)


async def test_the_page(node: LocalNode, compiled: Path, start: Start, tmp_path: Path) -> None:
    """docs/device/config.md: its snippet is a program."""
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    program = snippet.replace("ws://127.0.0.1:7878/rsocket", address(node))
    (tmp_path / "page.py").write_text(f"TOKEN = {node.token('lamp', 'device', ('lamp',))!r}\n{program}")
    assert node.node.control is not None
    await node.node.control.devices.create(NewDevice("lamp"), by=BY)
    running = await start(micropython_compiled(compiled, "72k"), "page")
    assert running.process.stdout is not None
    async with asyncio.timeout(30):
        assert await running.process.stdout.readline() == b"every 60 s\n"
        await node.node.control.device_configs.put("all", {"interval_s": 5}, by=BY)
        assert await running.process.stdout.readline() == b"every 5 s\n"
    running.process.kill()


async def test_power_cuts(compiled: Path, start: Start) -> None:
    """At every write of taking a configuration: one of the two is there, whole, and the next run goes on."""
    interpreter = micropython_compiled(compiled, "1m")
    program = await start(replace(interpreter, path=(*interpreter.path, FIRMWARE / "host")), "config_power")
    found = await program.line()
    assert found["old"] > found["restart"] > 0, found
    assert found["old"] + found["new"] >= 8, found
    await program.finish()
