"""TLS with a shared key, and no certificate anywhere: the device against OpenSSL's own server."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import Interpreter
from tests.device.peer import Peer, gateway

IDENTITY, KEY = "dev-1", "00112233445566778899aabbccddeeff"


@pytest.fixture
def interpreter(compiled: Path) -> Interpreter:
    """Python has it from 3.13 on; MicroPython is what it is for."""
    return micropython_compiled(compiled, "64k")


@asynccontextmanager
async def psk_server(port: int, peer: Peer) -> AsyncIterator[None]:
    """`openssl s_server` in front of the peer, for one connection."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-quiet", "-nocert", "-tls1_2"),
        *("-psk_identity", IDENTITY, "-psk", KEY, "-cipher", "PSK-AES256-GCM-SHA384"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    ways = [asyncio.create_task(_pass(process.stdout, writer)), asyncio.create_task(_pass(reader, process.stdin))]
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


@pytest.mark.parametrize("key", [KEY, KEY[::-1]], ids=["right", "wrong"])
async def test_shared_key(key: str, interpreter: Interpreter, start: Start, unused_port: int) -> None:
    """The gateway is whoever knows the key; with another one there is no connection, and nothing is said."""
    async with Peer(gateway) as peer, psk_server(unused_port, peer):
        url = f"wss://127.0.0.1:{unused_port}/rsocket"
        program = await start(interpreter, "shared_key", url, IDENTITY, key)
        if key == KEY:
            await program.expect(echo="hello")
        else:
            line = await program.line()
            assert line["error"][0] not in ("TimeoutError", "RSocketError", "MemoryError")
            assert peer.links[0].request is None
        await program.finish()


if sys.version_info >= (3, 13):

    async def test_a_node(interpreter: Interpreter, start: Start, start_node: StartNode, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        await asyncio.to_thread(keys.write_text, f"{IDENTITY}:{KEY}\n")
        node = await start_node({"tls.psk_file": keys}, dev=False)
        await node.servant(ssl=ssl.create_default_context(cafile=node.node.identity.ca_path))
        url = f"wss://127.0.0.1:{node.port('ws')}/rsocket"
        token = node.token("dev-1", "device")
        program = await start(interpreter, "shared_key", url, IDENTITY, KEY, DEVICE_TOKEN=token)
        await program.expect(echo="hello")
        await program.finish()
