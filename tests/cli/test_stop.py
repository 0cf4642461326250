"""`gateway stop` and `gateway drain` end a node in order, and no process that is none."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from gateway.wire import frames
from tests.cli.conftest import Shell
from tests.rawclient import HandshakeRefused, RawClient


@dataclass
class Busy:
    """A node in a process of its own, and a request that its service has yet to answer."""

    data: Path
    process: asyncio.subprocess.Process
    caller: RawClient
    service: RawClient
    asked: frames.RequestResponse

    async def answer(self) -> None:
        self.service.send(frames.Payload(self.asked.stream_id, None, b"done", next=True, complete=True))
        answer = await self.caller.recv()
        assert isinstance(answer, frames.Payload)
        assert answer.data == b"done"


@asynccontextmanager
async def busy(shell: Shell, data: Path) -> AsyncIterator[Busy]:
    names = ("LISTEN__WEBSOCKET", "LISTEN__TCP", "ADMIN__LISTEN", "TELEMETRY__LISTEN")
    addresses = {f"GATEWAY__{name}": "127.0.0.1:0" for name in names}
    process = await shell.with_environment(**addresses).start("run", "--dev", "--data", str(data))
    async with asyncio.timeout(60):
        while (runtime := Runtime.read(data)) is None:  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.02)
    assert runtime.alive
    port = urlsplit(runtime.tcp).port
    assert port
    token = Identity.open(data).mint("svc", "service", ("*",), ("*",), 600, time.time())
    async with await RawClient.connect_tcp(port) as service, await RawClient.connect_tcp(port) as caller:
        service.setup(token, ["slow"])
        caller.setup(token)
        await service.ready()
        await caller.ready()
        caller.request("slow.it")
        asked = await service.recv()
        assert isinstance(asked, frames.RequestResponse)
        yield Busy(data, process, caller, service, asked)


async def goodbye(client: RawClient) -> None:
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x102)


async def test_a_node_with_a_request_in_flight(shell: Shell, tmp_path: Path) -> None:
    """Fault 95: it says what is left, waits for it, and for the end of the process."""
    async with busy(shell, tmp_path / "data") as node:
        stopping = asyncio.create_task(shell.run("stop", "--data", str(node.data)))
        await goodbye(node.caller)
        await goodbye(node.service)
        await asyncio.sleep(1.2)
        assert not stopping.done()
        await node.answer()
        for client in (node.caller, node.service):
            await client.recv_close()
        result = await stopping
        assert (result.code, result.out[:11]) == (0, b"stopped in ")
        assert "draining: 2 connections, 1 requests in flight\n" in result.err
        assert await asyncio.wait_for(node.process.wait(), 30) == 0
        assert Runtime.read(node.data) is None


async def test_not_in_time(shell: Shell, tmp_path: Path) -> None:
    """The command gives up, the node does not; a second signal ends it at once."""
    async with busy(shell, tmp_path / "data") as node:
        result = await shell.run("stop", "--data", str(node.data), "--timeout", "300ms")
        assert (result.code, result.out) == (1, b"")
        assert result.err.endswith(f"process {node.process.pid} is still there after 0.3 s\n")
        await goodbye(node.caller)
        await goodbye(node.service)
        await node.answer()
        result = await shell.run("stop", "--data", str(node.data), "--timeout", "0")
        assert result.code in (0, 4)
        assert await asyncio.wait_for(node.process.wait(), 30) in (0, -signal.SIGTERM)


async def test_drain_does_the_same_through_the_api(shell: Shell, tmp_path: Path) -> None:
    """Fault 95: nobody new, lease 0 and CONNECTION_CLOSE, requests in flight finish, the process ends."""
    async with busy(shell, tmp_path / "data") as node:
        draining = asyncio.create_task(shell.run("drain", "--yes", "--data", str(node.data)))
        await goodbye(node.caller)
        await goodbye(node.service)
        assert not draining.done()
        await node.answer()
        for client in (node.caller, node.service):
            await client.recv_close()
        result = await draining
        assert (result.code, result.out[:21]) == (0, b"drained and ended in "), result.err
        assert re.search(r"^draining: \d connections, \d requests in flight$", result.err, re.MULTILINE), result.err
        assert await asyncio.wait_for(node.process.wait(), 30) == 0
        assert Runtime.read(node.data) is None


async def test_drain_of_a_node_that_is_to_stay(shell: Shell, tmp_path: Path) -> None:
    """It refuses, and takes connections again when it is told to; a node elsewhere is waited for by its API."""
    async with busy(shell, tmp_path / "data") as node:
        data = ("--data", str(node.data))
        assert (await shell.run("drain", *data)).code == 2
        tried = await shell.run("drain", "--dry-run", *data)
        assert tried.out == b"draining, then it ends (dry run: nothing was changed)\n"
        result = await shell.run("drain", "--stay", "--yes", *data)
        assert (result.code, b"gateway undrain" in result.out) == (0, True)
        await goodbye(node.caller)
        runtime = Runtime.read(node.data)
        assert runtime is not None
        port = urlsplit(runtime.websocket).port
        assert port
        with pytest.raises(HandshakeRefused, match="503"):
            await RawClient.connect_ws(port)
        assert (await shell.run("undrain", *data)).code == 0
        await (await RawClient.connect_ws(port)).close()
        key = (await shell.run("key", "create", "ops", "--role", "operator", "--scope", "system", *data)).out.decode()
        elsewhere = shell.with_environment(GATEWAY_ADMIN=runtime.admin, GATEWAY_API_KEY=key.strip())
        await node.answer()
        result = await elsewhere.run("drain", "--yes")
        assert (result.code, result.out[:21]) == (0, b"drained and ended in "), result.err
        assert await asyncio.wait_for(node.process.wait(), 30) == 0


async def test_no_node(shell: Shell, tmp_path: Path) -> None:
    result = await shell.run("stop", "--data", str(tmp_path))
    assert (result.code, result.out, result.err) == (4, b"", f"gateway: no node runs on {tmp_path}\n")


async def test_a_number_that_is_another_process_by_now(shell: Shell, tmp_path: Path) -> None:
    """What a killed node has left must not end whoever has its number: here it would be this test."""
    Runtime(os.getpid(), time.time(), birth=1).write(tmp_path)
    result = await shell.run("stop", "--data", str(tmp_path))
    assert result.code == 4
