"""Messages in fragments that never end, are too many, too small or too large; to a service and to the node itself.

Nothing of this reaches a service as a whole message, and the connection lives until it has been done three times.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire import frames
from gateway.wire.metadata import encode_composite
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until
from tests.rawclient import RawClient, composite

TRANSPORTS = ["ws", "tcp"]
TO_NODE, TO_SERVICE = "gateway.register", "sink.put"
INVALID, REJECTED = 0x204, 0x202


def _begin(client: RawClient, route: str, data: bytes, *, metadata_only: bool = False) -> int:
    """The first fragment of a request; of its metadata alone, if so asked."""
    number = client.next_stream_id()
    metadata = encode_composite([("text/plain", data)]) if metadata_only else composite(route)
    client.send(frames.RequestResponse(number, metadata, b"" if metadata_only else data, follows=True))
    return number


def _more(number: int, data: bytes, *, follows: bool = True) -> frames.Payload:
    return frames.Payload(number, None, data, follows=follows, next=True)


async def _refusal(client: RawClient, number: int) -> tuple[int, str]:
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", 0) == number:
            assert isinstance(frame, frames.Error), frame
            return frame.code, frame.text


@pytest.fixture
async def sink(node: LocalNode) -> RawClient:
    """A service that takes everything and says nothing."""
    return await node.client("tcp", "svc-sink", serving=("sink",))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("route", [TO_NODE, TO_SERVICE])
async def test_a_message_without_end(start_node: StartNode, transport: str, route: str) -> None:
    """limits.device.max_reassembly_bytes, fault 34: INVALID on the stream; the third such message ends the connection:
    1009. What still comes of a refused one is dropped."""
    node = await start_node({"limits.device.bytes_per_second": 0, "limits.device.max_fragments": 1000})
    await node.client("tcp", "svc-sink", serving=("sink",))
    client = await node.client(transport, "device-1", "device")
    for attempt in (1, 2, 3):
        number = _begin(client, route, bytes(40_000))
        client.send(*[_more(number, bytes(60_000))] * 17)
        if attempt < 3:
            assert (await _refusal(client, number))[0] == INVALID
            client.send(_more(number, bytes(60_000)), _more(number, b"end", follows=False))
            await client.barrier()
    code, _ = await client.recv_close()
    assert code == (1009 if transport == "ws" else None)
    assert client.skipped[-1] == frames.Error(0, 0x101, "too many messages over the limits of fragments")
    assert node.counters.refusals == {"max_reassembly_bytes": 3, "broken_messages": 1}
    assert node.counters.closes == {"too_big": 1}


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
async def test_the_size_of_a_message_that_is_passed_on(start_node: StartNode, more: int, fits: bool) -> None:
    """limits.device.max_reassembly_bytes: with the header of each fragment; one less, the limit, one more."""
    node = await start_node({"limits.device.max_reassembly_bytes": 5_000})
    service = await node.client("tcp", "svc-sink", serving=("sink",))
    client = await node.client("ws", "device-1", "device")
    number = _begin(client, TO_SERVICE, bytes(1_000))
    client.send(_more(number, bytes(2_000)), _more(number, bytes(5_000 - 1_000 - 2_006 - 6 + more), follows=False))
    if fits:
        heard = [await service.recv() for _ in range(3)]
        assert isinstance(heard[-1], frames.Payload)
        assert not heard[-1].follows
    else:
        assert await _refusal(client, number) == (INVALID, "message above 5000 bytes")
        assert isinstance([await service.recv() for _ in range(3)][-1], frames.Cancel)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("route", [TO_NODE, TO_SERVICE])
@pytest.mark.parametrize("size", [0, 57, 58, 59])
async def test_tiny_fragments(node: LocalNode, sink: RawClient, transport: str, route: str, size: int) -> None:
    """limits.device.min_fragment_bytes, fault 35: 63, 64 and 65 bytes with the header; only the last may be smaller."""
    client = await node.client(transport, "device-1", "device")
    number = _begin(client, route, bytes(100))
    client.send(_more(number, bytes(size)))
    if size < 58:
        assert await _refusal(client, number) == (INVALID, "fragment below 64 bytes")
        assert node.counters.refusals == {"min_fragment_bytes": 1}
    else:
        client.send(_more(number, b"end", follows=False))
        await client.barrier()
        assert "min_fragment_bytes" not in node.counters.refusals
        if route == TO_NODE:
            assert (await _refusal(client, number))[0] == INVALID  # it is no ROUTE_SETUP


async def test_tiny_fragments_of_a_responder(node: LocalNode) -> None:
    """Fault 35, the other way about: whoever serves is told by CANCEL, whoever asked by ERROR[INVALID]."""
    device = await node.client("ws", "device-1", "device", serving=("device-1",))
    client = await node.client("tcp")
    number = client.request("device-1.get")
    request = await device.recv()
    assert isinstance(request, frames.RequestResponse)
    device.send(_more(request.stream_id, bytes(100)), _more(request.stream_id, b"tiny"))
    assert isinstance(await client.recv(), frames.Payload)
    assert await _refusal(client, number) == (INVALID, "responder: fragment below 64 bytes")
    assert await device.recv() == frames.Cancel(request.stream_id)


@pytest.mark.parametrize("metadata_only", [True, False])
async def test_half_of_many_messages(node: LocalNode, metadata_only: bool) -> None:
    """limits.device.max_partials, fault 36: the ninth is REJECTED; CANCEL frees."""
    client = await node.client("tcp", "device-1", "device")
    numbers = [_begin(client, TO_NODE, bytes(100), metadata_only=metadata_only) for _ in range(9)]
    assert await _refusal(client, numbers[-1]) == (REJECTED, "over the limit of 8 unfinished messages")
    client.send(frames.Cancel(numbers[0]))
    await client.barrier()
    number = _begin(client, TO_NODE, bytes(100), metadata_only=metadata_only)
    assert await client.barrier() == []
    assembly = node.connection(client).assembly
    assert assembly is not None
    assert len(assembly) == 8
    for each in (*numbers[1:8], number):
        client.send(frames.Cancel(each))
    await client.barrier()
    assert (len(assembly), assembly.size) == (0, 0)
    assert node.counters.refusals == {"max_partials": 1}


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
async def test_all_of_them_together(start_node: StartNode, more: int, fits: bool) -> None:
    """limits.device.max_partial_bytes: 2 MiB a connection, here less; one less, the limit, one more."""
    node = await start_node({"limits.device.max_partial_bytes": 4_000})
    client = await node.client("tcp", "device-1", "device")
    first, second = _begin(client, TO_NODE, bytes(2_000)), _begin(client, TO_NODE, bytes(1_000))
    assert await client.barrier() == []
    assembly = node.connection(client).assembly
    assert assembly is not None
    client.send(_more(second, bytes(4_000 - assembly.size + more)))
    if fits:
        assert await client.barrier() == []
        assert assembly.size == 4_000 + more
    else:
        assert await _refusal(client, second) == (INVALID, "over the limit of 4000 bytes in unfinished messages")
        assert node.counters.refusals == {"max_partial_bytes": 1}
    client.send(frames.Cancel(first), frames.Cancel(second))
    await client.barrier()
    assert assembly.size == 0


@pytest.mark.parametrize("metadata_only", [True, False])
async def test_a_message_of_which_nothing_more_comes(start_node: StartNode, metadata_only: bool) -> None:
    """limits.device.partial_idle_s, fault 34: INVALID when nothing came for so long, and what was held is gone."""
    node = await start_node({"limits.device.partial_idle_s": 1})
    client = await node.client("tcp", "device-1", "device")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    number = _begin(client, TO_NODE, bytes(100), metadata_only=metadata_only)
    assert await _refusal(client, number) == (INVALID, "no fragment for 1 s")
    assert loop.time() - begun >= 1
    assembly = node.connection(client).assembly
    assert assembly is not None
    assert (len(assembly), assembly.size) == (0, 0)
    assert node.counters.refusals == {"partial_idle_s": 1}
    await client.barrier()


async def test_what_is_held_counts_as_memory(start_node: StartNode) -> None:
    """limits.device.max_memory_bytes: messages that are partly there, and the frame whose end has not come, count."""
    node = await start_node({"limits.device.max_memory_bytes": 50_000})
    await node.servant()
    client = await node.client("tcp", "device-1", "device")
    number = _begin(client, TO_NODE, bytes(30_000))
    assert await call(client, "echo.it") == b"hello"
    connection = node.connection(client)
    assert connection.held_bytes > 30_000
    client.send_raw((60_000).to_bytes(3, "big") + bytes(15_000))
    await until(lambda: connection.held_bytes > 45_000)
    assert not connection.closed
    client.send_raw(bytes(10_000))
    await client.recv_close()
    assert number
    assert node.counters.refusals == {"max_memory_bytes": 1}
    assert node.counters.closes == {"policy": 1}
