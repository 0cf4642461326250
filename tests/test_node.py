"""A node's life: start, first and again; ports that are taken; draining; the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, stream_request, until
from tests.rawclient import ConnectionEnded, RawClient, composite

TRANSPORTS = ["ws", "tcp"]


# In the test's own loop: what draining does to each connection


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_drain(node: LocalNode, transport: str) -> None:
    """P5 of the promises, fault 95: open requests finish, new ones are refused with REJECTED, then everybody is closed
    with CONNECTION_CLOSE and 1012; nobody new gets in.
    """
    service = await node.client(transport, serving=("slow",))
    client = await node.client(transport)
    idle = await node.client(transport, serving=("idle",))
    client.send(frames.RequestResponse(101, composite("slow.it"), b""), stream_request(103, "slow.it", b"", 2))
    response, stream = await service.recv(), await service.recv()
    assert isinstance(response, frames.RequestResponse)
    assert isinstance(stream, frames.RequestStream)

    stopping = asyncio.create_task(node.stop())
    goodbye = frames.Error(0, 0x102, "this node is draining; reconnect elsewhere")
    assert await client.recv() == goodbye
    assert await service.recv() == goodbye
    with pytest.raises(ConnectionRefusedError):
        await node.connect(transport)
    client.send(frames.RequestResponse(105, composite("slow.it"), b""))
    refused = await client.recv()
    assert isinstance(refused, frames.Error)
    assert (refused.stream_id, refused.code) == (105, 0x202)
    # Whoever has nothing under way does not have to wait for those who have.
    assert (await idle.recv_close())[0] == (1012 if transport == "ws" else None)

    service.send(frames.Payload(stream.stream_id, None, b"1", next=True))
    client.send(frames.RequestN(103, 1))
    assert await service.recv() == frames.RequestN(stream.stream_id, 1)
    service.send(frames.Payload(stream.stream_id, None, b"2", next=True, complete=True))
    service.send(frames.Payload(response.stream_id, None, b"answer", next=True, complete=True))
    got = [await client.recv() for _ in range(3)]
    assert [(item.stream_id, item.data) for item in got if isinstance(item, frames.Payload)] == [
        (103, b"1"),
        (103, b"2"),
        (101, b"answer"),
    ]
    for peer in (client, service):
        assert (await peer.recv_close())[0] == (1012 if transport == "ws" else None)
    codes = {
        frame.code for peer in (client, service, idle) for frame in peer.skipped if isinstance(frame, frames.Error)
    }
    assert codes == {0x102}
    await stopping
    assert node.counters.closes == {"drained": 3}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_drain_delivers_what_was_answered(node: LocalNode, transport: str) -> None:
    """P5: a response is under way until its requester has it, however slowly it reads."""
    servant = await node.servant()
    client = await node.client(transport, receive_buffer=4096)
    connection = node.connection(client)
    numbers = []
    for _ in range(4):
        numbers.append(client.request("echo.it", bytes(300_000)))
        await until(lambda: len(servant.heard) == len(numbers))
    await until(lambda: not connection.requesting)
    assert connection.outbox.blocked
    stopping = asyncio.create_task(node.stop())
    await until(lambda: node.node.plane.draining)
    await asyncio.sleep(0.2)
    got = [await client.recv() for _ in numbers]
    assert [(item.stream_id, len(item.data)) for item in got if isinstance(item, frames.Payload)] == [
        (number, 300_000) for number in numbers
    ]
    await client.recv_close()
    assert {frame.code for frame in client.skipped if isinstance(frame, frames.Error)} == {0x102}
    await client.close()
    await stopping


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_drain_ends(start_node: StartNode, transport: str) -> None:
    """Fault 95: whoever does not finish is cut off when the grace is over, and told."""
    node = await start_node({"limits.drain_grace_s": 0.5})
    service = await node.client(transport, serving=("slow",))
    client = await node.client(transport)
    number = client.request("slow.it")
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    loop = asyncio.get_running_loop()
    start = loop.time()
    stopping = asyncio.create_task(node.stop())
    await client.recv_close()
    told = [(frame.stream_id, frame.code) for frame in client.skipped if isinstance(frame, frames.Error)]
    assert told[0] == told[-1] == (0, 0x102)
    assert told[1:-1] in ([], [(number, 0x203)])  # by whether its service was closed before it
    assert loop.time() - start > 0.4
    await client.close()
    await service.close()
    await stopping


async def test_drain_does_not_wait_for_streams_of_the_nodes_own(start_node: StartNode) -> None:
    """A subscription to `gateway.routes` never ends by itself."""
    node = await start_node({"limits.drain_grace_s": 60})
    client = await node.client()
    client.send(frames.RequestStream(101, composite("gateway.routes"), b"", 100))
    await client.barrier()
    loop = asyncio.get_running_loop()
    start = loop.time()
    leaving = asyncio.create_task(client.recv_close())
    await node.stop()
    await leaving
    assert loop.time() - start < 30


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_setup_while_draining(node: LocalNode, transport: str) -> None:
    """Fault 95: a connection that had not said who it is yet is not let in any more."""
    service = await node.client("tcp", serving=("slow",))
    caller = await node.client("tcp")
    caller.request("slow.it")
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    late = await node.connect(transport)
    stopping = asyncio.create_task(node.stop())
    await until(lambda: node.node.plane.draining)
    late.setup(node.token())
    late.request("gateway.time")
    code, _ = await late.recv_close()
    assert code == (1012 if transport == "ws" else None)
    assert {frame.code for frame in late.skipped if isinstance(frame, frames.Error)} == {0x102}
    assert not [frame for frame in late.skipped if isinstance(frame, frames.Payload)]
    service.send(frames.Payload(asked.stream_id, None, b"", next=True, complete=True))
    await stopping


# In a process of its own


@dataclass
class Process:
    data: Path
    child: asyncio.subprocess.Process
    events: list[dict[str, object]] = field(default_factory=list)

    async def said(self, event: str, timeout: float = 60) -> dict[str, object]:
        """Read the log up to an event; it is one JSON object a line, as nobody watches."""
        assert self.child.stderr is not None
        async with asyncio.timeout(timeout):
            while True:
                line = await self.child.stderr.readline()
                assert line, f"ended without saying {event}: {self.events}"
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == event:
                    return self.events[-1]

    def port(self, scheme: str, event: str = "listening") -> int:
        (url,) = [
            str(each["url"])
            for each in self.events
            if each["event"] == event and str(each["url"]).startswith(f"{scheme}://")
        ]
        return int(url.split(":")[2].split("/")[0])

    async def client(self, **setup: object) -> RawClient:
        client = await RawClient.connect_tcp(self.port("tcp"))
        token = Identity.open(self.data).mint("svc", "service", ("*",), ("*",), 600, time.time())
        client.setup(token, **setup)  # type: ignore[arg-type]
        await client.ready()
        return client

    async def exit(self, timeout: float = 60) -> tuple[int, bytes, str]:
        out, err = await asyncio.wait_for(self.child.communicate(), timeout)
        assert self.child.returncode is not None
        return self.child.returncode, out, err.decode()


Run = Callable[..., Awaitable[Process]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """`await run(GATEWAY__LISTEN__TCP="…")`: `gateway run --dev`, on ports that the system picks."""
    started: list[Process] = []

    async def start(*, dev: bool = True, **environ: str) -> Process:
        data = tmp_path / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
        addresses = {f"GATEWAY__{name}__LISTEN": "127.0.0.1:0" for name in ("ADMIN", "TELEMETRY")}
        addresses |= {f"GATEWAY__LISTEN__{name}": "127.0.0.1:0" for name in ("WEBSOCKET", "TCP")}
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "run", "--data", str(data), *(["--dev"] if dev else [])),
            env={**kept, **addresses, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(Process(data, child))
        return started[-1]

    yield start
    for process in started:
        if process.child.returncode is None:
            process.child.kill()
            await process.child.communicate()


async def test_first_start_and_second(run: Run) -> None:
    """DESIGN 6: the first start makes what it needs and says where it is; the second finds the same identity, so that
    tokens of before are good.
    """
    first = await run()
    ready = await first.said("ready")
    assert {event["event"] for event in first.events} >= {"listening", "telemetry", "ready"}
    runtime = Runtime.read(first.data)
    assert runtime is not None
    assert runtime.pid == first.child.pid
    assert runtime.websocket.endswith(f":{first.port('ws')}/rsocket")
    identity = Identity.open(first.data)
    assert ready["id"] == identity.node_id
    assert (first.data.stat().st_mode & 0o777) == 0o700
    client = await first.client()
    await client.close()
    for path in ("livez", "readyz", "version"):
        url = f"http://127.0.0.1:{first.port('http', 'telemetry')}/{path}"
        status = await asyncio.to_thread(lambda url=url: urllib.request.urlopen(url, timeout=30).status)
        assert status == 200
    token = identity.mint("svc", "service", (), ("*",), 600, time.time())
    first.child.send_signal(signal.SIGTERM)
    code, said, _ = await first.exit()
    assert (code, said.count(b"First run")) == (0, 1)
    assert Runtime.read(first.data) is None

    second = await run()
    assert (await second.said("ready"))["id"] == identity.node_id
    again = await RawClient.connect_tcp(second.port("tcp"))
    again.setup(token)
    assert (await again.ready())["sub"] == "svc"
    await again.close()
    second.child.send_signal(signal.SIGINT)
    assert (await second.exit())[0] == 0


async def test_sigterm_drains(run: Run) -> None:
    """P5, fault 95: requests in flight are answered, then the process ends with 0."""
    process = await run()
    await process.said("ready")
    service, caller = await process.client(services=["slow"]), await process.client()
    number = caller.request("slow.it")
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    process.child.send_signal(signal.SIGTERM)
    assert await caller.recv() == frames.Error(0, 0x102, "this node is draining; reconnect elsewhere")
    await asyncio.sleep(0.3)
    service.send(frames.Payload(asked.stream_id, None, b"in the end", next=True, complete=True))
    assert await caller.recv() == frames.Payload(number, None, b"in the end", next=True, complete=True)
    for client in (caller, service):
        await client.recv_close()
        await client.close()
    code, _, log = await process.exit()
    assert code == 0
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"


async def test_second_signal_ends_at_once(run: Run) -> None:
    """Fault 95: whoever signals twice does not want to wait."""
    process = await run(GATEWAY__LIMITS__DRAIN_GRACE_S="60")
    await process.said("ready")
    service, caller = await process.client(services=["slow"]), await process.client()
    caller.request("slow.it")
    await service.recv()
    process.child.send_signal(signal.SIGTERM)
    await caller.recv()
    process.child.send_signal(signal.SIGTERM)
    code, _, _ = await process.exit()
    assert code in (0, -signal.SIGTERM)
    for client in (caller, service):
        await client.close()


async def test_signal_during_the_start(run: Run) -> None:
    """Whenever the signal comes, the end is in order: nothing half made, and 0 once the node has begun."""
    for delay in (0.2, 0.7):
        process = await run()
        await asyncio.sleep(delay)
        process.child.send_signal(signal.SIGTERM)
        code, _, log = await process.exit()
        assert code in (0, -signal.SIGTERM), log
        assert "Traceback" not in log


async def test_port_in_use(run: Run) -> None:
    """One clear line, status 1, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await run(GATEWAY__LISTEN__TCP=address)
        code, out, err = await process.exit()
    assert (code, out) == (1, b"")
    (line,) = err.splitlines()
    assert line.startswith(f"gateway: listen.tcp: cannot listen on {address}: Address already in use")


async def test_a_plain_port_for_others_is_refused(run: Run) -> None:
    """DESIGN 6: without TLS only loopback, unless somebody says that it is meant."""
    process = await run(GATEWAY__LISTEN__TCP="0.0.0.0:0")
    code, _, err = await process.exit()
    assert code == 1
    assert "listen.tcp" in err
    assert "tls" in err


async def test_as_in_production(run: Run) -> None:
    """Without `--dev`: TLS, the same ports."""
    process = await run(dev=False)
    await process.said("ready")
    urls = [str(event["url"]) for event in process.events if "url" in event]
    assert [url.split("://")[0] for url in urls] == ["wss", "tls", "http", "http"]
    process.child.send_signal(signal.SIGTERM)
    assert (await process.exit())[0] == 0


async def test_killed_node_starts_again(run: Run) -> None:
    """Fault 69: kill -9, and the next start is as quick and finds the same identity."""
    process = await run()
    ready = await process.said("ready")
    client = await process.client()
    process.child.kill()
    assert (await process.exit())[0] == -signal.SIGKILL
    with pytest.raises((ConnectionEnded, OSError)):
        await client.recv()
    await client.close()
    again = await run()
    assert (await again.said("ready"))["id"] == ready["id"]
