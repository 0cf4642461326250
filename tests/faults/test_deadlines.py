"""Peers that do not do what they should in time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.forwarding.outbox import DROWNING
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, fnf, stream_request, until
from tests.rawclient import PING, RawClient, composite

TRANSPORTS = ["ws", "tcp"]
HIGH, HARD = 256 << 10, 1 << 20


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_setup_in_time(start_node: StartNode, transport: str) -> None:
    """P02, fault 18: the deadline runs from the moment that frames can be sent; half a SETUP does not move it."""
    node = await start_node({"limits.setup_timeout_s": 0.3})
    silent, dribbling = await node.connect(transport), await node.connect(transport)
    setup = dribbling._framed(frames.encode(dribbling.setup_frame(node.token())))
    ended = asyncio.create_task(dribbling.recv_close())
    for byte in setup[:-1]:
        dribbling.send_raw(bytes((byte,)))
        if (await asyncio.wait({ended}, timeout=0.01))[0]:
            break
    else:
        pytest.fail("it could have gone on")
    for client in (silent, dribbling):
        code, _ = await (ended if client is dribbling else client.recv_close())
        assert code == (4408 if transport == "ws" else None)
        assert client.skipped == [frames.Error(0, 0x101, "no SETUP in time")]
    assert node.counters.closes == {"setup_timeout": 2}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pings_are_no_setup(start_node: StartNode, transport: str) -> None:
    """Fault 18: whatever else comes meanwhile."""
    node = await start_node({"limits.setup_timeout_s": 0.3})
    client = await node.connect(transport)
    ended = asyncio.create_task(client.recv_close())
    while not (await asyncio.wait({ended}, timeout=0.05))[0]:
        if transport == "ws":
            client.send_message(b"", opcode=PING)
        else:
            client.send_raw(b"\0\1\0" if not client.skipped else b"\0")
    assert node.counters.closes == {"setup_timeout": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_silent_peer(start_node: StartNode, transport: str) -> None:
    """P12, fault 33, P4 of the promises: gone after a lifetime, and its routes with it; who speaks stays."""
    node = await start_node({"limits.keepalive_min_ms": 100})
    times = {"keepalive_ms": 300, "lifetime_ms": 400}
    silent = await node.client(transport, serving=("echo",), setup=times)
    speaking = await node.client(transport, setup=times)
    slow = await node.client(transport)
    loop = asyncio.get_running_loop()
    start = loop.time()
    number = slow.request("echo.it")
    ended = asyncio.create_task(slow.recv())
    while not (await asyncio.wait({ended}, timeout=0.05))[0]:
        speaking.send(frames.KeepAlive(respond=False))
    assert ended.result() == frames.Error(number, 0x203, "responder disconnected")
    assert loop.time() - start >= 0.35
    assert len(node.node.plane.table) == 3  # gateway and two clients
    code, _ = await silent.recv_close()
    assert code == (4408 if transport == "ws" else None)
    assert [frame.code for frame in silent.skipped if isinstance(frame, frames.Error)] == [0x101]
    assert node.counters.closes == {"keepalive_timeout": 1}
    await speaking.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_expired_token(start_node: StartNode, transport: str) -> None:
    """Fault 61: a token that expires ends its connection, with 4401, and the streams that it serves and asked for."""
    node = await start_node({"auth.leeway_s": 0})
    service = await node.client("tcp", serving=("echo",))
    device = await node.client(transport, "device-1", "device", serving=("device-1",), ttl=1)
    device.send(stream_request(1, "echo.it", b"1", 5))
    asked = await service.recv()
    assert isinstance(asked, frames.RequestStream)
    number = service.request("device-1.read")
    await device.recv()
    code, _ = await device.recv_close()
    assert code == (4401 if transport == "ws" else None)
    error = device.skipped[-1]
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert "expired" in error.text
    heard = [await service.recv(), await service.recv()]
    assert heard == [frames.Error(number, 0x203, "responder disconnected"), frames.Cancel(asked.stream_id)]
    assert node.counters.closes == {"token_expired": 1}


def _flood(client: RawClient, how: str) -> bytes:
    """A second's worth of what draws more from the node than it costs to send; the service is `echo`."""
    if how == "stream":
        sent: list[frames.Frame] = [stream_request(1, "echo.it", b"60000")]
    elif how == "responses":
        ask = composite("echo.it")
        sent = [frames.RequestResponse(number, ask, bytes(60_000)) for number in range(1, 401, 2)]
    elif how == "keepalives":
        sent = [frames.KeepAlive(True, 0, bytes(64))] * 50_000
    else:
        sent = [frames.RequestResponse(1, composite("nobody.home"), b"")] * 50_000
    framed: dict[int, bytes] = {}
    return b"".join(framed.setdefault(id(frame), client._framed(frames.encode(frame))) for frame in sent)


