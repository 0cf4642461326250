"""A link between a device and a node that breaks: by the bytes that the device was sent, or by the clock."""

from __future__ import annotations

import asyncio
from typing import Self


class CutLink:
    """``url`` is where devices connect to. A connection is reset after ``cut_after`` bytes to the device, or ``cut_s``
    seconds; ``cuts`` counts them. ``rate``: bytes a second to the device, 0 for all there is."""

    def __init__(self, port: int, *, cut_after: int = 0, cut_s: float = 0, rate: int = 0) -> None:
        self.port = port
        self.cut_after = cut_after
        self.cut_s = cut_s
        self.rate = rate
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/rsocket"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        # Who was accepted just now gets its task in the next turns of the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self.port)
        up = asyncio.create_task(self._up(reader, node_writer))
        try:
            async with asyncio.timeout(self.cut_s or None):
                await self._down(node_reader, writer)
        except TimeoutError:
            self.cuts += 1
        except ConnectionError:
            pass
        finally:
            up.cancel()
            node_writer.transport.abort()
            await asyncio.gather(up, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, node_writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            node_writer.write(data)
            await node_writer.drain()
        node_writer.transport.abort()

    async def _down(self, node_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while data := await node_reader.read(2048):
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            sent += len(data)
            if self.cut_after and sent > self.cut_after:
                self.cuts += 1
                return
            writer.write(data)
            await writer.drain()
