"""Processes that are killed in the middle of a stream."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.wire import frames
from tests.in_time import in_time
from tests.local_node import LocalNode, stream_request, until
from tests.rawclient import RawClient, composite

#: From the kill to the requester's ERROR.
NOTICE_S = 0.1


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.child",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _said(process: asyncio.subprocess.Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while (line := await process.stdout.readline()) != f"{word}\n".encode():
            assert line, f"ended before it said {word}"


REQUESTS: dict[str, Callable[[int], frames.Frame]] = {
    "stream": lambda number: stream_request(number, "doomed.it", b"", 10),
    "channel": lambda number: frames.RequestChannel(number, composite("doomed.it"), b"", 10),
    "response": lambda number: frames.RequestResponse(number, composite("doomed.it"), b""),
}


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_killed_service(node: LocalNode, transport: str) -> None:
    """A service killed by kill -9: requesters get ERROR[CANCELED] within 100 ms, and the next call finds nobody."""
    client = await node.client(transport)
    await in_time(NOTICE_S, lambda: _service_dies(node, client), tries=5)
    number = client.request("doomed.it")
    assert await client.recv() == frames.Error(number, 0x202, "no route to doomed.it")


async def _service_dies(node: LocalNode, client: RawClient) -> float:
    async with child("serve", str(node.node.tcp_port), node.token("doomed")) as service:
        await _said(service, "KeepAlive")
        asked = {}
        for name, make in REQUESTS.items():
            number = client.next_stream_id()
            client.send(make(number))
            await _said(service, type(make(number)).__name__)
            asked[number] = name
        items = [await client.recv() for _ in range(2)]
        assert all(isinstance(item, frames.Payload) and item.data == b"first" for item in items)
        loop = asyncio.get_running_loop()
        service.send_signal(signal.SIGKILL)
        killed = loop.time()
        errors = [await client.recv() for _ in asked]
        took = loop.time() - killed
    assert {error.stream_id for error in errors if isinstance(error, frames.Error)} == asked.keys()
    assert {(error.code, error.text) for error in errors if isinstance(error, frames.Error)} == {
        (0x203, "responder disconnected")
    }
    return took


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_killed_requester(node: LocalNode, transport: str) -> None:
    """A requester killed by kill -9: its responder gets CANCEL within 100 ms, and keeps its other streams."""
    service = await node.client(transport, serving=("echo",))
    other = await node.client("tcp")
    other.send(stream_request(1, "echo.it", b"", 5))
    kept = await service.recv()
    assert isinstance(kept, frames.RequestStream)
    await in_time(NOTICE_S, lambda: _caller_dies(node, service), tries=5)
    service.send(frames.Payload(kept.stream_id, None, b"still", next=True))
    item = await other.recv()
    assert isinstance(item, frames.Payload)
    assert item.data == b"still"


async def _caller_dies(node: LocalNode, service: RawClient) -> float:
    async with child("call", str(node.node.tcp_port), node.token("caller"), "echo.it") as caller:
        request = await service.recv(20)
        assert isinstance(request, frames.RequestStream)
        service.send(frames.Payload(request.stream_id, None, b"item", next=True))
        await _said(caller, "Payload")
        loop = asyncio.get_running_loop()
        caller.send_signal(signal.SIGKILL)
        killed = loop.time()
        assert await service.recv() == frames.Cancel(request.stream_id)
        return loop.time() - killed


async def test_stopped_process_is_half_open(node: LocalNode) -> None:
    """Fault 33, staged as in the field: a process that was stopped neither reads, nor answers, nor goes."""
    client = await node.client("tcp")
    async with child("serve", str(node.node.tcp_port), node.token("doomed")) as service:
        await _said(service, "KeepAlive")
        (stopped,) = [
            c for c in node.node.plane.connections.values() if c.kind == "client" and c.principal.subject == "doomed"
        ]
        service.send_signal(signal.SIGSTOP)
        number = client.request("doomed.it")
        stopped.session.lifetime_s = 0.3
        error = await client.recv()
        assert error == frames.Error(number, 0x203, "responder disconnected")
        await until(lambda: node.counters.closes == {"keepalive_timeout": 1})
        service.send_signal(signal.SIGCONT)
