"""A node that says exactly what a test tells it to: RSocket frames over a real socket, no policy of its own.

The real node refuses to send most of what is tested with this (errors at will, items beyond credit, silence).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.wire import frames
from gateway.wire.metadata import decode_composite, decode_routing
from gateway.wire.mimetypes import ROUTING

READY = {
    "node": "scripted",
    "session": "s1",
    "sub": "tester",
    "services": [],
    "keepalive_ms": 20000,
    "lifetime_ms": 90000,
    "resume": False,
    "lease": False,
    "time": 1_700_000_000_000,
}
_Frame = TypeVar("_Frame", bound=frames.Frame)


class Link:
    """One accepted connection as the test sees it."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]], hang_up: Callable[[], None]) -> None:
        self.received: list[frames.Frame] = []
        self.answer_ready = True
        self.answer_keepalive = True
        self.closed = asyncio.Event()
        self.hang_up = hang_up
        self._write = write
        self._news = asyncio.Condition()

    async def send(self, *messages: frames.Frame) -> None:
        for frame in messages:
            await self._write(frames.encode(frame))

    async def send_bytes(self, data: bytes) -> None:
        await self._write(data)

    async def take(self, data: bytes) -> None:
        frame = frames.decode(data)
        if isinstance(frame, frames.KeepAlive) and frame.respond and self.answer_keepalive:
            await self.send(frames.KeepAlive(False, 0, frame.data))
        if self.answer_ready and isinstance(frame, frames.RequestResponse) and route_of(frame) == "gateway.ready":
            await self.send(frames.Payload(frame.stream_id, None, json.dumps(READY).encode(), complete=True, next=True))
            return
        async with self._news:
            self.received.append(frame)
            self._news.notify_all()

    async def expect(self, kind: type[_Frame], matches: Callable[[_Frame], bool] = lambda frame: True) -> _Frame:
        """Wait for the next frame of `kind`, and take it out of ``received``."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = [frame for frame in self.received if isinstance(frame, kind) and matches(frame)]
            return bool(found)

        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(there)
        self.received.remove(found[0])
        return found[0]


class Peer:
    """The listener. ``on_link`` may change a link before its first frame is read."""

    def __init__(self) -> None:
        self.url = ""
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.on_link: Callable[[Link], Awaitable[None]] | None = None

    async def _accept(self, link: Link) -> None:
        if self.on_link is not None:
            await self.on_link(link)
        self.links.put_nowait(link)

    async def websocket(self, socket: ServerConnection) -> None:
        link = Link(socket.send, socket.transport.abort)
        await self._accept(link)
        try:
            async for message in socket:
                assert isinstance(message, bytes)
                await link.take(message)
        except ConnectionClosed:
            pass
        finally:
            link.closed.set()

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(len(data).to_bytes(3, "big") + data)
            await writer.drain()

        link = Link(write, writer.transport.abort)
        await self._accept(link)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(3), "big")
                await link.take(await reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            link.closed.set()
            writer.close()


@asynccontextmanager
async def listening(scheme: str = "ws", tls: Any = None) -> AsyncIterator[Peer]:
    """A peer on a free loopback port, by `scheme` ws, wss, tcp or tls."""
    peer = Peer()
    if scheme in ("ws", "wss"):
        server = await serve(
            peer.websocket, "127.0.0.1", 0, ssl=tls, max_size=None, compression=None, subprotocols=["rsocket"]
        )
        port = next(iter(server.sockets)).getsockname()[1]
        peer.url = f"{scheme}://localhost:{port}/rsocket" if tls else f"{scheme}://127.0.0.1:{port}/rsocket"
        try:
            yield peer
        finally:
            server.close(close_connections=True)
            await server.wait_closed()
    else:
        tcp = await asyncio.start_server(peer.tcp, "127.0.0.1", 0, ssl=tls)
        port = tcp.sockets[0].getsockname()[1]
        peer.url = f"{scheme}://localhost:{port}" if tls else f"{scheme}://127.0.0.1:{port}"
        try:
            yield peer
        finally:
            tcp.close()
            # From Python 3.12 wait_closed also waits for the handlers, which end with their clients.
            await tcp.wait_closed()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def route_of(frame: frames.Request) -> str:
    """The route in the metadata of a request."""
    for mime, content in decode_composite(frame.metadata or b""):
        if mime == ROUTING:
            return decode_routing(content)[0]
    return ""
