"""rsocket-java resumes its sessions over links that are cut, as caller and as responder, in every model (P50 to P54).

It is the one stock client that can, and it counts positions by itself: what it and the node disagree on would be lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from tests.conftest import StartNode
from tests.interop.peers import LIBRARIES, RSOCKET_JAVA, Library, Peer, route_setup
from tests.local_node import LocalNode, until

pytestmark = pytest.mark.xdist_group("interop")
JAVA = pytest.mark.parametrize("library", [each for each in LIBRARIES if each.name == RSOCKET_JAVA], ids=str)
CUTS = 20


class Radio:
    """What is between a client and the node: bytes pass both ways until it is `cut`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self.cuts = 0

    @asynccontextmanager
    async def on_air(self) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._passing, return_exceptions=True)

    @property
    def linked(self) -> bool:
        return bool(self._writers)

    def cut(self) -> None:
        self.cuts += self.linked
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, back}
        for source, drain in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, drain))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


async def _cut(radios: list[Radio], random: Random) -> None:
    while True:
        await asyncio.sleep(random.uniform(0.05, 0.2))
        random.choice(radios).cut()


def url(transport: str, port: int) -> str:
    return f"ws://127.0.0.1:{port}/rsocket" if transport == "ws" else f"tcp://127.0.0.1:{port}"


async def _talk(peer: Peer, number: int) -> None:
    """One call in each model; whatever is lost, doubled or out of order is seen."""

    async def command(name: str, route: str, **more: Any) -> dict[str, Any]:
        return await asyncio.to_thread(peer.command, name, connection="it", route=f"java.{route}", **more)

    text = f"{number} " * 1500
    assert (await command("request", "echo", data=text))["data"] == text
    await command("fnf", "note", data=str(number))
    asked = json.dumps({"key": str(number), "count": 300})
    answer = await command("stream", "items", data=asked, credits=[10] * 30 + [10])
    assert (answer["items"], answer["completed"]) == ([str(item) for item in range(300)], True)
    items = [f"{number}-{item}" for item in range(100)]
    answer = await command("channel", "channel", items=items, credits=[7] * 20)
    assert (answer["items"], answer["completed"]) == (items, True)


@JAVA
@pytest.mark.parametrize("kind", ["device", "service"])
@pytest.mark.parametrize("transports", [("ws", "tcp"), ("tcp", "ws")], ids="-".join)
async def test_java_resumes(start_node: StartNode, library: Library, kind: str, transports: tuple[str, str]) -> None:
    """P50, P51, P54: caller and responder on links that break; nothing is lost, doubled or out of order."""
    node: LocalNode = await start_node({"limits.device.requests_per_second": 0, "limits.device.bytes_per_second": 0})
    random = Random(kind)
    radios = [Radio(node.port(transport)) for transport in transports]
    async with radios[0].on_air() as callers_port, radios[1].on_air() as servants_port:
        ports = dict(zip(transports, (callers_port, servants_port), strict=True))
        caller, servant = Peer(library), Peer(library)
        try:
            for peer, transport, services in (
                (servant, transports[1], (route_setup("java"),)),
                (caller, transports[0], ()),
            ):
                token = node.token("servant" if services else "caller", kind)
                await asyncio.to_thread(
                    peer.connect, "it", url(transport, ports[transport]), token, services=services, resume=True
                )
            cutting = asyncio.create_task(_cut(radios, random))
            rounds = 0
            while sum(radio.cuts for radio in radios) < CUTS:
                await _talk(caller, rounds)
                rounds += 1
            cutting.cancel()
            await until(lambda: all(radio.linked for radio in radios))
            notes = await asyncio.to_thread(caller.ask, "it", "java.notes")
            assert notes == [str(number) for number in range(rounds)]
            assert node.counters.sessions_resumed >= CUTS // 2
            assert node.counters.resumes_refused == {}
        finally:
            for peer in (caller, servant):
                await asyncio.to_thread(peer.stop)
