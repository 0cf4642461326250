"""First boot: the line by a file, at the serial console, on the device's own page; and what each wrong one says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.device.boards import REBOOT, Board
from tests.device.conftest import micropython_from_source
from tests.device.interpreters import PROGRAMS
from tests.device.test_provision import invitation
from tests.local_node import LocalNode


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Board]:
    board = Board(micropython_from_source(), PROGRAMS / "unboxed.py", tmp_path / "flash", tmp_path / "world")
    yield board
    await board.off()


async def page(port: int, **form: str) -> str:
    """The page as a browser gets it; with a form: as it answers one."""
    body = urlencode(form)
    head = f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}" if form else "GET / HTTP/1.1\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    answer = (await asyncio.wait_for(reader.read(), 30)).decode()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith("HTTP/1.0 200 OK\r\n")
    return answer


def credential(board: Board) -> dict[str, object]:
    return dict(json.loads((board.flash / "device.json").read_text()))


async def test_by_a_file(node: LocalNode, device: Board) -> None:
    (device.flash / "enroll.txt").write_text(await invitation(node) + "\n")
    (device.flash / "device.json").write_text(json.dumps({"wifi": ["home", "secret"]}))
    await device.boot(PORT="0")
    assert await device.ended() == REBOOT
    assert device.lines == ["working", "done"]
    assert credential(device)["device_id"] == "lamp-7"


async def test_at_the_console(node: LocalNode, device: Board) -> None:
    """Nonsense, no Wi-Fi, a line that is used up, a good one; and a factory reset between them."""
    used = await invitation(node, device_id="lamp-7")
    await device.boot(PORT="0")
    await device.until(lambda: device.lines == ["waiting"])
    device.tell("wifi", "home secret")
    device.type("hello")
    device.type("wifi elsewhere other")
    device.type(used)
    await device.until(lambda: len(device.lines) == 6)
    device.type("wifi home secret")
    device.type("erase")
    device.type(used[:-1] + "~")
    await device.until(lambda: len(device.lines) == 10)
    assert not (device.flash / "device.json").exists()
    device.type(used)
    assert await device.ended() == REBOOT
    said = [line.partition(":")[0] for line in device.lines]
    assert said[1:6] == ["working", "no way to the gateway", "wifi elsewhere", "working", "no way to the gateway"]
    assert said[6:] == ["wifi home", "erased", "working", "refused", "working", "done"]
    assert credential(device)["token"]


async def test_on_its_page(node: LocalNode, device: Board, unused_port: int) -> None:
    """Behind its own access point, in WPA2; the answer to the form says how it went."""
    device.tell("wifi", "my home p&ss w%rd")
    await device.boot(PORT=str(unused_port))
    await device.until(lambda: "waiting" in device.lines)
    assert device.did("access-point") == "lamp <7> on the label"
    assert "<h1>lamp &lt;7&gt;</h1>" in await page(unused_port)
    line = await invitation(node)
    wrong = await page(unused_port, ssid="elsewhere", key="x", line=line)
    assert "no way to the gateway" in wrong
    assert "wrong: no enrolment line" in await page(unused_port, ssid="my home", key="p&ss w%rd", line="<b>")
    assert "done" in await page(unused_port, ssid="my home", key="p&ss w%rd", line=line)
    assert await device.ended() == REBOOT
    kept = credential(device)
    assert (kept["device_id"], kept["wifi"]) == ("lamp-7", ["my home", "p&ss w%rd"])
