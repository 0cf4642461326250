"""Connections that are let in, and every way in which one is not."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.load.crowd import Crowd, room_for
from gateway.load.endpoint import Endpoint
from gateway.load.opening import Address, Refused, connect, setup_frame
from gateway.load.shape import Access
from gateway.load.tally import Tally
from gateway.load.templates import NO_MASK
from tests.conftest import StartNode
from tests.local_node import LocalNode, until

TIMEOUT_S = 5.0


async def opened(address: Address, setup: bytes, timeout: float = TIMEOUT_S) -> Endpoint:
    tally = Tally()
    tally.ending = True
    endpoint = Endpoint(tally, address.framing(NO_MASK))
    await connect(address, setup, endpoint, timeout)
    return endpoint


def closed(endpoint: Endpoint) -> None:
    assert endpoint.transport is not None
    endpoint.transport.abort()


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
async def test_a_connection_is_ready_when_its_route_is_there(node: LocalNode, scheme: str) -> None:
    address = Address.of(f"{scheme}://127.0.0.1:{node.port(scheme)}/rsocket")
    endpoint = await opened(address, setup_frame(node.token(), "there", uuid.uuid4().bytes))
    assert "there" in {route.service for route in node.node.plane.table}
    closed(endpoint)


@pytest.mark.parametrize("scheme", ["wss", "tls"])
async def test_over_tls(start_node: StartNode, tmp_path: Path, scheme: str) -> None:
    node = await start_node({}, dev=False)
    port = node.port("ws" if scheme == "wss" else "tcp")
    address = Address.of(f"{scheme}://localhost:{port}/rsocket", str(node.node.identity.ca_path))
    closed(await opened(address, setup_frame(node.token(), None)))
    with pytest.raises(Refused) as refused:
        await opened(Address.of(f"{scheme}://localhost:{port}/rsocket"), setup_frame(node.token(), None))
    assert refused.value.reason == "unreachable"


async def test_who_is_refused(node: LocalNode) -> None:
    ws, tcp = node.port("ws"), node.port("tcp")
    good = setup_frame(node.token(), None)
    cases = [
        (f"ws://127.0.0.1:{ws}/rsocket", setup_frame("no.good.token", None), "setup_refused", "0x003"),
        (f"tcp://127.0.0.1:{tcp}", setup_frame(None, None), "setup_refused", "0x003"),
        (f"ws://127.0.0.1:{ws}/elsewhere", good, "http_404", "404"),
        (f"tcp://127.0.0.1:{ws}", good, "closed", "closed"),
        ("ws://127.0.0.1:1/rsocket", good, "unreachable", "cannot connect"),
    ]
    for url, setup, reason, text in cases:
        with pytest.raises(Refused) as refused:
            await opened(Address.of(url), setup)
        assert refused.value.reason == reason
        assert text in str(refused.value)


async def test_a_broker_that_says_when_to_come_back_or_nothing() -> None:
    answer = b""
    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(writer)
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        serving.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = Address.of(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\nfull\n"
        with pytest.raises(Refused) as refused:
            await opened(address, setup_frame(None, None))
        assert (refused.value.reason, refused.value.retry_after) == ("http_503", 7.0)
        assert str(refused.value) == "HTTP/1.1 503 Service Unavailable: full"
        answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
        with pytest.raises(Refused) as refused:
            await opened(address, setup_frame(None, None), timeout=0.1)
        assert refused.value.reason == "timeout"
        await until(lambda: not serving)


async def test_idle_connections_keep_alive(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread over the interval, each connection once."""
    monkeypatch.setattr("gateway.load.crowd.KEEPALIVE_MS", 200)
    access = Access(Address.of(f"ws://127.0.0.1:{node.port('ws')}/rsocket"), node.token())
    tally = Tally()
    async with Crowd(access, tally) as crowd:
        await crowd.admit(Endpoint(tally, crowd.framing) for _ in range(20))
        before = node.counters.keepalives
        await until(lambda: node.counters.keepalives - before >= 40)
    assert tally.errors == 0


def test_room_for_more_connections_than_the_system_allows() -> None:
    room_for(10)
    with pytest.raises(GatewayError, match="open files"):
        room_for(10**12)
