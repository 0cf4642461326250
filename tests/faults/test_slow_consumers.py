"""One consumer of a service reads slowly, or not at all; another one goes on (fault 88)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.forwarding.credit import WINDOW
from gateway.wire import frames
from gateway.wire.frames import MAX_REQUEST_N
from tests.conftest import StartNode
from tests.local_node import LocalNode, Servant, call, stream_request, until
from tests.rawclient import RawClient, composite

TRANSPORTS = ["ws", "tcp"]


async def _rate(client: RawClient, items: int) -> float:
    """Items a second of a stream that this client reads as fast as it can."""
    loop = asyncio.get_running_loop()
    number = client.next_stream_id()
    client.send(stream_request(number, "echo.it", b"1000"))
    start = loop.time()
    got = 0
    while got < items:
        item = await client.recv()
        assert isinstance(item, frames.Payload)
        got += item.stream_id == number
    took = loop.time() - start
    client.send(frames.Cancel(number))
    await client.barrier()
    return items / took


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_streams_of_ordinary_items(node: LocalNode, transport: str) -> None:
    """Faults 27, 88: credit for 2^31-1 items and no reading stalls that stream alone; another consumer of the same
    service goes on at full speed, and what the node holds stays within a window of items.
    """
    await node.servant()
    quick = await node.client(transport)
    alone = await _rate(quick, 3000)
    names = ("slow-1", "slow-2", "slow-3")
    stalled = [await node.client(transport, name, "device", receive_buffer=4096) for name in names]
    for client in stalled:
        client.send(stream_request(1, "echo.it", b"1000", MAX_REQUEST_N))
        client.send(frames.RequestN(1, MAX_REQUEST_N))
    connections = [node.connection(client) for client in stalled]
    await until(lambda: all(connection.outbox.blocked for connection in connections))
    await asyncio.sleep(0.1)
    held = [connection.outbox.size for connection in connections]
    # Of several, because a busy machine is slow for a moment, and a consumer that is held up is slow each time.
    beside = [await _rate(quick, 3000)]
    while beside[-1] <= alone / 4 and len(beside) < 5:
        beside.append(await _rate(quick, 3000))
    assert beside[-1] > alone / 4, (beside, alone)
    assert [connection.outbox.size for connection in connections] == held  # nothing more is produced for them
    for connection in connections:
        assert connection.outbox.size < connection.grant.limits.high_water_bytes + 2 * WINDOW * 1006
        assert not connection.outbox.feeders
    # Whoever reads on gets everything in order, as if nothing had been.
    for client in stalled:
        for _ in range(2000):
            item = await client.recv()
            assert isinstance(item, frames.Payload)
            assert (item.stream_id, len(item.data)) == (1, 1000)


async def _calls(client: RawClient, until_done: asyncio.Event) -> list[float]:
    """How long each call took, one after the other."""
    loop = asyncio.get_running_loop()
    took = []
    while not until_done.is_set():
        start = loop.time()
        await call(client, "echo.it", bytes(100))
        took.append(loop.time() - start)
        await asyncio.sleep(0.002)
    return took


@pytest.mark.parametrize("model", ["responses", "stream"])
async def test_large_items(start_node: StartNode, model: str) -> None:
    """Fault 88: items so large that credit alone does not hold them back. Whoever trickles through them may hold others
    up for a moment; then what is for it piles up, and calls of the others go on.
    """
    node = await start_node()
    await node.servant()
    healthy = await node.client("tcp")
    slow = await node.client("tcp", receive_buffer=4096)
    if model == "stream":
        slow.send(stream_request(1, "echo.it", b"60000", MAX_REQUEST_N))
    else:
        slow.send(*[frames.RequestResponse(n, composite("echo.it"), bytes(60_000)) for n in range(1, 401, 2)])
    connection = node.connection(slow)
    done = asyncio.Event()
    calling = asyncio.create_task(_calls(healthy, done))
    loop = asyncio.get_running_loop()
    start = loop.time()
    given_up = False
    while loop.time() - start < 2.5:
        await slow._reader.read(10_000)
        await asyncio.sleep(0.01)
        given_up = given_up or connection.outbox.slow
    done.set()
    took = await calling
    assert not connection.closed
    assert given_up
    # One pause, of a second at most; on a busy machine that is a call in fifty.
    assert sorted(took)[len(took) * 49 // 50] < 0.5, took
    assert connection.outbox.size < 20 << 20
    slow.abort()  # what it has not been able to say yet would be waited for


async def test_requests_to_a_service_that_does_not_read(start_node: StartNode) -> None:
    """Fault 88, the other way about: callers wait for a moment, then are refused, and their other calls go on."""
    node = await start_node({"limits.service.high_water_bytes": 64 << 10, "limits.service.hard_water_bytes": 256 << 10})
    await node.servant()
    stuck = await node.client("tcp", serving=("stuck",), receive_buffer=4096)
    client = await node.client("tcp")
    ask = frames.RequestResponse
    client.send(*[ask(number, composite("stuck.it"), bytes(10_000)) for number in range(1, 801, 2)])
    client.send(ask(1001, composite("echo.it"), b"others"))
    answers: list[frames.Frame] = []
    while not isinstance(answers[-1] if answers else None, frames.Payload):
        answers.append(await client.recv())
    assert answers.pop() == frames.Payload(1001, None, b"others", next=True, complete=True)
    assert answers
    assert {(error.code, error.text) for error in answers if isinstance(error, frames.Error)} == {
        (0x202, "what serves this takes in too little; try again")
    }
    assert node.connection(stuck).outbox.slow
    # It reads again: what was accepted arrives, and new requests are.
    servant = Servant(stuck, "stuck")
    node.servants.append(servant)
    await until(lambda: not node.connection(stuck).outbox.slow)
    number = client.request("stuck.it", b"again", stream_id=1003)
    while (answer := await client.recv()).stream_id != number:  # type: ignore[union-attr]
        assert isinstance(answer, frames.Payload)
    assert answer == frames.Payload(number, None, b"again", next=True, complete=True)


async def test_more_is_owed_than_can_be_held(start_node: StartNode) -> None:
    """Fault 27: the end of patience with a consumer is a multiple of its hard mark."""
    node = await start_node({"limits.service.high_water_bytes": 64 << 10, "limits.service.hard_water_bytes": 128 << 10})
    await node.servant()
    slow = await node.client("tcp", receive_buffer=4096)
    connection = node.connection(slow)
    slow.send(stream_request(1, "echo.it", b"60000", MAX_REQUEST_N))
    await until(lambda: connection.closed)
    assert node.counters.closes == {"write_timeout": 1}