@pytest.mark.parametrize(
    ("how", "transport"), [("stream", "ws"), ("responses", "tcp"), ("keepalives", "tcp"), ("refusals", "ws")]
)
async def test_peer_that_never_reads(start_node: StartNode, transport: str, how: str) -> None:
    """Faults 14, 29, 31, 32: aborted after the write deadline, though it sends; others wait for it for a moment, if at
    all, and what is held for it is bounded.
    """
    bounds = {"high_water_bytes": HIGH, "hard_water_bytes": HARD, "write_deadline_s": 2}
    node = await start_node(
        {f"limits.{kind}.{name}": n for kind in ("device", "service") for name, n in bounds.items()}
    )
    await node.servant()
    healthy = await node.client("tcp")
    idle = await node.client(transport, kind="device" if how == "refusals" else "service", receive_buffer=4096)
    connection = node.connection(idle)
    idle.send_raw(_flood(idle, how))
    loop = asyncio.get_running_loop()
    slowest = 0.0
    most = 0
    start = loop.time()
    while not connection.closed:
        asked = loop.time()
        assert await call(healthy, data=bytes(1000)) == bytes(1000)
        slowest = max(slowest, loop.time() - asked)
        most = max(most, connection.outbox.size)
        await asyncio.sleep(0.005)
        assert loop.time() - start < 30
    assert node.counters.closes == {"write_timeout": 1}
    # A pause of a second at most, and not until the write deadline.
    assert slowest < bounds["write_deadline_s"], slowest
    # Answers to what it sends are bounded by not reading on; what others owe it, by what it has asked of them.
    assert most <= HARD * (DROWNING if how in ("stream", "responses") else 1) + (1 << 20), most


async def test_a_slow_reader_is_no_dead_one(start_node: StartNode) -> None:
    """Fault 32: what counts is that bytes drain, be it ever so slowly."""
    node = await start_node({"limits.service.write_deadline_s": 1})
    await node.servant()
    slow = await node.client("tcp", receive_buffer=4096)
    connection = node.connection(slow)
    slow.send(stream_request(1, "echo.it", b"60000"))
    await until(lambda: connection.outbox.blocked)
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() - start < 2.5:
        await slow._reader.read(50_000)
        await asyncio.sleep(0.1)
    assert not connection.closed
    assert fnf(slow, "echo.it", b"")


async def test_a_bug_in_a_deadline_does_not_stop_the_clock(node: LocalNode) -> None:
    """Deadlines are looked at for ever, whatever goes wrong once."""
    plane = node.node.plane
    healthy = await node.client()
    tick, plane.wall = plane.wall, lambda: 1 // 0
    await until(lambda: len(node.errors) >= 3)
    plane.wall = tick
    assert all(isinstance(context["exception"], ZeroDivisionError) for context in node.errors)
    node.errors.clear()
    node.connection(healthy).session.lifetime_s = 0.05
    assert (await healthy.recv_close())[0] == 4408
