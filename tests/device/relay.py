"""A relay between a device and a gateway whose connections can be cut, anywhere in a frame."""

from __future__ import annotations

import asyncio
from typing import Self


class Relay:
    """Listens on loopback and passes on to `port`. `cut` ends what is connected; `arrived` is set when somebody is."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.port = 0
        self.cuts = 0
        self.arrived = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/rsocket"

    def cut(self) -> None:
        if self._writers:
            self.cuts += 1
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._joined(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.to)
        both = {writer, onward_writer}
        self._writers |= both
        self.arrived.set()
        try:
            ways = [_pass(reader, onward_writer), _pass(onward_reader, writer)]
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # In small pieces, so that a cut is likely to be inside a frame.
    try:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
    finally:
        writer.transport.abort()
