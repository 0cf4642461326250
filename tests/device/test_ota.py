"""Firmware updates of two slots: resumed, verified, tried, confirmed or rolled back, and reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.device.conftest import Start, micropython_compiled
from tests.device.firmware_node import SECRET, FirmwareNode, manifest, tar
from tests.device.interpreters import FIRMWARE, SDK, Interpreter
from tests.device.rebooting import Rebooting

APPLICATION = (Path(__file__).parent / "programs" / "application.py").read_bytes()

Make = Callable[..., Rebooting]


def release(version: str, kind: str) -> bytes:
    return f"VERSION = {version!r}\nKIND = {kind!r}\n".encode()


def application(version: str, kind: str = "well", padding: int = 0) -> bytes:
    """An image. The padding is a file of its own that nothing reads."""
    files = {"./": b"", "./app.py": APPLICATION, "./release.py": release(version, kind), "./data/": b""}
    return tar(files | {"./data/padding": bytes(i * 7 & 0xFF for i in range(padding))})


def make_on(interpreter: Interpreter, root: Path) -> Make:
    """``make(node)``: a board with version 1.2.0 in its first slot."""
    (root / "app_a").mkdir()
    (root / "app_a" / "app.py").write_bytes(APPLICATION)
    (root / "app_a" / "release.py").write_bytes(release("1.2.0", "well"))
    shutil.copy(SDK / "slots.py", root)
    plain = interpreter.name == "micropython-mpy"
    host = interpreter.path[0] / "boards" / "host" if plain else FIRMWARE / "host"
    path = (root, host, *interpreter.path)
    heap = "72k" if plain else "256k"
    board = replace(interpreter, path=path).with_heap(heap)

    def make(node: FirmwareNode) -> Rebooting:
        return Rebooting(board, "two_slots", node.peer.url, root=root, DEVICE_SECRET=SECRET)

    return make


@pytest.fixture
def make_each(interpreter: Interpreter, tmp_path: Path) -> Make:
    return make_on(interpreter, tmp_path)


@pytest.fixture
def make(compiled: Path, tmp_path: Path) -> Make:
    return make_on(micropython_compiled(compiled), tmp_path)


async def test_an_update(make_each: Make) -> None:
    image = application("1.3.0", padding=8000)
    node = FirmwareNode(image, manifest(image, "1.3.0"))
    async with node.peer, make_each(node) as board:
        await board.expect(runs="1.2.0", state="idle")
        await board.expect(runs="1.3.0", state="trial")
        await node.heard("confirmed")
    assert node.states() == ["idle", "downloading", "verified", "trial", "confirmed"]
    assert board.boots == 2
    assert node.sent == len(image)
    assert [report["version"] for report in node.reports] == ["1.2.0"] * 3 + ["1.3.0"] * 2
    assert (board.root / "app_b" / "data" / "padding").stat().st_size == 8000


async def test_resumed(make_each: Make) -> None:
    """The link is cut again and again, and the device goes on from where it was."""
    image = application("1.3.0", padding=30000)
    node = FirmwareNode(image, manifest(image, "1.3.0"), cut_after=9000)
    async with node.peer, make_each(node) as board:
        await board.expect(runs="1.2.0")
        await board.expect(runs="1.3.0", state="trial")
        await node.heard("confirmed")
    offsets = [report["offset"] for report in node.reports if report["state"] == "downloading"]
    assert len(set(offsets)) >= 4
    assert offsets == sorted(offsets)
    # What was on its way when the link was cut came twice; what was written did not.
    assert node.sent <= len(image) + len(offsets) * 4 * 1024


@pytest.mark.parametrize(
    ("cut_after", "cut_s"), [(40_000, None), pytest.param(None, 2.0, marks=pytest.mark.soak)], ids=["bytes", "seconds"]
)
async def test_200_kb(cut_after: int | None, cut_s: float | None, make: Make) -> None:
    """Over a link that is cut every 40,000 bytes; in the long run over a slow one that is cut every two seconds."""
    image = application("1.3.0", padding=200_000)
    node = FirmwareNode(image, manifest(image, "1.3.0"), cut_after, cut_s)
    async with node.peer, make(node) as board:
        await board.expect(runs="1.2.0")
        await board.expect(runs="1.3.0", state="trial")
        await node.heard("confirmed")
    assert node.cuts >= 5
    assert node.sent <= len(image) + (node.cuts + 1) * 4 * 1024
    assert node.states() == ["idle", "downloading", "verified", "trial", "confirmed"]
    assert (board.root / "app_b" / "data" / "padding").stat().st_size == 200_000


async def test_wrong_signature(make: Make) -> None:
    image = application("1.3.0")
    node = FirmwareNode(image, manifest(image, "1.3.0", key=bytes(32)))
    async with node.peer, make(node) as board:
        await board.expect(runs="1.2.0")
        await node.heard("failed")
    assert node.reports[-1]["reason"] == "signature"
    assert node.sent == 0
    assert board.boots == 1


@pytest.mark.parametrize("damage", ["truncated", "altered"])
async def test_damaged_image(damage: str, make: Make) -> None:
    image = application("1.3.0", padding=3000)
    node = FirmwareNode(image, manifest(image, "1.3.0"))
    node.image = image[:4000] if damage == "truncated" else image[:-1] + b"x"
    async with node.peer, make(node) as board:
        await board.expect(runs="1.2.0")
        await node.heard("failed")
    assert node.states() == ["idle", "downloading", "failed"]
    assert node.reports[-1]["reason"] == "image"
    assert board.boots == 1


@pytest.mark.parametrize(
    ("kind", "boots", "reason"),
    [
        ("deaf", 3, "TimeoutError"),
        ("ill", 3, "fever"),
        ("dies", 6, "not confirmed"),
        ("hangs", 6, "not confirmed"),
        ("broken", 3, "KIND"),
    ],
)
async def test_rolled_back(kind: str, boots: int, reason: str, make: Make) -> None:
    """An image that finds no gateway, that is ill, that resets, that hangs, and that does not even start."""
    image = application("1.3.0", kind)
    if kind == "broken":
        image = tar({"app.py": b"KIND"})
    node = FirmwareNode(image, manifest(image, "1.3.0"))
    async with node.peer, make(node) as board:
        await board.expect(runs="1.2.0", state="idle")
        for _ in range({"broken": 0, "dies": 3, "hangs": 3}.get(kind, 1)):
            await board.expect(runs="1.3.0", state="trial")
        await board.expect(runs="1.2.0", state="rolled_back")
        await node.heard("rolled_back")
    assert reason in node.reports[-1]["reason"]
    assert node.reports[-1]["id"] == "fw-2"
    assert board.boots == boots
    assert board.starved == (3 if kind == "hangs" else 0)


async def test_power_cuts(compiled: Path, start: Start) -> None:
    """At every write of an update on LittleFS: a whole application starts each time, and in the end the new one."""
    interpreter = micropython_compiled(compiled, "1m")
    interpreter = replace(interpreter, path=(compiled, compiled / "device_sdk", FIRMWARE / "host"))
    program = await start(interpreter, "ota_power", 1 << 20)
    line = await program.expect()
    assert line["cuts"] == line["writes"] >= 50
    await program.finish()
