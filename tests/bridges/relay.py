"""A network between a bridge and its broker that can fall silent: nothing passes, and nobody is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.packets import PacketReader
from tests.bridges.brokers import Broker

#: Ways through it.
TO_BROKER: Final = "to broker"
TO_BRIDGE: Final = "to bridge"
BOTH: Final = (TO_BROKER, TO_BRIDGE)


class Relay:
    """`start` it, `close` it; a bridge takes it for a broker.

    `silence` lets nothing through on these ways, not even that a side has closed; what is under way waits, as TCP has
    it. `heal` passes it on where both sides are still there. `most`: messages of QoS 1 and 2 that were unconfirmed at a
    time, by the way that they went, of any connection; `passed`: how many went.
    """

    username = None

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._open = {way: asyncio.Event() for way in BOTH}
        self._tasks: set[asyncio.Task[None]] = set()
        self._halves: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self.most: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        #: So many messages go to the broker before it falls silent by itself.
        self.silent_after: int | None = None

    async def start(self) -> Relay:
        self.heal()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def is_silent(self) -> bool:
        return not all(event.is_set() for event in self._open.values())

    def silence(self, *ways: str) -> None:
        for way in ways or BOTH:
            self._open[way].clear()

    def heal(self) -> None:
        for pair in self._halves:
            if any(each.transport.is_closing() for each in pair):
                for each in pair:
                    each.transport.abort()
        for event in self._open.values():
            event.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in self._halves:
            for each in pair:
                each.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._live(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open[TO_BROKER].wait()
            back, forth = await asyncio.open_connection("127.0.0.1", self._broker.port)
        except OSError:
            writer.transport.abort()
            return
        self._halves.append((writer, forth))
        window = _Window(self)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, forth, TO_BROKER, window))
            group.create_task(self._pass(back, writer, TO_BRIDGE, window))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str, window: _Window
    ) -> None:
        opened = self._open[way]
        try:
            while True:
                await opened.wait()
                data = await reader.read(65536)
                window.feed(way, data)
                await opened.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            await opened.wait()
        writer.close()


class _Window:
    """Of one connection."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._readers = {
            way: PacketReader(lambda head, data, at, end, way=way: self._take(way, head, data, at, end), 1 << 24)
            for way in BOTH
        }
        self._unconfirmed: Counter[str] = Counter()

    def feed(self, way: str, data: bytes) -> None:
        self._readers[way].feed(data)

    def _take(self, way: str, head: int, data: bytes, at: int, end: int) -> None:
        relay, kind = self._relay, head >> 4
        other = TO_BRIDGE if way == TO_BROKER else TO_BROKER
        if kind == packets.PUBLISH:
            relay.passed[way] += 1
            if way == TO_BROKER and relay.passed[way] == relay.silent_after:
                relay.silence()
            if head & 6:
                self._unconfirmed[way] += 1
                relay.most[way] = max(relay.most[way], self._unconfirmed[way])
        else:
            refused = kind == packets.PUBREC and packets.decode_acknowledgement(data, at, end).reason >= packets.REFUSED
            if refused or kind in (packets.PUBACK, packets.PUBCOMP):
                self._unconfirmed[other] -= 1
