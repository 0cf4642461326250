"""Updates of whole images in the two partitions of an ESP32, and the bootloader that goes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.device.conftest import Start, micropython_compiled
from tests.device.firmware_node import SECRET, FirmwareNode, manifest
from tests.device.interpreters import FIRMWARE, Interpreter
from tests.device.rebooting import Rebooting

SIZE, BLOCKS = 4096, 64


def image(version: str, kind: str, size: int = 40_000) -> bytes:
    head = f"\xe9{version} {kind}\n".encode("latin-1")
    return head + Random(version).randbytes(size - len(head))


def on_esp32(compiled: Path) -> Interpreter:
    interpreter = micropython_compiled(compiled, "128k")
    return replace(interpreter, path=(*interpreter.path, FIRMWARE / "host", FIRMWARE / "esp32"))


def board(compiled: Path, root: Path, node: FirmwareNode) -> Rebooting:
    """A board with version 1.2.0 in its first partition, from the factory."""
    interpreter = on_esp32(compiled)
    running = Rebooting(interpreter, "two_partitions", node.peer.url, root=root, DEVICE_SECRET=SECRET)
    (running.world / "ota_0").write_bytes(image("1.2.0", "well").ljust(SIZE * BLOCKS, b"\xff"))
    return running


async def test_an_update(compiled: Path, tmp_path: Path) -> None:
    """Over a link that breaks; the partition holds the image, and it is marked valid."""
    new = image("1.3.0", "well")
    node = FirmwareNode(new, manifest(new, "1.3.0"), cut_after=18_000)
    async with node.peer, board(compiled, tmp_path, node) as running:
        await running.expect(runs="1.2.0", state="idle")
        await running.expect(runs="1.3.0", state="trial")
        await node.heard("confirmed")
    assert node.cuts >= 2
    assert node.states() == ["idle", "downloading", "verified", "trial", "confirmed"]
    assert (running.world / "ota_1").read_bytes()[: len(new)] == new
    assert '"ota_1": "valid"' in (running.world / "otadata").read_text()
    assert running.boots == 2


@pytest.mark.parametrize(("kind", "reason"), [("dies", "not confirmed"), ("ill", "fever")])
async def test_rolled_back(kind: str, reason: str, compiled: Path, tmp_path: Path) -> None:
    new = image("1.3.0", kind)
    node = FirmwareNode(new, manifest(new, "1.3.0"))
    async with node.peer, board(compiled, tmp_path, node) as running:
        await running.expect(runs="1.2.0", state="idle")
        await running.expect(runs="1.3.0", state="trial")
        await running.expect(runs="1.2.0", state="rolled_back")
        await node.heard("rolled_back")
    assert reason in node.reports[-1]["reason"]
    assert running.boots == 3


async def test_no_image_of_an_esp32(compiled: Path, tmp_path: Path) -> None:
    """What the bootloader would not take is not set to start."""
    new = b"\x7fELF" + image("1.3.0", "well")
    node = FirmwareNode(new, manifest(new, "1.3.0"))
    async with node.peer, board(compiled, tmp_path, node) as running:
        await running.expect(runs="1.2.0", state="idle")
        await node.heard("failed")
    assert "5379" in node.reports[-1]["reason"]
    assert running.boots == 1


async def test_power_cuts(compiled: Path, start: Start, tmp_path: Path) -> None:
    """At every write to partitions, file system and the bootloader's data: a whole image starts each time, and in the
    end the new one."""
    interpreter = replace(on_esp32(compiled), command=micropython_compiled(compiled, "2m").command)
    (tmp_path / "state").mkdir()
    program = await start(interpreter, "partition_power", HOST_STATE=str(tmp_path / "state"))
    line = await program.expect()
    assert line["cuts"] == line["writes"] >= 50
    await program.finish()
    assert line["cuts"] == line["writes"] >= 50
    # The bootloader starts a new image once: a power cut in that start brings the old one back.
    assert line["back"] <= 8
    await program.finish()
