"""A client that goes at any stage of its connection, in any way, leaves nothing: `LocalNode` looks after each test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.transport import carrier
from gateway.wire import brokering, frames
from gateway.wire.mimetypes import BROKER_FRAME
from tests.http_head import upgrade
from tests.local_node import LocalNode, call, fnf, stream_request, until
from tests.rawclient import CLOSE, RawClient, composite


async def _socket(node: LocalNode, transport: str) -> RawClient:
    """A socket on which nothing was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port(transport))
    client = RawClient(reader, writer, websocket=transport == "ws")
    node.clients.append(client)
    await until(lambda: node.node.listeners["websocket" if transport == "ws" else "tcp"].open_sockets)
    return client


async def _half_handshake(node: LocalNode, transport: str) -> RawClient:
    client = await _socket(node, transport)
    client.send_raw(upgrade()[:70] if transport == "ws" else b"\0")
    return client


async def _half_setup(node: LocalNode, transport: str) -> RawClient:
    client = await node.connect(transport)
    client.send_raw(client._framed(frames.encode(client.setup_frame(node.token(), ["echo"])))[:100])
    return client


async def _refused(node: LocalNode, transport: str) -> RawClient:
    client = await node.connect(transport)
    client.setup("nonsense")
    await client.recv()
    return client


async def _half_request(node: LocalNode, transport: str) -> RawClient:
    client = await node.client(transport, serving=("bench",))
    client.send_raw(client._framed(frames.encode(frames.RequestResponse(9, composite("echo.it"), bytes(500))))[:90])
    return client


async def _half_metadata(node: LocalNode, transport: str) -> RawClient:
    """Inside the fragments of a request's metadata, of which the node holds the first."""
    client = await node.client(transport)
    client.send(frames.RequestResponse(9, composite("echo.it"), b"", follows=True))
    await client.barrier()
    return client


async def _half_data(node: LocalNode, transport: str) -> RawClient:
    """Inside the fragments of a request's data, of which its responder has the first."""
    client = await node.client(transport)
    client.send(frames.RequestResponse(9, composite("held.it"), b"data", follows=True))
    await client.barrier()
    return client


async def _asking(node: LocalNode, transport: str) -> RawClient:
    client = await node.client(transport)
    client.send(
        frames.RequestResponse(9, composite("held.it"), b""),
        stream_request(11, "held.it", b"", 5),
        frames.RequestChannel(13, composite("held.it"), b"", 5),
        frames.RequestStream(15, composite("gateway.routes"), b"", 1000),
    )
    await client.barrier()
    return client


async def _serving(node: LocalNode, transport: str) -> RawClient:
    client = await node.client(transport, serving=("served",))
    other = await node.client("tcp")
    other.send(
        frames.RequestResponse(9, composite("served.it"), b""),
        stream_request(11, "served.it", b"", 5),
        frames.RequestChannel(13, composite("served.it"), b"", 5),
    )
    await other.barrier()
    return client


async def _stuck(node: LocalNode, transport: str) -> RawClient:
    """More is waiting for it than it reads."""
    client = await node.client(transport, receive_buffer=4096)
    client.send(stream_request(9, "echo.it", b"60000"))
    connection = node.connection(client)
    await until(lambda: connection.outbox.blocked)
    return client


async def _feeding(node: LocalNode, transport: str) -> RawClient:
    """The node does not read from it, because of a consumer that does not read."""
    await node.client("tcp", serving=("sink",), receive_buffer=4096)
    client = await node.client(transport)
    client.send(*[fnf(client, "sink.put", bytes(60_000)) for _ in range(400)])
    connection = node.connection(client)
    await until(lambda: connection.paused_by)
    return client


async def _spreading(node: LocalNode, transport: str) -> RawClient:
    """In a multicast request."""
    client = await node.client(transport)
    address = brokering.encode(
        brokering.Address(bytes(16), ((brokering.SERVICE_NAME, "held"),), brokering.Cast.MULTICAST)
    )
    metadata = composite(entries=[(BROKER_FRAME, address)])
    client.send(frames.RequestStream(9, metadata, b"", 5), frames.RequestResponse(11, metadata, b""))
    await client.barrier()
    return client


Stage = Callable[[LocalNode, str], Awaitable[RawClient]]
STAGES: list[Stage] = [
    _socket,
    _half_handshake,
    LocalNode.connect,
    _half_setup,
    _refused,
    LocalNode.client,
    _half_request,
    _half_metadata,
    _half_data,
    _asking,
    _serving,
    _stuck,
    _feeding,
    _spreading,
]


async def _fin(client: RawClient) -> None:
    await client.close()


async def _reset(client: RawClient) -> None:
    client.abort()


async def _half_close(client: RawClient) -> None:
    client.half_close()


async def _say_goodbye(client: RawClient) -> None:
    if client.websocket:
        client.send_message(b"\x03\xe9", opcode=CLOSE)
    else:
        client.send(frames.Error(0, 0x101, "goodbye"))


@pytest.mark.parametrize("transport", ["ws", "tcp"])
@pytest.mark.parametrize("end", [_fin, _reset, _half_close, _say_goodbye])
@pytest.mark.parametrize("stage", STAGES)
async def test_gone(
    node: LocalNode,
    transport: str,
    stage: Stage,
    end: Callable[[RawClient], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The streams, hops, routes and credit of whoever goes are gone within a moment, and others go on."""
    monkeypatch.setattr(carrier, "LINGER_S", 0.3)
    await node.servant()
    await node.client("tcp", serving=("held",))
    healthy = await node.client("tcp")
    before = set(node.node.plane.connections)
    client = await stage(node, transport)
    gone = [connection.number for connection in node.connections(client)]
    assert not set(gone) & before
    await end(client)
    if end is _say_goodbye and stage in (_socket, _half_handshake, _half_setup, _half_request):
        client.abort()  # in there it is no goodbye
    # A producer that is not read from is not heard either, until it is read from again.
    await until(lambda: not set(gone) & set(node.node.plane.connections))
    plane = node.node.plane
    assert all(
        stream_side in plane.connections
        for c in plane.connections.values()
        for stream in (*c.requesting.values(), *c.serving.values())
        for stream_side in (stream.requester.number, stream.responder.number)
    )
    assert await call(healthy) == b"hello"
