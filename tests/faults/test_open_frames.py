"""Frames that a client may not, or need not, send once it is in: what is ignored, what costs a stream, what the
connection; and that ignoring has a budget.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire import frames
from gateway.wire.frames import MAX_REQUEST_N
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, stream_request
from tests.rawclient import PING, RawClient, composite

BROKEN, REJECTED, INVALID = 0x101, 0x202, 0x204
TRANSPORTS = ["ws", "tcp"]


def _header(stream_id: int, kind: int, flags: int, body: bytes = b"") -> bytes:
    return stream_id.to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big") + body


_BEYOND = b"\x00\xff\xff" + b"short"  # a metadata length that goes beyond its frame

BREAKS = {
    "fault 8: no header": b"\0\0\0\1\x10",
    "fault 8: an empty frame": b"",
    "P23: unknown type on stream 0": _header(0, 0x20, 0),
    "P23: unknown type on a stream": _header(1, 0x20, 0),
    "fault 44: EXT that must be understood": frames.encode(frames.Extension(0, False, False, 1)),
    "fault 44: EXT on a stream": frames.encode(frames.Extension(1, False, False, 1)),
    "P24: request": _header(1, 0x04, 0x100, _BEYOND),
    "P24: fire and forget": _header(1, 0x05, 0x100, _BEYOND),
    "P24: stream": _header(1, 0x06, 0x100, b"\0\0\0\1" + _BEYOND),
    "P24: channel": _header(1, 0x07, 0x100, b"\0\0\0\1" + _BEYOND),
    "fault 39: no room for a length": _header(1, 0x04, 0x100, b"\0\0"),
    "fault 26: no room for n": _header(1, 0x06, 0, b"\0\0"),
    "fault 41: even stream id": frames.encode(frames.RequestResponse(2, composite("echo.it"), b"")),
    "fault 49: RESUME": frames.encode(frames.Resume(b"t" * 16, 0, 0)),
    "KEEPALIVE without a position": _header(0, 0x03, 0x80, b"\0\0"),
    "ERROR without a code": _header(0, 0x0B, 0, b"\0"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", BREAKS)
async def test_broken_protocol(node: LocalNode, transport: str, name: str) -> None:
    """P23 P24 P52, faults 8, 39, 41, 44, 49: ERROR[CONNECTION_ERROR] on stream 0, close 1002, no frame behind it."""
    servant = await node.servant()
    healthy = await node.client("tcp")
    client = await node.client(transport)
    client.send(BREAKS[name], frames.RequestResponse(9, composite("echo.it"), b"behind"))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, BROKEN)
    assert (await client.recv_close())[0] == (1002 if transport == "ws" else None)
    assert client.skipped == []
    assert await call(healthy) == b"hello"
    assert len(servant.heard) == 1
    assert node.counters.closes == {"protocol_error": 1}


IGNORED = {
    "P07: second SETUP": frames.encode(RawClient.setup_frame("another token")),
    "P22: CANCEL on an unknown stream": frames.encode(frames.Cancel(77)),
    "P22: ERROR on an unknown stream": frames.encode(frames.Error(77, 0x201, "x")),
    "P22: PAYLOAD on an unknown stream": frames.encode(frames.Payload(77, b"m", b"d", next=True)),
    "P22: fragment on an unknown stream": frames.encode(frames.Payload(77, None, b"d", follows=True)),
    "P22: REQUEST_N on an unknown stream": frames.encode(frames.RequestN(77, 1)),
    "P22: CANCEL on stream 0": _header(0, 0x09, 0),
    "P22: PAYLOAD on stream 0": _header(0, 0x0A, 0x20, b"x"),
    "P22: request on stream 0": _header(0, 0x04, 0, b"x"),
    "P22: METADATA_PUSH on a stream": _header(5, 0x0C, 0x100, b"x"),
    "fault 43: METADATA_PUSH": frames.encode(frames.MetadataPush(b"x")),
    "fault 45: LEASE that nobody asked for": frames.encode(frames.Lease(1000, 10)),
    "P07: refusal of a SETUP": frames.encode(frames.Error(0, 0x003, "no")),
    "P23: unknown type that may be ignored": _header(0, 0x20, 0x200),
    "P23: unknown type that may be ignored, on a stream": _header(1, 0x20, 0x200),
    "fault 44: EXT that may be ignored": frames.encode(frames.Extension(0, True, False, 1)),
    "fault 44: EXT that may be ignored, on a stream": frames.encode(frames.Extension(3, True, True, 1, b"x")),
    "P52: RESUME_OK": frames.encode(frames.ResumeOk(0)),
    "P22: unspecified flags": _header(77, 0x09, 0x3FF),
    "P10: KEEPALIVE that asks nothing": frames.encode(frames.KeepAlive(respond=False)),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", IGNORED)
async def test_ignored_frames(node: LocalNode, transport: str, name: str) -> None:
    """P07 P10 P22 P23 P52, faults 22, 42, 43, 44, 45: no answer, no effect, and the client goes on."""
    await node.servant()
    client = await node.client(transport, subject="first")
    client.send(IGNORED[name])
    assert await client.barrier() == []
    assert await call(client) == b"hello"
    assert node.connection(client).principal.subject == "first"


async def test_flags_that_mean_nothing_cross(node: LocalNode) -> None:
    """P22: a request whose unspecified bits are set is a request."""
    await node.servant()
    client = await node.client()
    request = bytearray(frames.encode(frames.RequestResponse(1, composite("echo.it"), b"hi")))
    request[5] |= 0x7F
    client.send(bytes(request))
    answer = await client.recv()
    assert isinstance(answer, frames.Payload)
    assert answer.data == b"hi"


BUDGETED = {
    "fault 22: SETUP": frames.encode(RawClient.setup_frame("another")),
    "fault 42: PAYLOAD": frames.encode(frames.Payload(77, None, b"x", next=True)),
    "fault 42: CANCEL": frames.encode(frames.Cancel(77)),
    "fault 42: REQUEST_N": frames.encode(frames.RequestN(77, 1)),
    "fault 43: METADATA_PUSH": frames.encode(frames.MetadataPush(b"x")),
    "fault 44: EXT": frames.encode(frames.Extension(0, True, False, 1)),
    "fault 45: LEASE": frames.encode(frames.Lease(1000, 10)),
}


async def _unforgiven(node: LocalNode, transport: str) -> RawClient:
    """A device that the node has nothing to forgive: of a stream that has ended, frames may still be under way."""
    client = await node.client(transport, kind="device")
    node.connection(client).strays.excused = 0
    return client


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", BUDGETED)
async def test_ignoring_has_a_budget(node: LocalNode, transport: str, name: str) -> None:
    """Faults 22, 42, 43, 44, 45: 200 frames that mean nothing in 10 s are borne, the next one is not: 0x101, 1008."""
    client = await _unforgiven(node, transport)
    for _ in range(200):
        client.send(BUDGETED[name])
    assert await client.barrier() == []
    client.send(BUDGETED[name])
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, BROKEN)
    assert (await client.recv_close())[0] == (1008 if transport == "ws" else None)
    assert node.counters.closes == {"policy": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ignoring_has_a_budget_of_bytes(node: LocalNode, transport: str) -> None:
    """Fault 42: 1 MiB in 10 s, one byte less and one byte more."""
    client = await _unforgiven(node, transport)
    size = 64 * 1024
    for _ in range(15):
        client.send(frames.Payload(77, None, bytes(size - 6), next=True))
    client.send(frames.Payload(77, None, bytes(size - 7), next=True))
    assert await client.barrier() == []
    client.send(frames.Cancel(77))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert error.code == BROKEN
    assert (await client.recv_close())[0] == (1008 if transport == "ws" else None)


async def test_the_budget_comes_back(start_node: StartNode) -> None:
    """Fault 42: what is spent is forgiven after the window."""
    node = await start_node({"limits.device.ignored_frames": 5, "limits.device.ignored_window_s": 1})
    client = await _unforgiven(node, "ws")
    client.send(*[frames.Cancel(77)] * 5)
    await client.barrier()
    await asyncio.sleep(1.1)
    client.send(*[frames.Cancel(77)] * 5)
    assert await client.barrier() == []
    client.send(frames.Cancel(77))
    assert (await client.recv_close())[0] == 1008


async def test_a_trusted_service_may_be_clumsy(node: LocalNode) -> None:
    client = await node.client("tcp", kind="service")
    client.send(*[frames.Payload(77, None, bytes(10_000), next=True)] * 500)
    assert await client.barrier() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_keepalive_with_too_much_data(node: LocalNode, transport: str) -> None:
    """Fault 31: 64 bytes come back, 65 are too many."""
    client = await node.client(transport)
    client.send(frames.KeepAlive(respond=True, data=bytes(64)))
    assert await client.recv() == frames.KeepAlive(respond=False, data=bytes(64))
    client.send(frames.KeepAlive(respond=True, data=bytes(65)))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert error.code == BROKEN
    assert (await client.recv_close())[0] == (1008 if transport == "ws" else None)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [0x06, 0x07])
@pytest.mark.parametrize("n", [0, 0x8000_0000, 0xFFFF_FFFF])
async def test_initial_n_out_of_bounds(node: LocalNode, transport: str, kind: int, n: int) -> None:
    """P30, fault 26: ERROR[INVALID] on the stream; the connection lives, and nobody is asked."""
    servant = await node.servant()
    client = await node.client(transport)
    metadata = composite("echo.it")
    client.send(_header(1, kind, 0x100, n.to_bytes(4, "big") + len(metadata).to_bytes(3, "big") + metadata))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (1, INVALID)
    assert await call(client) == b"hello"
    assert len(servant.heard) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("n", [0, 0x8000_0000, 0xFFFF_FFFF])
async def test_request_n_out_of_bounds(node: LocalNode, transport: str, n: int) -> None:
    """P30, fault 26: ERROR[INVALID] on the stream, CANCEL to its responder."""
    service = await node.client("tcp", serving=("echo",))
    client = await node.client(transport)
    client.send(stream_request(1, "echo.it", b"", 1))
    request = await service.recv()
    assert isinstance(request, frames.RequestStream)
    client.send(_header(1, 0x08, 0, n.to_bytes(4, "big")))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (1, INVALID)
    assert await service.recv() == frames.Cancel(request.stream_id)
    await client.barrier()


async def test_request_n_without_n(node: LocalNode) -> None:
    """Fault 26: a REQUEST_N that is cut short is no frame."""
    service = await node.client("tcp", serving=("echo",))
    client = await node.client("tcp")
    client.send(stream_request(1, "echo.it", b"", 1))
    request = await service.recv()
    client.send(_header(1, 0x08, 0, b"\0\0"))
    assert isinstance(await client.recv(), frames.Error)
    assert await service.recv() == frames.Cancel(request.stream_id)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_credit_saturates(node: LocalNode, transport: str) -> None:
    """P30, fault 25: 2^31-1 and again 2^31-1 is 2^31-1; the stream keeps flowing."""
    await node.servant()
    client = await node.client(transport)
    client.send(stream_request(1, "echo.it", b"1", MAX_REQUEST_N))
    client.send(*[frames.RequestN(1, MAX_REQUEST_N)] * 5)
    for _ in range(2000):
        item = await client.recv()
        assert isinstance(item, frames.Payload)
        assert item.stream_id == 1
    client.send(frames.Cancel(1))
    await client.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_stream_id_in_use(node: LocalNode, transport: str) -> None:
    """P21, fault 41: a request on an id in use is ignored; on one that was used before, lower or not, it is served."""
    service = await node.client("tcp", serving=("echo",))
    client = await node.client(transport)
    client.send(frames.RequestResponse(5, composite("echo.it"), b"first"))
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    client.send(frames.RequestResponse(5, composite("echo.it"), b"again"), stream_request(5, "echo.it", b""))
    await client.barrier()
    assert await service.barrier() == []
    service.send(frames.Payload(asked.stream_id, None, b"answer", next=True, complete=True))
    answer = await client.recv()
    assert answer == frames.Payload(5, None, b"answer", next=True, complete=True)
    for number in (5, 3, 0x7FFF_FFFF, 1):
        client.send(frames.RequestResponse(number, composite("echo.it"), b"%d" % number))
        asked = await service.recv()
        assert isinstance(asked, frames.RequestResponse)
        assert asked.data == b"%d" % number
        service.send(frames.Payload(asked.stream_id, None, b"", next=True, complete=True))
        assert (await client.recv()).stream_id == number  # type: ignore[union-attr]


REFUSED = {
    "no metadata": frames.RequestResponse(1, None, b""),
    "no route": frames.RequestResponse(1, composite(entries=[("application/json", b"{}")]), b""),
    "truncated entry": frames.RequestResponse(1, b"\xfe\0\0\x09\x04echo", b""),
    "truncated tag": frames.RequestResponse(1, b"\xfe\0\0\x03\x09ec", b""),
    "metadata beyond the limit": frames.RequestResponse(1, composite("echo." + "x" * 200) + bytes(4096), b""),
    "nobody serves the longest route": frames.RequestStream(1, composite("e" * 255), b"", 1),
    "17 entries": frames.RequestChannel(1, composite("echo.it", entries=[("application/json", b"")] * 16), b"", 1),
    "nobody serves it": frames.RequestResponse(1, composite("nobody.home"), b""),
    "P24 with I": _header(1, 0x04, 0x300, _BEYOND),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_requests(node: LocalNode, transport: str, name: str) -> None:
    """P24, faults 39, 40: a request that is wrong costs its stream alone, with its code; nobody is asked."""
    servant = await node.servant()
    client = await node.client(transport, kind="device")
    client.send(REFUSED[name])
    error = await client.recv()
    assert isinstance(error, frames.Error)
    expected = REJECTED if name.startswith("nobody") else INVALID
    assert (error.stream_id, error.code) == (1, expected), error
    assert await call(client) == b"hello"
    assert len(servant.heard) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fire_and_forget_is_never_answered(node: LocalNode, transport: str) -> None:
    """P35: not even by an error."""
    client = await node.client(transport, kind="device")
    for refused in REFUSED.values():
        if isinstance(refused, frames.RequestResponse):
            client.send(frames.RequestFnf(client.next_stream_id(), refused.metadata, b""))
    for route in ("gateway.ready", "gateway.routes", "gateway.nothing", "gateway"):
        client.send(frames.RequestFnf(client.next_stream_id(), composite(route), b""))
    assert await client.barrier() == []


async def test_pings_between_frames(node: LocalNode) -> None:
    """A control frame may come anywhere between messages."""
    await node.servant()
    client = await node.client()
    for _ in range(3):
        client.send_message(b"x", opcode=PING)
        assert await call(client) == b"hello"
