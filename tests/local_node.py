"""A real node inside the test's own event loop, and clients of it that are cleaned up behind the test.

When a test ends its clients go, and the node must be as empty as before the first of them came: no connection, route,
stream, socket or task may be left, and nothing may have been raised where nobody catches (`LocalNode.finish`). So every
test that uses one checks that too, whatever else it is about.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from gateway.config import LiveSettings, Sources
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.internal import InternalConnection
from gateway.node import Node
from gateway.wire import frames
from tests.prepared import prepared
from tests.rawclient import RawClient, composite

SETTLING_S = 30.0
#: Tasks that a node has from its start to its end; a test may have started several nodes.
STANDING_TASKS = {
    "writer of gateway.db",
    "control plane",
    "issuers",
    "writer of spool.sqlite3",
    "spool: group commits",
    "spool: upkeep",
    "spool: looking",
    "spool: opening",
    "spool: delivery",
    "bridges",
    "rollouts",
    "history",
}


def passing_tasks() -> set[asyncio.Task[Any]]:
    """The tasks that are there for a while only."""
    return {
        task
        for task in asyncio.all_tasks()
        if task.get_name() not in STANDING_TASKS and not task.get_name().startswith("mqtt: ")
    }


async def until(condition: Callable[[], object], timeout: float = 30) -> None:
    """Wait until `condition` is true; it is looked at between turns of the loop."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  (what the node does sets no events)
            await asyncio.sleep(0.002)


