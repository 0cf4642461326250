"""A line between a client and a node that can go silent, be torn, and stay away."""

from __future__ import annotations

import asyncio


class Relay:
    """Listens on `port`, and carries what comes to a port of this machine and back."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._away = False

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    def silence(self) -> None:
        """What is on the line now says nothing more, and does not end either; who comes later is served."""
        self._passing.clear()
        self._passing = asyncio.Event()
        self._passing.set()

    def tear(self) -> None:
        """End all that is there, and let nobody in before `mend`."""
        self._away = True
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        self._away = False

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._there)
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink, self._passing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        try:
            while data := await source.read(65536):
                await passing.wait()
                sink.write(data)
            await passing.wait()
        except ConnectionError:
            pass
        finally:
            sink.close()
