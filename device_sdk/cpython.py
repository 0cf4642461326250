"""What MicroPython has built in, and sockets that behave like its own. Never loaded on a board."""

import asyncio
from time import monotonic


def const(value):
    return value


def ticks_ms():
    return int(monotonic() * 1000)


def ticks_add(ticks, delta):
    return ticks + delta


def ticks_diff(end, start):
    return end - start


class Writer:
    """A StreamWriter with the face of MicroPython's."""

    def __init__(self, writer):
        self.write = writer.write
        self.s = self
        self._drain = writer.drain
        self.close = writer.transport.abort

    async def drain(self):
        await self._drain()
        # Without this a loop that only sends would starve the reader: `drain` rarely waits.
        await asyncio.sleep(0)


async def connect(host, port, ctx, head):
    reader, writer = await asyncio.open_connection(host, port, ssl=ctx, server_hostname=host if ctx else None)
    writer.write(head)
    return reader, Writer(writer)
