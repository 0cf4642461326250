"""Single limits as they are set: one less and the limit itself are in order, one more gets its code and its counter.

Here are those of one frame. What takes account of a connection's past has tests of its own (`test_floods`,
`test_fragments`, `test_open_frames`), and so have those by address (`transport.test_admission`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.wire import frames
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING
from tests.conftest import StartNode
from tests.rawclient import RawClient, composite

TRANSPORTS = ["ws", "tcp"]
SIDES = pytest.mark.parametrize("more", [-1, 0, 1])
INVALID, REJECTED = 0x204, 0x202


def _with_metadata(size: int) -> frames.Frame:
    route = (ROUTING, encode_routing(["gateway.time"]))
    empty = len(encode_composite([route, ("text/plain", b"")]))
    return frames.RequestResponse(1, encode_composite([route, ("text/plain", bytes(size - empty))]), b"")


def _with_entries(count: int) -> frames.Frame:
    return frames.RequestResponse(1, composite("gateway.time", entries=[("text/plain", b"")] * (count - 1)), b"")


def _with_route(size: int) -> frames.Frame:
    # Longer than any name, so that the answer is "no route" where the length is in order.
    return frames.RequestResponse(1, composite("r" * size), b"")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("name", "limit", "make", "otherwise"),
    [
        ("max_metadata_bytes", 200, _with_metadata, None),
        ("max_metadata_entries", 4, _with_entries, None),
        ("max_route_bytes", 30, _with_route, "no_route"),
    ],
)
@SIDES
async def test_metadata(
    start_node: StartNode,
    transport: str,
    name: str,
    limit: int,
    make: Callable[[int], frames.Frame],
    otherwise: str | None,
    more: int,
) -> None:
    """limits.device.max_metadata_bytes, limits.device.max_metadata_entries, limits.device.max_route_bytes, fault 40:
    INVALID on the stream."""
    node = await start_node({f"limits.device.{name}": limit})
    client = await node.client(transport, "device-1", "device")
    client.send(make(limit + more))
    answer = await client.recv()
    if more <= 0:
        assert isinstance(answer, frames.Error if otherwise else frames.Payload)
        assert node.counters.refusals == ({otherwise: 1} if otherwise else {})
    else:
        assert isinstance(answer, frames.Error)
        assert answer.code == INVALID
        assert node.counters.refusals == {name: 1}
    await client.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "code"), [("max_setup_bytes", 0x003), ("max_mime_bytes", 0x001)])
@SIDES
async def test_setup(start_node: StartNode, transport: str, name: str, code: int, more: int) -> None:
    """limits.device.max_setup_bytes, limits.device.max_mime_bytes, fault 40: REJECTED_SETUP and INVALID_SETUP; another
    kind's limit is another one."""
    limits = {"max_setup_bytes": 1_500, "max_mime_bytes": 40}
    limit = limits[name] + more
    node = await start_node({f"limits.device.{name}": limits[name]})

    def fields(token: str) -> dict[str, object]:
        if name == "max_mime_bytes":
            return {"data_mime": "x/" + "y" * (limit - 2)}
        return {"data": bytes(limit - len(RawClient.setup_frame(token).metadata or b""))}

    service = await node.connect(transport)
    token = node.token("svc")
    service.setup(token, **fields(token))
    await service.ready()
    client = await node.connect(transport)
    token = node.token("device-1", "device")
    client.setup(token, **fields(token))
    if more <= 0:
        await client.ready()
        assert node.counters.refusals == {}
        return
    await client.recv_close()
    (error,) = client.skipped
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, code)
    assert node.counters.refusals == {name: 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@SIDES
async def test_keepalive_data(start_node: StartNode, transport: str, more: int) -> None:
    """limits.device.max_keepalive_bytes, fault 31: 1008."""
    node = await start_node({"limits.device.max_keepalive_bytes": 20})
    client = await node.client(transport, "device-1", "device")
    sent = frames.KeepAlive(respond=True, data=bytes(20 + more))
    client.send(sent)
    if more <= 0:
        assert await client.recv() == frames.KeepAlive(respond=False, data=sent.data)
        return
    code, _ = await client.recv_close()
    assert code == (1008 if transport == "ws" else None)
    assert node.counters.refusals == {"max_keepalive_bytes": 1}
    assert node.counters.closes == {"policy": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@SIDES
async def test_meaningless_bytes(start_node: StartNode, transport: str, more: int) -> None:
    """limits.device.ignored_bytes, fault 42: 1008."""
    node = await start_node({"limits.device.ignored_bytes": 1_000})
    client = await node.client(transport, "device-1", "device")
    node.connection(client).strays.excused = 0
    client.send(frames.Payload(77, None, bytes(500 - 6)), frames.Payload(77, None, bytes(500 - 6 + more)))
    if more <= 0:
        assert await client.barrier() == []
        return
    code, _ = await client.recv_close()
    assert code == (1008 if transport == "ws" else None)
    assert node.counters.refusals == {"ignored_frames": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@SIDES
async def test_open_streams(start_node: StartNode, transport: str, more: int) -> None:
    """limits.device.max_streams, fault 24: REJECTED on the one that is too many."""
    node = await start_node({"limits.device.max_streams": 5})
    await node.client("tcp", "svc-slow", serving=("slow",))
    client = await node.client(transport, "device-1", "device")
    numbers = [client.request("slow.it") for _ in range(5 + more)]
    heard = await client.barrier()
    if more <= 0:
        assert heard == []
        return
    assert [(frame.stream_id, frame.code) for frame in heard if isinstance(frame, frames.Error)] == [
        (numbers[-1], REJECTED)
    ]
    assert node.counters.refusals == {"max_streams": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
@SIDES
async def test_requests_at_once(start_node: StartNode, transport: str, more: int) -> None:
    """limits.device.requests_per_second, limits.device.request_burst: REJECTED on the one that is too many."""
    node = await start_node({"limits.device.requests_per_second": 1, "limits.device.request_burst": 6})
    client = await node.client(transport, "device-1", "device")
    client.send(*[frames.RequestResponse(11 + 2 * n, composite("gateway.time"), b"") for n in range(5 + more)])
    answers = [await client.recv() for _ in range(5 + more)]  # gateway.ready was the sixth
    refused = [frame.code for frame in answers if isinstance(frame, frames.Error)]
    assert refused == ([REJECTED] if more > 0 else [])
    assert node.counters.refusals == ({"requests_per_second": 1} if more > 0 else {})


@pytest.mark.parametrize("transport", TRANSPORTS)
@SIDES
async def test_fragments_to_the_node(start_node: StartNode, transport: str, more: int) -> None:
    """limits.device.max_fragments, fault 34: INVALID on the stream."""
    node = await start_node({"limits.device.max_fragments": 4})
    client = await node.client(transport, "device-1", "device")
    client.send(frames.RequestResponse(11, composite("gateway.time"), bytes(100), follows=True))
    client.send(*[frames.Payload(11, None, bytes(100), follows=True, next=True)] * (2 + more))
    client.send(frames.Payload(11, None, b"end", next=True))
    answer = await client.recv()
    if more <= 0:
        assert isinstance(answer, frames.Payload)
        return
    assert isinstance(answer, frames.Error)
    assert answer.code == INVALID
    assert node.counters.refusals == {"max_fragments": 1}


@pytest.mark.parametrize(
    ("lifetime_ms", "holds_ms"),
    [(999, 1_000), (1_000, 1_000), (1_001, 1_001), (59_999, 59_999), (60_000, 60_000), (60_001, 60_000)],
)
async def test_lifetimes_are_clamped(start_node: StartNode, lifetime_ms: int, holds_ms: int) -> None:
    """limits.keepalive_min_ms, limits.lifetime_max_ms, fault 21: to the nearest that is allowed; readiness says so."""
    node = await start_node({"limits.keepalive_min_ms": 1_000, "limits.lifetime_max_ms": 60_000})
    client = await node.connect("tcp")
    client.setup(node.token(), keepalive_ms=500, lifetime_ms=lifetime_ms)
    assert (await client.ready())["lifetime_ms"] == holds_ms
