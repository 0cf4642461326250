"""A gateway as a device sees it, scripted frame by frame: the peer of the SDK's tests.

``websockets`` reads what the device sends, so a frame that is not masked or not well formed ends the test.
What goes to the device is written by hand where a test wants it broken.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from gateway.wire import frames, metadata, mimetypes

F = TypeVar("F")
Script = Callable[["Link"], Awaitable[None]]
Answer = Callable[[Response], Response | None]

#: Longest wait for a frame that a test expects. A failure, not a measurement.
PATIENCE_S = 20.0


class Ended(Exception):
    """The device closed the connection."""


def composite(route: str, *entries: tuple[str, bytes]) -> bytes:
    return metadata.encode_composite([(mimetypes.ROUTING, metadata.encode_routing([route])), *entries])


def route_of(frame: Any) -> str:
    for mime, content in metadata.decode_composite(frame.metadata or b""):
        if mime == mimetypes.ROUTING:
            return metadata.decode_routing(content)[0]
    return ""


def websocket_frame(
    payload: bytes, opcode: int = 2, *, fin: bool = True, reserved: int = 0, masked: bool = False
) -> bytes:
    first = (0x80 if fin else 0) | reserved | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, bit | len(payload)))
    elif len(payload) < 65536:
        head = bytes((first, bit | 126)) + len(payload).to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


class Link:
    """One accepted connection. ``setup`` is the device's SETUP once ``accept`` has run."""

    setup: frames.Setup

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request: Request | None = None
        self.close_code: int | None = None
        self._protocol = ServerProtocol(subprotocols=["rsocket"], max_size=1 << 25)  # type: ignore[list-item]
        self._frames: list[bytes] = []
        self._pongs: list[bytes] = []
        self._parts: list[bytes] = []
        self._next_id = 2
        self.heard: list[frames.Frame] = []

    async def handshake(self, answer: Answer | None) -> bool:
        while self.request is None:
            await self._read()
        response = self._protocol.accept(self.request)
        if answer is not None:
            changed = answer(response)
            if changed is None:
                return False
            response = changed
        self._protocol.send_response(response)
        self.flush()
        return response.status_code == 101

    async def _read(self) -> None:
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            raise Ended from None
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self.request = event
            elif isinstance(event, WebSocketFrame):
                self._event(event)
        self.flush()
        if self._protocol.parser_exc is not None and data:
            raise AssertionError(f"the device broke RFC 6455: {self._protocol.parser_exc!r}")
        if not data:
            raise Ended

    def _event(self, event: WebSocketFrame) -> None:
        if event.opcode in (Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(event.data))
            if event.fin:
                self._frames.append(b"".join(self._parts))
                self._parts = []
        elif event.opcode is Opcode.PONG:
            self._pongs.append(bytes(event.data))
        elif event.opcode is Opcode.CLOSE:
            self.close_code = int.from_bytes(event.data[:2], "big")

    def flush(self) -> None:
        if not self.writer.is_closing():
            for data in self._protocol.data_to_send():
                if data:
                    self.writer.write(data)

    # ---- sending

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, frame: frames.Frame | bytes) -> None:
        self.raw(websocket_frame(frame if isinstance(frame, bytes) else frames.encode(frame)))

    def next_id(self) -> int:
        """A stream id of the server's side (P20)."""
        self._next_id += 2
        return self._next_id - 2

    # ---- receiving

    async def recv_bytes(self) -> bytes:
        """The next RSocket frame as bytes. Raises Ended."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._frames:
                await self._read()
        return self._frames.pop(0)

    async def recv(self) -> frames.Frame:
        return frames.decode(await self.recv_bytes())

    async def expect(self, kind: type[F]) -> F:
        """The next frame that is no keepalive; it must be of this kind."""
        while True:
            frame = await self.recv()
            if isinstance(frame, kind):
                return frame
            assert isinstance(frame, frames.KeepAlive), f"expected {kind.__name__}, got {frame}"
            self.answer_keepalive(frame)

    async def find(self, kind: type[F]) -> F:
        """The next frame of this kind; what came before it is received afterwards."""
        passed = []
        while True:
            raw = await self.recv_bytes()
            frame = frames.decode(raw)
            if isinstance(frame, kind):
                self._frames[:0] = passed
                return frame
            passed.append(raw)

    def has_frames(self) -> bool:
        return bool(self._frames)

    async def pong(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            while not self._pongs:
                await self._read()
        return self._pongs.pop(0)

    def answer_keepalive(self, frame: frames.KeepAlive) -> None:
        if frame.respond:
            self.send(frames.KeepAlive(False, 0, frame.data))

    async def accept(self, **ready: Any) -> frames.RequestResponse:
        """Take SETUP and answer ``gateway.ready``."""
        self.setup = await self.expect(frames.Setup)
        request = await self.expect(frames.RequestResponse)
        assert route_of(request) == "gateway.ready"
        answer = {"node": "n", "session": "s", "sub": "dev-1", "services": ["dev-1"]}
        answer |= {"keepalive_ms": 20000, "lifetime_ms": 90000, "resume": False, "lease": False}
        answer |= {"time": int(time.time() * 1000)} | ready
        self.send(frames.Payload(request.stream_id, None, json.dumps(answer).encode(), complete=True, next=True))
        return request

    async def ended(self) -> None:
        """Wait for the device to close; frames on the way are dropped."""
        try:
            while True:
                await self.recv_bytes()
        except Ended:
            pass

    def reset(self) -> None:
        """End with a TCP RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # ---- a gateway with a few services

    async def serve(self) -> None:
        """Answer until the device goes: ``echo``, ``fail.<code>``, ``count`` (streams), anything else is silent."""
        streams: dict[int, list[int]] = {}  # id -> next item, end, credit
        while True:
            try:
                frame = await self.recv()
            except Ended:
                return
            self.heard.append(frame)
            if isinstance(frame, frames.KeepAlive):
                self.answer_keepalive(frame)
            elif isinstance(frame, frames.RequestResponse | frames.RequestStream):
                route = route_of(frame)
                if route == "echo":
                    self.send(frames.Payload(frame.stream_id, None, frame.data, complete=True, next=True))
                elif route == "count" and isinstance(frame, frames.RequestStream):
                    streams[frame.stream_id] = [0, int(frame.data), frame.initial_n]
                    self._items(frame.stream_id, streams)
                elif route.startswith("fail."):
                    self.send(frames.Error(frame.stream_id, int(route[5:], 0), "as asked"))
            elif isinstance(frame, frames.RequestN) and frame.stream_id in streams:
                streams[frame.stream_id][2] += frame.n
                self._items(frame.stream_id, streams)
            elif isinstance(frame, frames.Cancel):
                streams.pop(frame.stream_id, None)

    def _items(self, stream_id: int, streams: dict[int, list[int]]) -> None:
        item = streams[stream_id]
        while item[2] > 0 and item[0] < item[1]:
            self.send(
                frames.Payload(stream_id, None, str(item[0]).encode(), complete=item[0] + 1 == item[1], next=True)
            )
            item[0] += 1
            item[2] -= 1
        if item[0] == item[1]:
            del streams[stream_id]


