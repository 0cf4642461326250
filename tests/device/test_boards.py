"""Each board's firmware, unmodified, on a real interpreter and a real node, in a world that the test writes."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.control.devices import NewDevice
from gateway.forwarding.closing import CloseReason
from gateway.wire import frames
from tests.device.boards import ASLEEP, REBOOT, Board
from tests.device.conftest import cpython, micropython_from_source
from tests.device.interpreters import FIRMWARE
from tests.device.test_node import address, registered
from tests.device.test_provision import OPERATOR, invitation
from tests.local_node import LocalNode, call, stream_request, until
from tests.rawclient import RawClient

MakeBoard = Callable[..., Board]


@pytest.fixture
async def board(node: LocalNode, tmp_path: Path) -> AsyncIterator[MakeBoard]:
    """``board("pico_w_relay", **settings)``: with a credential for this node in its flash, and not switched on."""
    made: list[Board] = []

    def make(name: str, heap: str = "160k", **settings: object) -> Board:
        interpreter = cpython() if name.startswith("rpi") else micropython_from_source(heap)
        main = FIRMWARE / "boards" / name / "main.py"
        found = Board(interpreter, main, tmp_path / "flash", tmp_path / "world")
        credential = {"url": address(node), "device_id": name, "token": node.token(name, "device", (name,), ("*",))}
        (found.flash / "device.json").write_text(json.dumps(credential | {"wifi": ["home", "secret"]} | settings))
        made.append(found)
        return found

    yield make
    for each in made:
        await each.off()


def cut(node: LocalNode, name: str) -> None:
    """Close the connection of a device, as a Wi-Fi that is lost does."""
    for connection in list(node.node.plane.connections.values()):
        if connection.accepted and connection.principal.subject == name:
            connection.turn_out(CloseReason.KICKED, "cut")


async def items(client: RawClient, stream_id: int, count: int) -> list[bytes]:
    """The next payloads of a stream; keepalives between them are passed over."""
    found: list[bytes] = []
    while len(found) < count:
        frame = await client.recv(30)
        if getattr(frame, "stream_id", -1) == stream_id:
            assert isinstance(frame, frames.Payload), frame
            if frame.next:
                found.append(frame.data)
            if frame.complete:
                break
    return found


@pytest.mark.parametrize("path", sorted(FIRMWARE.glob("boards/*/main.py")), ids=lambda path: path.parent.name)
def test_main_is_short(path: Path) -> None:
    assert path.read_bytes().count(b"\n") <= 80


async def test_thermostat(node: LocalNode, board: MakeBoard) -> None:
    """The heater follows the sensor, whether or not there is a gateway; the button makes it new."""
    device = board("esp32_thermostat", period_s=0.05)
    device.tell("adc-34", 650_000)
    await device.boot()
    await device.until(lambda: device.did("pin-5") == "1")
    await registered(node, "esp32_thermostat")
    assert device.did("station") == "home secret"
    device.tell("wifi", "down")
    cut(node, "esp32_thermostat")
    device.tell("adc-34", 750_000)
    await device.until(lambda: device.did("pin-5") == "0")
    device.tell("wifi", "up")
    await registered(node, "esp32_thermostat")
    client = await node.client()
    assert json.loads(await call(client, "esp32_thermostat.set_target", b"30"))["temperature"] == 25
    await device.until(lambda: device.did("pin-5") == "1")
    device.tell("pin-0", 0)
    assert await device.ended() == REBOOT
    assert not (device.flash / "device.json").exists()

    # It asks for a line now, at its console.
    await device.boot()
    await device.until(lambda: "waiting" in device.lines)
    device.type(await invitation(node, device_id="thermostat-2"))
    assert await device.ended() == REBOOT
    device.tell("pin-0", 1)
    await device.boot()
    await registered(node, "thermostat-2")


async def test_relay(node: LocalNode, board: MakeBoard) -> None:
    """It falls off when its time is over, and when it is alone; each change arrives, though there was no gateway."""
    events = await node.servant(name="events")
    device = board("pico_w_relay", longest_s=60, alone_s=0.3)
    await device.boot()
    await registered(node, "pico_w_relay")
    assert device.did("pin-15") == "0"
    client = await node.client()
    number = client.request("pico_w_relay.switch", b'{"on": true, "for_s": 61}')
    refused = await client.recv(20)
    assert isinstance(refused, frames.Error)
    assert (refused.stream_id, refused.code) == (number, 0x301)
    state = json.loads(await call(client, "pico_w_relay.switch", b'{"on": true, "for_s": 0.2}'))
    assert state == {"on": True, "left_s": 1}
    await device.until(lambda: device.did("pin-15") == "0")
    assert json.loads(await call(client, "pico_w_relay.switch", b'{"on": true}')) == {"on": True, "left_s": 60}
    device.tell("wifi", "down")
    cut(node, "pico_w_relay")
    await device.until(lambda: device.did("pin-15") == "0")
    device.tell("wifi", "up")

    def said() -> list[str]:
        return [json.loads(frame.data)["why"] for frame in events.got(frames.RequestResponse)]

    await until(lambda: len(set(said())) == 3)
    # At least once: what was on its way when the link was cut may come again.
    assert list(dict.fromkeys(said())) == ["asked", "time", "alone"]


async def test_vibration(node: LocalNode, board: MakeBoard) -> None:
    """Blocks come as there is credit for them; what was lost for want of it is said."""
    device = board("esp32_vibration")
    device.tell("i2s-0", "100 -100")
    await device.boot()
    await registered(node, "esp32_vibration")
    client = await node.client()
    client.send(stream_request(3, "esp32_vibration.waveform", b"", 2))
    blocks = await items(client, 3, 2)
    assert {len(block) for block in blocks} == {6 + 512}
    numbers = [struct.unpack(">IH", block[:6])[0] for block in blocks]
    assert struct.unpack("<256h", blocks[0][6:]) == (100, -100) * 128
    client.send(stream_request(5, "esp32_vibration.level", b"", 1))
    level = json.loads((await items(client, 5, 1))[0])
    assert level["rms"] == 100.0
    client.send(frames.RequestN(3, 100))
    late = [struct.unpack(">IH", block[:6]) for block in await items(client, 3, 12)]
    # One block waited for credit; those between it and the next are lost.
    assert all(after - before == lost + 1 for (before, _), (after, lost) in pairwise(late))
    assert late[0][0] == numbers[-1] + late[0][1] + 1


async def test_battery_sensor(node: LocalNode, board: MakeBoard) -> None:
    """Measures and sleeps; goes on air with each third reading; what it could not deliver comes with the next."""
    telemetry = await node.servant(name="telemetry")
    device = board("esp8266_class_sensor", "72k", batch=3, period_s=7, budget_s=2)

    async def wake(*microvolts: int) -> None:
        for each in microvolts:
            device.tell("adc-0", each)
            await device.boot()
            assert await device.ended() == ASLEEP
            assert device.did("sleep") == "7000"

    def came() -> list[list[int]]:
        return [json.loads(frame.data)["centidegrees"] for frame in telemetry.got(frames.RequestResponse)]

    await wake(700_000, 710_000)
    assert came() == []
    await wake(720_000)
    assert [[round(value, -2) for value in batch] for batch in came()] == [[1900, 2000, 2100]] or came()
    device.tell("wifi", "down")
    await wake(730_000, 740_000, 750_000)
    assert len(came()) == 1
    device.tell("wifi", "up")
    await wake(760_000, 770_000, 780_000)
    assert [len(batch) for batch in came()] == [3, 3, 3]
    assert [value for batch in came() for value in batch] == sorted(value for batch in came() for value in batch)


def png(side: int) -> bytes:
    """A picture, as a camera makes them: rows of grey noise, which does not compress."""
    rows = b"".join(b"\0" + hashlib.shake_128(struct.pack(">I", row)).digest(side) for row in range(side))

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows, 1)) + part(b"IEND", b"")


async def test_camera(node: LocalNode, board: MakeBoard) -> None:
    """The picture that came in chunks is the one that was taken; the rest can be asked for from an offset."""
    device = board("rpi_camera_stub", picture="shot.png", command=["sh", "-c", "cp camera.png shot.png 2>&-"])
    picture = png(160)
    control = node.node.control
    assert control is not None
    await control.devices.create(NewDevice("rpi_camera_stub"), by=OPERATOR)
    (device.flash / "camera.png").write_bytes(picture)
    await device.boot()
    await registered(node, "rpi_camera_stub")
    client = await node.client()
    taken = json.loads(await call(client, "rpi_camera_stub.snap"))
    assert taken == {"size": len(picture), "sha256": hashlib.sha256(picture).hexdigest()}
    client.send(stream_request(101, "rpi_camera_stub.picture", b"", 3))
    first = b"".join(await items(client, 101, 3))
    assert len(first) == 3072
    client.send(frames.Cancel(101))
    client.send(stream_request(103, "rpi_camera_stub.picture", b'{"offset": 3072}', 1000))
    assert first + b"".join(await items(client, 103, 1000)) == picture
    await control.device_configs.put("device:rpi_camera_stub", {"chunk": 512}, by=OPERATOR)
    kept = device.flash / "config.json"
    await device.until(lambda: kept.exists() and "512" in kept.read_text())
    client.send(stream_request(105, "rpi_camera_stub.picture", b"", 1))
    assert len((await items(client, 105, 1))[0]) == 512
    client.send(frames.Cancel(105))
    (device.flash / "camera.png").unlink()
    number = client.request("rpi_camera_stub.snap")
    refused = await client.recv(20)
    while getattr(refused, "stream_id", 0) != number:
        refused = await client.recv(20)
    assert isinstance(refused, frames.Error)
    assert refused.code == 0x301


async def test_a_starved_watchdog(node: LocalNode, board: MakeBoard) -> None:
    """A loop that stands still ends in a reset, and so in a failure of whoever waits for the device."""
    device = board("pico_w_relay")
    device.main = device.flash / "stuck.py"
    device.main.write_text("import machine, time\nw = machine.WDT(timeout=50)\ntime.sleep(0.2)\nw.feed()\n")
    await device.boot()
    assert await device.ended() == REBOOT
