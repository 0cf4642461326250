"""The TCP listener: a 24-bit length before each frame, nothing else between the bytes and the connection."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until


async def test_setup_and_request_in_one_segment(node: LocalNode) -> None:
    """P09: SETUP is accepted in silence, and a client may send requests behind it at once."""
    client = await node.connect("tcp")
    client.send(
        client.setup_frame(node.token(), ["bench"]),
        frames.RequestResponse(1, None, b""),
        frames.KeepAlive(respond=True, data=b"here"),
    )
    refusal, alive = await client.recv(), await client.recv()
    assert isinstance(refusal, frames.Error)
    assert (refusal.stream_id, refusal.code) == (1, 0x204)
    assert isinstance(alive, frames.KeepAlive)


async def test_byte_by_byte(node: LocalNode) -> None:
    client = await node.connect("tcp")
    for frame in (client.setup_frame(node.token()), frames.KeepAlive(respond=True, data=b"here")):
        for byte in client._framed(frames.encode(frame)):
            client.send_raw(bytes((byte,)))
            await asyncio.sleep(0)
    assert await client.recv() == frames.KeepAlive(respond=False, data=b"here")


async def test_many_frames_a_read(node: LocalNode) -> None:
    servant = await node.servant("tcp")
    client = await node.client("tcp")
    numbers = [client.request("echo.it", b"%d" % n) for n in range(500)]
    answers = [await client.recv() for _ in numbers]
    assert {a.stream_id: a.data for a in answers if isinstance(a, frames.Payload)} == {
        number: b"%d" % n for n, number in enumerate(numbers)
    }
    assert len(servant.got(frames.RequestResponse)) == 500


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1 << 20, 0xFFFFFF - 200])
async def test_large_frames_arrive_whole(node: LocalNode, size: int) -> None:
    await node.servant("tcp")
    client = await node.client("tcp")
    data = bytes(range(256)) * (size // 256 + 1)
    assert await call(client, data=data[:size]) == data[:size]


async def test_what_follows_the_limit_is_the_grants(start_node: StartNode) -> None:
    """Fault 10: before SETUP the limit is that of SETUP frames, behind it that of the kind. A limit's three sides."""
    node = await start_node({"limits.device.max_frame_bytes": 1000})
    for size in (999, 1000):
        client = await node.client("tcp", kind="device")
        client.send(frames.Payload(99, None, bytes(size - 6), next=True))
        await client.barrier()
    client.send(frames.Payload(99, None, bytes(1001 - 6), next=True))
    error = await client.recv()
    assert error == frames.Error(0, 0x101, "frame of 1001 bytes is over the limit of 1000")
    assert await client.recv_close() == (None, "")
    stranger = await node.connect("tcp")
    stranger.send_raw((65_537).to_bytes(3, "big"))
    error = await stranger.recv()
    assert error == frames.Error(0, 0x101, "frame of 65537 bytes is over the limit of 65536")
    await until(lambda: node.counters.closes.get("too_big") == 2)


async def test_nothing_behind_a_violation_is_served(node: LocalNode) -> None:
    servant = await node.servant("tcp")
    client = await node.client("tcp")
    ask = frames.RequestResponse(3, None, b"")
    client.send(b"\x00\x00\x00", frames.encode(ask))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert await client.recv_close() == (None, "")
    assert client.skipped == []
    assert servant.heard == []