def settings(data: Path, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """What a node of a test differs in from one that `gateway run` starts: where it is, and how long it drains."""
    return {
        "node.data": data,
        "node.name": "edge-1",
        "listen.websocket": "127.0.0.1:0",
        "listen.tcp": "127.0.0.1:0",
        "admin.listen": "",
        "telemetry.listen": "",
        "limits.drain_grace_s": 2,
        # What a test does in the node's own loop is no overload of the node.
        "limits.lag_shed_ms": 60_000,
        **(more or {}),
    }


class LocalNode:
    """`node` runs; `errors` holds what was raised in its callbacks, which must stay empty."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.clients: list[RawClient] = []
        self.servants: list[Servant] = []
        self.errors: list[dict[str, Any]] = []
        self.stopped = False
        self._tasks_before = len(passing_tasks())

    @classmethod
    async def start(cls, data: Path, more: Mapping[str, object] | None = None, *, dev: bool = True) -> Self:
        """A node on `data`, which is made where it is not there, with the identity that all such have."""
        sources = Sources(None, {}, settings(prepared(data), more), dev, data / "no-secrets")
        local = cls(Node(LiveSettings(sources)))
        asyncio.get_running_loop().set_exception_handler(lambda _, context: local.errors.append(context))
        await local.node.start()
        local._tasks_before = len(passing_tasks())
        return local

    # Tokens and clients

    def token(
        self,
        subject: str = "tester",
        kind: str = "service",
        services: tuple[str, ...] = ("*",),
        routes: tuple[str, ...] = ("*",),
        ttl: float = 600,
    ) -> str:
        return self.node.identity.mint(subject, kind, services, routes, ttl, time.time())

    def port(self, transport: str) -> int:
        return self.node.websocket_port if transport == "ws" else self.node.tcp_port

    async def connect(self, transport: str = "ws", **options: Any) -> RawClient:
        """A connection on which nothing was sent yet; over WebSocket the handshake is done."""
        make = RawClient.connect_ws if transport == "ws" else RawClient.connect_tcp
        client = await make(self.port(transport), **options)
        self.clients.append(client)
        return client

    async def client(
        self,
        transport: str = "ws",
        subject: str = "tester",
        kind: str = "service",
        serving: tuple[str, ...] = (),
        *,
        ttl: float = 600,
        setup: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> RawClient:
        """A connection whose SETUP the node has accepted. `serving` are the services that it registers."""
        client = await self.connect(transport, **options)
        client.setup(self.token(subject, kind, ttl=ttl), serving, **(setup or {}))
        await client.ready()
        return client

    async def servant(self, transport: str = "tcp", name: str = "echo", **options: Any) -> Servant:
        """A service that answers by itself."""
        servant = Servant(await self.client(transport, f"svc-{name}", serving=(name,), **options), name)
        self.servants.append(servant)
        return servant

    # What it looks like inside

    def connection(self, client: RawClient) -> Connection:
        """The node's side of a client."""
        (found,) = self.connections(client)
        return found

    def connections(self, client: RawClient) -> list[Connection]:
        """As `connection`, for a client that may have none, before its handshake or after its end."""
        # Sockets to either of the node's ports may come from the same one.
        kind, port = "websocket" if client.websocket else "tcp", f":{client.local_port}"
        return [c for c in self.node.plane.connections.values() if c.peer.startswith(kind) and c.peer.endswith(port)]

    @property
    def counters(self) -> Any:
        return self.node.metrics.counters

    def residue(self) -> dict[str, object]:
        """Everything that a client could leave behind; empty when there is none."""
        plane = self.node.plane
        found: dict[str, object] = {
            "connections": [c.peer for c in plane.connections.values() if c.kind != "internal"],
            "routes": [route.service for route in plane.table if not isinstance(route.owner, InternalConnection)],
            "streams": plane.counters.streams_open,
            "hops": sum(len(c.requesting) + len(c.serving) for c in plane.connections.values()),
            "sockets": sum(listener.open_sockets for listener in self.node.listeners.values()),
        }
        return {name: value for name, value in found.items() if value}

    async def settle(self, timeout: float = SETTLING_S) -> None:
        """Wait until nothing of any client is left."""
        try:
            await until(lambda: not self._left_behind(), timeout)
        except TimeoutError:
            raise AssertionError(f"left behind: {self.residue()}") from None

    async def _tasks_end(self, timeout: float = SETTLING_S) -> None:
        """Wait until no task is left that was not there when the node had started."""
        try:
            await until(lambda: len(passing_tasks()) <= self._tasks_before, timeout)
        except TimeoutError:
            raise AssertionError(f"left behind: {passing_tasks()}") from None

    def _left_behind(self) -> dict[str, object]:
        # Nobody comes back to a session any more; the node itself would wait for a minute.
        for connection in self.node.plane.parked.expire(math.inf):
            connection.end(CloseReason.RESUME_EXPIRED)
        return self.residue()

    async def leave(self) -> None:
        """Let every client go and see that the node forgets them."""
        for servant in self.servants:
            await servant.stop()
        for client in self.clients:
            await client.close()
        self.servants.clear()
        self.clients.clear()
        await self.settle()

    async def finish(self) -> None:
        """The end of every test: everybody leaves, nothing is left, the node stops."""
        try:
            if self.stopped:
                for servant in self.servants:
                    await servant.stop()
                for client in self.clients:
                    await client.close()
            else:
                await self.leave()
                await self._tasks_end()
        finally:
            await self.stop()
        # A connection that nobody holds must not complain when it is collected either.
        gc.collect(1)
        assert not self.errors, self.errors

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.node.stop()


class Servant:
    """A service on a raw client: echoes requests, and gives streams as many items as they have credit for.

    The data of a stream request is the size of an item in bytes, in decimal (`b"100"`). `heard` counts what it gets.
    """

    def __init__(self, client: RawClient, name: str) -> None:
        self.client = client
        self.name = name
        self.heard: list[frames.Frame] = []
        self._items: dict[int, bytes] = {}
        self._task = asyncio.create_task(self._serve(), name=f"servant {name}")

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def ended(self) -> None:
        """Until its connection has."""
        await asyncio.wait({self._task})

    def got(self, kind: type[frames.Frame]) -> list[Any]:
        return [frame for frame in self.heard if isinstance(frame, kind)]

    async def _serve(self) -> None:
        while True:
            frame = await self.client.recv(3600)
            if not isinstance(frame, frames.RequestN):
                self.heard.append(frame)
            if isinstance(frame, frames.RequestResponse):
                self.client.send(frames.Payload(frame.stream_id, None, frame.data, next=True, complete=True))
            elif isinstance(frame, frames.RequestStream | frames.RequestChannel):
                item = frames.encode(frames.Payload(frame.stream_id, None, bytes(int(frame.data or 1)), next=True))
                self._items[frame.stream_id] = item
                self._send(frame.stream_id, frame.initial_n)
            elif isinstance(frame, frames.RequestN):
                self._send(frame.stream_id, frame.n)
            elif isinstance(frame, frames.Cancel | frames.Error):
                self._items.pop(frame.stream_id, None)
            elif isinstance(frame, frames.KeepAlive) and frame.respond:
                self.client.send(frames.KeepAlive(False, 0, frame.data))

    def _send(self, stream_id: int, n: int) -> None:
        item = self._items.get(stream_id)
        if item is not None:
            self.client.send(*[item] * n)


async def call(
    client: RawClient,
    route: str = "echo.it",
    data: bytes = b"hello",
    timeout: float = 20,
    *,
    entries: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """Ask and return the answer's data; frames of other streams that come in between are dropped."""
    number = client.request(route, data, entries=entries)
    while True:
        frame = await client.recv(timeout)
        if getattr(frame, "stream_id", 0) == number:
            assert isinstance(frame, frames.Payload), frame
            return frame.data


def fnf(client: RawClient, route: str, data: bytes) -> frames.RequestFnf:
    return frames.RequestFnf(client.next_stream_id(), composite(route), data)


def stream_request(stream_id: int, route: str, data: bytes, n: int = frames.MAX_REQUEST_N) -> frames.RequestStream:
    return frames.RequestStream(stream_id, composite(route), data, initial_n=n)