async def gateway(link: Link) -> None:
    """The plain script: accept, then serve."""
    await link.accept()
    await link.serve()


class Peer:
    """Listens on loopback. Each connection goes to ``script``; without one, tests take them with ``link()``."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        answer: Answer | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.script = script
        self.answer = answer
        self.tls = tls
        self.port = port
        self.links: list[Link] = []
        self.failure: BaseException | None = None
        self._arrived: asyncio.Queue[Link] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Small buffers, so that a peer that stops reading is felt soon.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._connected, sock=sock, ssl=self.tls, limit=4096)
        self.port = sock.getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        # Who was accepted just now gets its transport in the next turns of the loop, and must not be left with it.
        for _ in range(5):
            await asyncio.sleep(0)
        for link in self.links:
            link.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self.links:
            # A transport that was aborted is closed in a later turn.
            with suppress(OSError, ssl.SSLError, TimeoutError):
                await asyncio.wait_for(link.writer.wait_closed(), PATIENCE_S)
        if self.failure is not None and error[1] is None:
            raise self.failure

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/rsocket"

    async def link(self) -> Link:
        """The next connection whose WebSocket handshake is done."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._arrived.get()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = Link(reader, writer)
        self.links.append(link)
        try:
            if await link.handshake(self.answer):
                self._arrived.put_nowait(link)
                if self.script is not None:
                    await self.script(link)
        except (Ended, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.failure = error
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
