"""A line between two nodes that can be cut: both ways, one way, or so that nobody is told."""

from __future__ import annotations

import asyncio
from typing import Self


class Line:
    """Listens on `port` and passes bytes on to another one. While `up` or `down` is False, bytes of that way vanish."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = True
        self.down = True
        self.refuses = False
        #: Bytes that did not get through.
        self.dropped = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def to(cls, target: int) -> Self:
        line = cls(target)
        line._server = await asyncio.start_server(line._accept, "127.0.0.1", 0)
        line.port = line._server.sockets[0].getsockname()[1]
        return line

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/rsocket"

    def cut(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        self.up = self.down = False

    def heal(self) -> None:
        """What is dialled from now on works again; what was cut has lost bytes, and is reset."""
        self.reset()
        self.up = self.down = True

    def reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        for coroutine in (self._pass(reader, far_writer, "up"), self._pass(far_reader, writer, "down")):
            task = asyncio.get_running_loop().create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await reader.read(65536):
                if getattr(self, way):
                    writer.write(data)
                    await writer.drain()
                else:
                    self.dropped += len(data)
        except OSError:
            pass
        finally:
            if getattr(self, way):
                writer.transport.abort()
                self._writers.discard(writer)
