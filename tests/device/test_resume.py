"""Sessions that outlive their connections: nothing is lost, doubled or out of order, and a lost session says so."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from gateway.client import Service
from tests.conftest import StartNode
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter, roomy
from tests.device.relay import Relay
from tests.local_node import LocalNode, until


class Api:
    """What the device asks, and what has come of it."""

    def __init__(self, local: LocalNode) -> None:
        url = f"ws://127.0.0.1:{local.node.websocket_port}/rsocket"
        self.service = Service(url, local.token("api", "service"), name="api")
        self.added: list[int] = []
        self.noted: list[int] = []
        self.service.request_response("add")(self._add)
        self.service.fire_and_forget("note")(self._note)
        self.service.stream("count")(self._count)
        self.service.channel("echo")(self._echo)

    async def _add(self, data: bytes) -> bytes:
        self.added.append(int(data))
        return b"sum " + data

    async def _note(self, data: bytes) -> None:
        self.noted.append(int(data))

    async def _count(self, data: bytes) -> AsyncIterator[bytes]:
        for i in range(int(data)):
            yield b"%d" % i

    async def _echo(self, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item


async def cut_often(relay: Relay, times: int, seed: int) -> None:
    """Each time that the device is connected, after so many turns of the loop."""
    chance = random.Random(seed)
    while relay.cuts < times:
        await relay.arrived.wait()
        relay.arrived.clear()
        await asyncio.sleep(chance.uniform(0, 0.04))
        relay.cut()


async def ask(service: Service, stop: asyncio.Event) -> int:
    """Ask the device itself, until told to stop: streams of numbers, and echoes."""
    asked = 0
    while not stop.is_set():
        async with asyncio.timeout(60):
            got = [int(item) async for item in service.gateway.stream("dev-1.numbers", b"15")]
            assert got == list(range(15))
            assert await service.gateway.request("dev-1.echo", b"%d" % asked) == b"%d" % asked
        asked += 1
    return asked


@pytest.mark.parametrize(
    ("rounds", "cuts"), [(20, 8), pytest.param(400, 100, marks=pytest.mark.soak)], ids=["short", "long"]
)
async def test_cuts(start_node: StartNode, interpreter: Interpreter, start: Start, rounds: int, cuts: int) -> None:
    """Cut at any byte, both ways busy: all models go on where they were, on the session that was set up first."""
    node = await start_node({"limits.device.requests_per_second": 0})
    api = Api(node)
    async with api.service, Relay(node.node.websocket_port) as relay:
        program = await start(
            roomy(interpreter),
            "resuming",
            relay.url,
            rounds,
            json.dumps({"resume": 2048, "max_tx_frame": 300}),
            DEVICE_TOKEN=node.token("dev-1", "device", ("dev-1",), ("*",)),
        )
        await program.expect(resume=True)
        stop = asyncio.Event()
        asking = asyncio.create_task(ask(api.service, stop))
        cutting = asyncio.create_task(cut_often(relay, cuts, rounds))
        await program.expect(rounds=rounds, asking=0)
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
        stop.set()
        assert await asking > 0
        await until(lambda: len(api.noted) == rounds)
        assert api.added == api.noted == list(range(rounds))
        await api.service.gateway.fire_and_forget("dev-1.stop", b"")
        ended = (await program.finish())[-1]
        assert (ended["errors"], ended["ws"]) == (0, False)
        assert relay.cuts >= min(cuts, 5)
        # A cut before RESUME has come is none that the node knows of.
        assert node.counters.sessions_resumed > 0
        assert not node.counters.resumes_refused
