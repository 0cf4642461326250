"""`gateway.firmware` on a real node, and a device that follows the protocol with the client library."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from gateway.client import RequestFailed
from gateway.control.rollout_steps import Step
from gateway.control.rollouts import NewRollout
from gateway.updating.downloads import AHEAD_BYTES
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.rawclient import composite
from tests.resumable import Resumable
from tests.updating.board import BOARD, OPERATOR, Board, control_of, enrolled, firmware

IMAGE = Random(7).randbytes(200 * 1024 + 123)


def url_of(node: LocalNode) -> str:
    return f"ws://127.0.0.1:{node.node.websocket_port}/rsocket"


@pytest.fixture
async def board(node: LocalNode) -> AsyncIterator[Board]:
    async with Board(url_of(node), await enrolled(control_of(node))) as board:
        yield board


async def started(node: LocalNode, image: bytes = IMAGE, version: str = "1.1.0", **more: object) -> str:
    """A rollout of an image to everybody."""
    made = await firmware(control_of(node), image, version)
    rollout = await control_of(node).rollouts.create(NewRollout(made.id, **more), by=OPERATOR)  # type: ignore[arg-type]
    return rollout.id


async def step_of(node: LocalNode, rollout: str, device: str = "dev-1") -> Step | None:
    found = {each.device_id: each.state for each in (await control_of(node).rollouts.devices(rollout)).items}
    return found.get(device)


async def test_a_device_is_updated(node: LocalNode, board: Board) -> None:
    assert await board.report() is None
    rollout = await started(node)
    async with asyncio.timeout(30):
        await board.checked.wait()
    await board.update()
    assert board.flash == IMAGE
    assert await step_of(node, rollout) is Step.CONFIRMED
    assert await board.report() is None
    await control_of(node).devices.write_seen()
    assert (await control_of(node).devices.get("dev-1")).firmware == "1.1.0"
    figures = node.node.metrics.updates
    assert (figures.bytes, figures.open, figures.downloads["complete"]) == (len(IMAGE), 0, 1)
    assert figures.reports["confirmed"] == 1


async def test_pieces_are_as_large_as_the_device_says(node: LocalNode, board: Board) -> None:
    await started(node)
    await board.update(n=2, chunk=4096)
    assert board.flash == IMAGE


async def test_from_any_offset(node: LocalNode, board: Board) -> None:
    await started(node)
    update = await board.report()
    assert update is not None
    for offset in (0, 1, len(IMAGE) - 1, len(IMAGE)):
        board.flash = IMAGE[:offset]
        await board.download(update)
        assert board.flash == IMAGE
    with pytest.raises(RequestFailed) as refused:
        await anext(
            board.service.gateway.stream("gateway.firmware", json.dumps({"id": update["id"], "offset": 1 << 30}))
        )
    assert refused.value.code == 0x204


@pytest.mark.parametrize(
    "asked",
    [b"", b"[]", b"{}", b'{"id":7}', b'{"id":"a","offset":-1}', b'{"id":"a","chunk":255}', b'{"id":"a","chunk":9000}'],
)
async def test_nonsense_is_invalid(board: Board, asked: bytes) -> None:
    with pytest.raises(RequestFailed) as refused:
        await anext(board.service.gateway.stream("gateway.firmware", asked))
    assert refused.value.code == 0x204


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"board": "a b", "version": "1"},
        {"board": "a", "version": "1", "state": "asleep"},
        {"board": "a", "version": "1", "state": "trial"},
        {"board": "a", "version": "1", "state": "trial", "id": "x", "offset": "7"},
    ],
)
async def test_a_report_that_says_nothing_is_invalid(board: Board, said: dict[str, object]) -> None:
    with pytest.raises(RequestFailed) as refused:
        await board.service.gateway.request("gateway.firmware.report", json.dumps(said))
    assert refused.value.code == 0x204


async def test_what_is_not_offered_is_rejected(node: LocalNode, board: Board) -> None:
    made = await firmware(control_of(node), IMAGE)
    with pytest.raises(RequestFailed) as refused:
        await anext(board.service.gateway.stream("gateway.firmware", json.dumps({"id": made.id})))
    assert refused.value.code == 0x202


async def test_only_devices_are_updated(node: LocalNode) -> None:
    client = await node.client(subject="svc", kind="service")
    number = client.request("gateway.firmware.report", b"{}")
    frame = await client.recv()
    assert isinstance(frame, frames.Error)
    assert (frame.stream_id, frame.code) == (number, 0x202)


async def test_a_link_that_is_cut_again_and_again_costs_nothing_that_came(node: LocalNode, board: Board) -> None:
    """200 KB over a link that breaks after every 20 KB or so."""
    await started(node)
    update = await board.report()
    assert update is not None

    async def cut() -> None:
        for seen in range(20_000, len(IMAGE), 20_000):
            await until(partial(lambda least: len(board.flash) >= least, seen))
            for connection in list(node.node.plane.connections.values()):
                if connection.kind == "client":
                    connection.carrier.abort()

    cutting = asyncio.create_task(cut())
    try:
        async with asyncio.timeout(60):
            await board.download(update, chunk=512)
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
    assert board.flash == IMAGE
    assert board.streams >= 5
    assert node.node.metrics.updates.bytes < 2 * len(IMAGE)


@pytest.mark.parametrize("how", ["abort", "pause"])
async def test_a_rollout_that_stops_breaks_its_downloads_off(node: LocalNode, board: Board, how: str) -> None:
    rollout = await started(node)
    update = await board.report()
    assert update is not None
    stream = board.service.gateway.stream("gateway.firmware", json.dumps({"id": update["id"]}), n=4)
    board.flash += await anext(stream)
    await getattr(control_of(node).rollouts, how)(rollout, by=OPERATOR)
    with pytest.raises(RequestFailed) as refused:
        board.flash += b"".join([piece async for piece in stream])
    assert refused.value.code == 0x202
    assert len(board.flash) < len(IMAGE)
    assert await board.report("downloading", update["id"], offset=len(board.flash)) is None
    if how == "pause":
        await control_of(node).rollouts.resume(rollout, by=OPERATOR)
        again = await board.report("downloading", update["id"], offset=len(board.flash))
        assert again == update
        await board.download(update)
        assert board.flash == IMAGE


async def test_a_device_that_does_not_read_holds_a_few_pieces(node: LocalNode) -> None:
    """Whatever credit it gave."""
    size = 12 * 1024 * 1024
    await started(node, bytes(size))
    given = await enrolled(control_of(node))
    client = await node.connect("tcp", receive_buffer=4096)
    client.setup(given.token)
    await client.ready()
    client.request("gateway.firmware.report", json.dumps({"board": BOARD, "version": "1"}).encode())
    frame = await client.recv()
    assert isinstance(frame, frames.Payload), frame
    asked = json.dumps({"id": json.loads(frame.data)["update"]["id"], "chunk": 4096}).encode()
    number = client.next_stream_id()
    client.send(frames.RequestStream(number, composite("gateway.firmware"), asked, initial_n=2**31 - 1))
    connection = node.connection(client)
    await until(lambda: connection.outbox.size > AHEAD_BYTES)
    assert connection.outbox.size <= 2 * AHEAD_BYTES + 4096
    assert node.node.metrics.updates.bytes < size


class Confirming(Resumable):
    """Says what it has received when it is asked, or not."""

    size = 0
    silent = True

    def take(self, data: bytes) -> None:
        if not (self.silent and frames.peek_type(data) == frames.FrameType.KEEPALIVE):
            super().take(data)

    def heard(self, frame: frames.Frame) -> None:
        assert isinstance(frame, frames.Payload), frame
        self.size += len(frame.data)


async def test_a_session_that_can_be_resumed_is_sent_no_more_than_it_may_keep(node: LocalNode) -> None:
    """A device that confirms nothing does not lose its session for that; when it does, it gets all of it."""
    image = bytes(1024 * 1024)
    await started(node, image)
    client = await node.connect("tcp")
    client.setup((await enrolled(control_of(node))).token, resume_token=b"resumes-this-one")
    device = Confirming(b"resumes-this-one")
    device.write = client.send
    said = json.dumps({"board": BOARD, "version": "1"}).encode()
    device.post(frames.RequestResponse(client.next_stream_id(), composite("gateway.firmware.report"), said))
    device.take(answer := await client.recv_bytes())
    update = json.loads(frames.decode(answer).data)["update"]  # type: ignore[union-attr]
    device.size = 0
    asked = json.dumps({"id": update["id"], "chunk": 4096}).encode()
    number = client.next_stream_id()
    device.post(frames.RequestStream(number, composite("gateway.firmware"), asked, initial_n=2**31 - 1))
    connection = node.connection(client)

    async def read() -> None:
        while device.size < len(image):
            device.take(await client.recv_bytes(60))

    reading = asyncio.create_task(read())
    await until(lambda: connection.outbox.congested)
    assert not connection.closed
    assert node.node.metrics.updates.bytes <= connection.grant.limits.resume_bytes
    device.silent = False
    device.ask()
    await reading
    assert device.size == len(image)


async def test_an_image_that_is_damaged_is_noticed(node: LocalNode, board: Board) -> None:
    rollout = await started(node)
    update = await board.report()
    assert update is not None
    control = control_of(node)
    path = control.firmware.images.directory / update["sha256"]
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(RequestFailed) as refused:
        await board.download(update)
    assert refused.value.code == 0x202
    assert board.flash == b""
    await until(lambda: [alarm.slug for alarm in control.alarms] == ["firmware_damaged"])
    assert await board.report() is None
    await firmware(control, IMAGE)
    assert not control.alarms
    assert await board.report() == update
    await board.download(update)
    assert hashlib.sha256(board.flash).hexdigest() == update["sha256"]
    assert await step_of(node, rollout) is Step.DOWNLOADING


@pytest.mark.parametrize("how", ["damaged", "shorter", "gone"])
async def test_a_node_looks_at_its_images_when_it_starts(start_node: StartNode, tmp_path: Path, how: str) -> None:
    data = tmp_path / "data"
    first = await start_node(data=data)
    made = await firmware(control_of(first), IMAGE)
    path = control_of(first).firmware.images.directory / made.sha256
    await first.finish()
    stray = path.with_name("0" * 64)
    stray.write_bytes(b"nobody's")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(IMAGE[:-1] + b"!" if how == "damaged" else IMAGE[:-1])
    second = await start_node(data=data)
    await until(lambda: control_of(second).firmware.damaged)
    assert [alarm.slug for alarm in control_of(second).alarms] == ["firmware_damaged"]
    assert not stray.exists()
    await control_of(second).firmware.delete(made.id, by=OPERATOR)
    assert not control_of(second).alarms
    assert not path.exists()


async def test_a_trial_that_is_not_confirmed_has_failed(node: LocalNode, board: Board) -> None:
    rollout = await started(node, confirm_s=1, max_failures=0)
    update = await board.report()
    assert update is not None
    await board.report("trial", update["id"])

    async def paused() -> bool:
        return (await control_of(node).rollouts.get(rollout)).state == "paused"

    async with asyncio.timeout(30):
        while not await paused():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await step_of(node, rollout) is Step.FAILED
