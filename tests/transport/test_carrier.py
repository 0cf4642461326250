"""A socket's end: who hears what before it, and that nothing stays behind it."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from dataclasses import replace

import pytest

from gateway.forwarding.closing import CloseReason
from gateway.forwarding.exchange import Exchange
from gateway.policy.principal import Principal
from gateway.transport import carrier
from gateway.wire import frames
from gateway.wire.frames import FrameType
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, fnf, stream_request, until
from tests.rawclient import RawClient, composite

TRANSPORTS = ["ws", "tcp"]


def _flood(client: RawClient, size: int = 4 << 20) -> None:
    """What a client may have sent before it could read that it is refused."""
    client.send(*[frames.Payload(1, None, bytes(8000), next=True)] * (size // 8000))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refusal_is_read_in_spite_of_data_in_flight(node: LocalNode, transport: str) -> None:
    """P03: unread data behind a refused SETUP makes no reset that swallows the ERROR frame."""
    client = await node.connect(transport)
    client.setup("not a token")
    _flood(client)
    await asyncio.sleep(0.05)
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x003)
    code, _ = await client.recv_close()
    assert code == (4401 if transport == "ws" else None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_peer_that_stays_is_cut_off(node: LocalNode, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its ERROR frame a peer has LINGER_S to go; then the socket does."""
    monkeypatch.setattr(carrier, "LINGER_S", 0.2)
    client = await node.connect(transport)
    client.setup("not a token")
    await client.recv_close()
    assert node.residue().keys() == {"sockets"}
    await node.settle(1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_half_closed_peer_is_gone(node: LocalNode, transport: str) -> None:
    """RSocket has no half-open connections: a FIN ends it, its routes and its streams."""
    service = await node.client(transport, serving=("echo",))
    client = await node.client(transport)
    number = client.request("echo.it")
    assert isinstance(await service.recv(), frames.RequestResponse)
    service.half_close()
    assert await client.recv() == frames.Error(number, 0x203, "responder disconnected")
    assert len(node.node.plane.table) == 2  # gateway, and the client by its subject
    assert await service.recv_close() == (None, "")
    assert node.counters.closes == {"peer_closed": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_half_closed_peer_that_does_not_read_is_gone_too(
    node: LocalNode, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "LINGER_S", 0.2)
    await node.servant("tcp")
    client = await node.client(transport, receive_buffer=4096)
    client.send(stream_request(client.next_stream_id(), "echo.it", b"60000"))
    connection = node.connection(client)
    await until(lambda: connection.outbox.blocked)
    client.half_close()
    await until(lambda: connection.closed)
    await until(lambda: node.residue().get("sockets") == 1)


async def _paused(node: LocalNode, transport: str) -> tuple[RawClient, RawClient]:
    """A producer that the node does not read from, and the consumer that is to blame."""
    consumer = await node.client("tcp", serving=("sink",), receive_buffer=4096)
    producer = await node.client(transport)
    connection = node.connection(producer)
    for _ in range(400):
        producer.send(fnf(producer, "sink.put", bytes(60_000)))
    await until(lambda: connection.paused_by)
    return producer, consumer


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_producer_that_is_not_read_from_reads_why_it_ends(node: LocalNode, transport: str) -> None:
    producer, _ = await _paused(node, transport)
    node.connection(producer).close(CloseReason.TAKEN_OVER, "a newer one is here")
    assert await producer.recv() == frames.Error(0, 0x101, "a newer one is here")
    assert (await producer.recv_close())[0] == (4409 if transport == "ws" else None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_producer_is_read_from_again_when_its_consumer_is_gone(node: LocalNode, transport: str) -> None:
    producer, consumer = await _paused(node, transport)
    connection = node.connection(producer)
    consumer.abort()
    await until(lambda: not connection.paused_by)
    await producer.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_producer_that_is_not_read_from_is_not_silent(start_node: StartNode, transport: str) -> None:
    """P12: whoever the node does not read from cannot be heard, and is not closed for it; nor does that last long."""
    node = await start_node({"limits.keepalive_min_ms": 100})
    consumer = await node.client("tcp")
    producer = await node.client(transport, setup={"keepalive_ms": 800, "lifetime_ms": 800})
    connection = node.connection(producer)
    loop = asyncio.get_running_loop()
    start = loop.time()
    connection.pause_for(node.connection(consumer).outbox)
    heard = connection.session.last_received
    producer.send(frames.KeepAlive(respond=True))
    await until(lambda: not connection.paused_by)
    assert loop.time() - start >= 1
    assert connection.session.last_received > heard
    assert await producer.recv() == frames.KeepAlive(respond=False)
    assert node.counters.closes == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_bug_costs_one_connection(node: LocalNode, transport: str, caplog: pytest.LogCaptureFixture) -> None:
    """DESIGN 5: anything that is not in the tree of errors is logged with its traceback, and no detail gets out."""
    await node.servant("tcp")
    healthy = await node.client()
    plane = node.node.plane
    before = plane.snapshot

    def broken(token: bytes | None, now: float) -> Principal:
        raise ZeroDivisionError("secret detail")

    plane.publish(replace(before, authenticate=broken))
    client = await node.connect(transport)
    client.setup(node.token())
    with caplog.at_level(logging.ERROR):
        assert await client.recv() == frames.Error(0, 0x101, "internal error")
    assert await client.recv_close() == ((1011, "internal error") if transport == "ws" else (None, ""))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    plane.publish(before)
    assert await call(healthy) == b"hello"
    assert node.counters.closes == {"internal_error": 1}


async def test_a_bug_in_a_service_of_the_node_costs_one_request(node: LocalNode) -> None:
    """Frames that wait for the same end of the loop turn are delivered all the same."""
    await node.servant("tcp")

    def broken(exchange: Exchange) -> None:
        raise ZeroDivisionError("secret detail")

    node.node.services.offer("broken", FrameType.REQUEST_RESPONSE, broken)
    clients = [await node.client("tcp") for _ in range(3)]
    first = clients[0]
    first.send(frames.RequestResponse(101, composite("gateway.broken"), b""))
    asked = [(client, client.request(route)) for client in clients for route in ("gateway.time", "echo.it")]
    error = await first.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (101, 0x201)
    assert "secret" not in error.text
    got = [(client, await client.recv()) for client, _ in asked]
    assert [(client, a.stream_id) for client, a in got if isinstance(a, frames.Payload)] == asked
    (context,) = node.errors
    assert isinstance(context["exception"], ZeroDivisionError)
    node.errors.clear()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_close_leaves_no_timer(node: LocalNode, transport: str) -> None:
    """What waits for a peer to read why goes with the socket: churn must not pile up two seconds of the dead."""
    client = await node.connect(transport)
    watched = weakref.ref(node.connection(client))
    client.setup("not a token")
    await client.recv_close()
    await node.leave()
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_closing_a_connection_that_was_just_reset(node: LocalNode, transport: str) -> None:
    """The loop has yet to hear of the reset: whoever closes must not be told of it, least of all the device's next
    connection, which displaces this one."""
    client = await node.client(transport, serving=("echo",))
    connection = node.connection(client)
    client.abort()
    await asyncio.sleep(0)
    connection.carrier.finish(b"")
    await node.settle()
