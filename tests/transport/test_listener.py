"""Opening and closing a port."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.errors import ConfigError
from tests.conftest import StartNode
from tests.local_node import LocalNode, until


@pytest.mark.parametrize("setting", ["listen.websocket", "listen.tcp", "telemetry.listen"])
async def test_port_in_use(start_node: StartNode, setting: str) -> None:
    """One line that says which setting, which address, why, and nothing stays open behind it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as refused:
            await start_node({setting: wanted})
    assert str(refused.value).startswith(f"{setting}: cannot listen on {wanted}: Address already in use")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "why"), [("192.0.2.1", "Cannot assign requested address"), ("nobody.invalid", "not known")]
)
async def test_address_that_is_not_ours(start_node: StartNode, host: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        await start_node({"listen.tcp": f"{host}:0", "tls.insecure": True})
    assert str(refused.value).startswith(f"listen.tcp: cannot listen on {host}:0: ")


async def test_either_listener_may_be_off(start_node: StartNode) -> None:
    node = await start_node({"listen.websocket": ""})
    assert (node.node.websocket_port, list(node.node.listeners)) == (0, ["tcp"])
    await node.client("tcp")


async def test_version_6(start_node: StartNode) -> None:
    node = await start_node({"listen.websocket": "[::1]:0", "listen.tcp": "[::1]:0"})
    for transport in ("ws", "tcp"):
        client = await node.client(transport, host="::1")
        assert "::1" in node.connection(client).peer


async def test_a_stopped_port_takes_nobody(node: LocalNode) -> None:
    listener = node.node.listeners["tcp"]
    assert listener.accepting
    stays = await node.client("tcp")
    listener.stop_accepting()
    assert not listener.accepting
    with pytest.raises(ConnectionRefusedError):
        await node.connect("tcp")
    await stays.barrier()


async def test_a_restart_may_use_the_port_at_once(start_node: StartNode) -> None:
    """Sockets of the dead linger in the system; the address is free all the same."""
    first = await start_node()
    port = first.node.tcp_port
    client = await first.client("tcp")
    client.half_close()
    await first.settle()
    await first.stop()
    again = await start_node({"listen.tcp": f"127.0.0.1:{port}"})
    await again.client("tcp")


async def test_silent_sockets_are_counted_once(start_node: StartNode) -> None:
    """Fault 1: a connection that asks for nothing is closed in time, on either port."""
    node = await start_node({"limits.upgrade_timeout_s": 0.2, "limits.setup_timeout_s": 0.2})
    ends = []
    for transport in ("ws", "tcp"):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port(transport))
        ends.append((reader, writer))
    for reader, writer in ends:
        async with asyncio.timeout(30):
            try:
                await reader.read()
            except ConnectionResetError:
                pass
        writer.close()
    await until(lambda: node.counters.closes == {"handshake_timeout": 1, "setup_timeout": 1})
    await node.settle()
    assert node.node.listeners["websocket"].handshakes == 0


async def test_slow_header_is_cut_off(start_node: StartNode) -> None:
    """Fault 4: a header that grows by a byte now and then does not move the deadline."""
    node = await start_node({"limits.upgrade_timeout_s": 0.2})
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port("ws"))
    writer.write(b"GET /rsocket HTTP/1.1\r\nX: ")
    ended = asyncio.create_task(reader.read())
    while not (await asyncio.wait({ended}, timeout=0.02))[0]:
        writer.write(b"a")
    await asyncio.gather(ended, return_exceptions=True)
    writer.close()
    assert node.counters.closes == {"handshake_timeout": 1}
