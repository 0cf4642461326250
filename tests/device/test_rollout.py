"""The SDK's update on MicroPython and the node's rollout, with nothing between them but a link that breaks."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.firmware import NewFirmware
from gateway.control.plane import ControlPlane
from gateway.control.rollout_steps import Phase, Rollout, Step
from gateway.control.rollouts import NewRollout
from tests.device.conftest import micropython_compiled
from tests.device.cut_link import CutLink
from tests.device.rebooting import Rebooting
from tests.device.test_ota import application, make_on
from tests.local_node import LocalNode, until
from tests.updating.board import OPERATOR, control_of, enrolled, pieces

PATIENCE_S = 60.0


async def board_of(node: LocalNode, compiled: Path, root: Path) -> Rebooting:
    """A board that has enrolled; its application has version 1.2.0."""
    given = await enrolled(control_of(node))
    url = f"ws://127.0.0.1:{node.node.websocket_port}/rsocket"
    board = make_on(micropython_compiled(compiled), root)(SimpleNamespace(peer=SimpleNamespace(url=url)))
    board.environment |= {"DEVICE_SECRET": given.secret or "", "DEVICE_TOKEN": given.token}
    return board


async def begun(control: ControlPlane, image: bytes, **more: Any) -> Rollout:
    made, _ = await control.firmware.add(NewFirmware("host", "1.3.0"), pieces(image), by=OPERATOR)
    return await control.rollouts.create(NewRollout(made.id, **more), by=OPERATOR)


async def reached(control: ControlPlane, rollout: Rollout, step: Step) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while [each.state for each in (await control.rollouts.devices(rollout.id)).items] != [step]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_200_kb_over_a_link_that_breaks(node: LocalNode, compiled: Path, tmp_path: Path) -> None:
    """It is told of the rollout, and runs the new version in the end; what came before a cut does not come again."""
    image = application("1.3.0", padding=200_000)
    control, figures = control_of(node), node.node.metrics.updates
    cuts = 0
    async with await board_of(node, compiled, tmp_path) as board:
        await board.expect(runs="1.2.0", state="idle")
        await until(lambda: node.node.plane.table.service("dev-1"))
        rollout = await begun(control, image)

        async def cut() -> None:
            nonlocal cuts
            for least in range(30_000, len(image), 30_000):
                await until(lambda least=least: figures.bytes >= least, PATIENCE_S)  # type: ignore[misc]
                for connection in list(node.node.plane.connections.values()):
                    if connection.kind == "client":
                        connection.carrier.abort()
                        cuts += 1

        cutting = asyncio.create_task(cut())
        await board.expect(runs="1.3.0", state="trial")
        await reached(control, rollout, Step.CONFIRMED)
        await cutting
    assert cuts >= 3
    assert figures.bytes <= len(image) + (cuts + 1) * 24 * 1024
    assert figures.downloads["complete"] >= 1
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert (progress.received, progress.reason) == (len(image), "")
    padding = (tmp_path / "app_b" / "data" / "padding").read_bytes()
    assert hashlib.sha256(padding).digest() == hashlib.sha256(bytes(i * 7 & 0xFF for i in range(200_000))).digest()


@pytest.mark.soak
async def test_200_kb_over_a_link_that_is_cut_every_two_seconds(
    node: LocalNode, compiled: Path, tmp_path: Path
) -> None:
    control = control_of(node)
    async with CutLink(node.port("ws"), cut_s=2, rate=20_000) as link:
        board = await board_of(node, compiled, tmp_path)
        board.arguments = (link.url,)
        async with board:
            await board.expect(runs="1.2.0", state="idle")
            rollout = await begun(control, application("1.3.0", padding=200_000))
            await board.expect(runs="1.3.0", state="trial")
            await reached(control, rollout, Step.CONFIRMED)
    assert link.cuts >= 5
    assert node.node.metrics.updates.downloads["complete"] == 1


async def test_an_image_that_is_ill_pauses_its_rollout(node: LocalNode, compiled: Path, tmp_path: Path) -> None:
    """The device goes back to what it had, and says why; nobody else is offered it."""
    control = control_of(node)
    rollout = await begun(control, application("1.3.0", "ill"), max_failures=0)
    async with await board_of(node, compiled, tmp_path) as board:
        await board.expect(runs="1.2.0", state="idle")
        await board.expect(runs="1.3.0", state="trial")
        await board.expect(runs="1.2.0", state="rolled_back")
        await reached(control, rollout, Step.ROLLED_BACK)
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert "fever" in progress.reason
    assert (await control.rollouts.get(rollout.id)).state is Phase.PAUSED


async def test_a_device_with_another_secret_takes_nothing(node: LocalNode, compiled: Path, tmp_path: Path) -> None:
    control = control_of(node)
    rollout = await begun(control, application("1.3.0"))
    board = await board_of(node, compiled, tmp_path)
    board.environment["DEVICE_SECRET"] = "A" * 43
    async with board:
        await board.expect(runs="1.2.0", state="idle")
        await reached(control, rollout, Step.FAILED)
    assert node.node.metrics.updates.bytes == 0
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert progress.reason == "signature"
