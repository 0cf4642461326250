"""A real node of several processes, and clients at the process of it that a test wants."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.forwarding.numbers import process_of
from gateway.wire import brokering, frames
from tests.faults.node_process import NodeProcess
from tests.local_node import Servant
from tests.rawclient import ConnectionEnded, RawClient, composite

#: What a test waits for happens at once on an idle machine, and within this on any.
PATIENCE_S = 30.0
#: Connections that are tried until one comes to the process that is wanted.
TRIES = 200


async def eventually(condition: Callable[[], Awaitable[Any]], timeout: float = PATIENCE_S) -> Any:
    """What `condition` returns once that is true."""
    async with asyncio.timeout(timeout):
        while not (found := await condition()):  # noqa: ASYNC110  (other processes set no events)
            await asyncio.sleep(0.05)
        return found


async def start(data: Path, log: Path, workers: int, **settings: str) -> NodeProcess:
    """A node whose workers all take connections."""
    settings = {
        "GATEWAY__NODE__WORKERS": str(workers),
        "GATEWAY__LIMITS__DRAIN_GRACE_S": "5",
        # A machine that runs tests stands still now and then; whoever comes then is to be let in all the same.
        "GATEWAY__LIMITS__LAG_SHED_MS": "60000",
        **settings,
    }
    node = await NodeProcess.start(data, log, **settings)
    await all_ready(node, workers)
    return node


async def all_ready(node: NodeProcess, workers: int) -> None:
    """Wait until as many processes, the first included, take connections."""

    async def ready() -> bool:
        running = set(worker_pids(node).values())
        return len(running) == workers - 1 and running <= _said_ready(node)

    await eventually(ready, 60)


def said(node: NodeProcess, event: str) -> list[dict[str, Any]]:
    """What the node and its workers have logged under this name."""
    lines = [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def _said_ready(node: NodeProcess) -> set[int]:
    return {line["pid"] for line in said(node, "worker ready")}


def worker_pids(node: NodeProcess) -> dict[int, int]:
    """The processes of its workers by index, as the system knows them."""
    found = {}
    for pid in _children(node.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"gateway.workers" in words:
            found[int(words[words.index(b"gateway.workers") + 1])] = pid
    return found


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split() if is_alive(int(word))]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Clients:
    """Clients of one node. `ready`: what each was told when its SETUP was accepted."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.ready: dict[RawClient, dict[str, Any]] = {}
        self._clients: list[RawClient] = []
        self._servants: list[Servant] = []

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *error: object) -> None:
        for servant in self._servants:
            await servant.stop()
        for client in self._clients:
            await client.close()

    async def at(self, process: int, token: str, serving: tuple[str, ...] = (), **setup: Any) -> RawClient:
        """A client that is connected to this process. The system deals out connections: others are closed again."""
        for _ in range(TRIES):
            client = await RawClient.connect_tcp(self.node.tcp_port)
            # What it serves it says where it stays: nobody is to be sent to a connection that is closed again.
            client.setup(token, **setup)
            try:
                ready = await client.ready()
            except (ConnectionEnded, AssertionError) as error:
                await client.close()
                raise AssertionError(f"{error}\n{self.node.log}") from error
            if process_of(int(ready["session"])) == process:
                self._clients.append(client)
                self.ready[client] = ready
                for name in serving:
                    await _register(client, name)
                return client
            await client.close()
        raise AssertionError(f"no connection came to process {process}")

    async def serving(self, process: int, name: str) -> Servant:
        servant = Servant(await self.at(process, self.node.token(f"svc-{name}", "service"), (name,)), name)
        self._servants.append(servant)
        return servant

    async def asking(self, process: int, subject: str = "caller") -> RawClient:
        return await self.at(process, self.node.token(subject, "service"))


async def _register(client: RawClient, service: str) -> None:
    number = client.next_stream_id()
    frame = brokering.encode(brokering.RouteSetup(uuid.uuid4().bytes, service, ()))
    client.send(frames.RequestResponse(number, composite("gateway.register"), frame))
    answer = await client.recv()
    assert isinstance(answer, frames.Payload), answer
    assert answer.stream_id == number


async def answered(client: RawClient, route: str, data: bytes = b"hello") -> bool:
    """Whether a request is answered, and not refused."""
    number = client.request(route, data)
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", 0) == number:
            return isinstance(frame, frames.Payload) and frame.data == data
