"""Reading is fair: a loop turn takes a bounded part of what one peer sends, however much of it has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.transport import carrier
from gateway.transport.carrier import FRAMES_AT_ONCE
from gateway.wire import frames
from tests.local_node import LocalNode, call, fnf, until
from tests.rawclient import RawClient, composite

TRANSPORTS = ["ws", "tcp"]


@contextmanager
def _each_turn(look: Callable[[], int]) -> Iterator[list[int]]:
    """What `look` says more in each turn of the loop."""
    loop = asyncio.get_running_loop()
    more: list[int] = []
    last = look()
    over = False

    def turn() -> None:
        nonlocal last
        now = look()
        more.append(now - last)
        last = now
        if not over:
            loop.call_soon(turn)

    loop.call_soon(turn)
    yield more
    over = True


def _sent_at_once(client: RawClient, *sent: frames.Frame) -> None:
    """In one write, and with that in few reads."""
    client.send_raw(b"".join(client._framed(frames.encode(frame)) for frame in sent))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_frames_of_a_turn(node: LocalNode, transport: str) -> None:
    """Faults 28, 35: many small frames in one read take many turns, in their order, and all of them arrive."""
    service = await node.client("tcp", serving=("sink",))
    client = await node.client(transport)
    connection = node.connection(client)
    with _each_turn(lambda: connection.frames_in) as handled:
        _sent_at_once(client, *[fnf(client, "sink.put", b"%d" % number) for number in range(3000)])
        got = [await service.recv() for _ in range(3000)]
    assert [frame.data for frame in got if isinstance(frame, frames.RequestFnf)] == [b"%d" % n for n in range(3000)]
    # What was left of one read and the start of the next may fall into one turn.
    assert max(handled) <= 2 * FRAMES_AT_ONCE
    assert sum(1 for count in handled if count) >= 3000 // (2 * FRAMES_AT_ONCE)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bytes_of_a_turn(node: LocalNode, transport: str) -> None:
    """A peer that sends as fast as it is read does not keep the loop to itself: one read of it, then others."""
    await node.client("tcp", serving=("sink",))
    client = await node.client(transport)
    connection = node.connection(client)
    with _each_turn(lambda: connection.bytes_in) as read:
        _sent_at_once(client, *[fnf(client, "sink.put", bytes(60_000)) for _ in range(200)])
        # The one who serves it does not read: some of it is held back in the end.
        await until(lambda: connection.bytes_in > 4 << 20 or connection.paused_by)
    assert max(read) <= 600_000  # twice the most that an event loop reads in one go
    client.abort()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_is_held_back_keeps_what_was_read(node: LocalNode, transport: str) -> None:
    """What a pause finds half done is done behind it, in order, before anything that comes later."""
    service = await node.client("tcp", serving=("sink",))
    client = await node.client(transport)
    connection = node.connection(client)
    other = node.connection(await node.client("tcp")).outbox
    _sent_at_once(client, *[fnf(client, "sink.put", b"%d" % number) for number in range(2000)])
    before = connection.frames_in
    while connection.frames_in == before:  # noqa: ASYNC110  (turn by turn)
        await asyncio.sleep(0)
    connection.pause_for(other)
    so_far = connection.frames_in
    for _ in range(20):
        await asyncio.sleep(0)
    assert connection.frames_in == so_far < 2000
    connection.resume_after(other)
    got = [await service.recv() for _ in range(2000)]
    assert [frame.data for frame in got if isinstance(frame, frames.RequestFnf)] == [b"%d" % n for n in range(2000)]
    await client.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_is_handled_behind_the_end(node: LocalNode, transport: str) -> None:
    """Fault 19: what waits for its turn when the connection ends is dropped."""
    client = await node.client(transport)
    connection = node.connection(client)
    _sent_at_once(
        client,
        *[frames.KeepAlive(respond=False)] * 300,
        frames.Error(0, 0x101, "goodbye"),
        *[fnf(client, "gateway.time", b"")] * 3000,
    )
    await until(lambda: connection.closed)
    handled = connection.frames_in
    await client.recv_close()
    assert connection.frames_in == handled
    assert handled < 300 + 2 * FRAMES_AT_ONCE


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_goes_on_sending_when_told_to_go(
    node: LocalNode, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 42, 51: what comes behind the end is dropped so that the ERROR is read; beyond a bound, it is reset."""
    monkeypatch.setattr(carrier, "LINGER_S", 3600.0)
    monkeypatch.setattr(carrier, "LINGER_BYTES", 256 * 1024)
    healthy = await node.client()
    client = await node.connect(transport)
    client.setup("not a token")
    much = client._framed(frames.encode(frames.Payload(1, None, bytes(60_000), next=True)))
    error = await client.recv()
    assert isinstance(error, frames.Error)

    async def go_on() -> None:
        while True:
            client.send_raw(much)
            await client.drain()

    with pytest.raises(ConnectionError):
        await go_on()
    client.abort()
    await until(lambda: node.residue().get("sockets") == 1)
    healthy.send(frames.RequestResponse(999, composite("gateway.time"), b""))
    assert isinstance(await healthy.recv(), frames.Payload)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_goodbye_behind_much(node: LocalNode, transport: str) -> None:
    """Who sends its last frames and closes has sent them: the end is seen behind them."""
    service = await node.client("tcp", serving=("sink",))
    client = await node.client(transport)
    _sent_at_once(client, *[fnf(client, "sink.put", b"%d" % number) for number in range(2000)])
    client.half_close()
    got = [await service.recv() for _ in range(2000)]
    assert len(got) == 2000
    await node.servant("tcp")
    assert await call(await node.client()) == b"hello"
