"""Real devices post while the node is killed, links are cut, receipts vanish and a device is killed, too: everything
that was on flash is delivered once.

The checker is that of the spool's kills; what a device calls safe stands for what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from gateway.control.audit import Actor
from gateway.wire import frames
from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import Interpreter, Program
from tests.faults.node_process import NodeProcess
from tests.federation.links.proxy import Line
from tests.local_node import LocalNode, until
from tests.rawclient import RawClient
from tests.spooling.test_kills import GONE, History

SPOOL = (
    "kind: Spool\nname: kept\nmatch: [{service: ledger, interaction: [requestResponse]}]\nminFree: 0%\n"
    "maxBytes: 64MiB\nqueueWhileOffline: {ttl: 1h}\n"
)
#: With 48 KB the outbox leaves 5 KB in pieces: a device may not find the room for the SETUP of its next connection.
HEAP = "72k"
#: Of everything together: as long as some of it comes. A failure, not a measurement.
PATIENCE_S = 60.0


class Meter:
    """A device, and the line that it has to the node."""

    def __init__(self, name: str, line: Line, begin: Callable[[int, int], Awaitable[Program]]) -> None:
        self.name = name
        self.line = line
        self._begin = begin
        self.numbers: set[int] = set()
        self.safe: set[int] = set()
        self.lost = -1

    async def run(self, first: int, last: int, *, killed_at: int = 0) -> None:
        """Post these. With `killed_at` the power goes as soon as so many are safe."""
        self.numbers |= set(range(first, last))
        program = await self._begin(first, last)
        assert program.process.stdout is not None
        # A device says nothing while the node starts, and a busy machine takes its time for that.
        while text := await program.process.stdout.readline():
            line = json.loads(text)
            if "safe" in line:
                self.safe |= set(range(first, line["safe"]))
                if killed_at and line["safe"] - first >= killed_at:
                    program.process.kill()
            else:
                self.lost = line["lost"]
        if not killed_at:
            await program.finish()


class Field:
    """The node, its devices and the service."""

    def __init__(self, data: Path, log: Path) -> None:
        self.data = data
        self.log = log
        self.history = History()
        self.meters: list[Meter] = []
        self.node: NodeProcess | None = None
        self.lives = 0
        self._serving: asyncio.Task[None] | None = None

    async def power(self) -> None:
        self.node = await NodeProcess.start(self.data, self.log, GATEWAY__SPOOL__GROUP_MS="2")
        if not self.lives:
            async with self.node.operator() as operator:
                assert (await operator.post("/documents:apply", json={"text": SPOOL})).status_code == 200
            self._serving = asyncio.create_task(self._serve())
        self.lives += 1
        for meter in self.meters:
            meter.line.target = self.port

    @property
    def port(self) -> int:
        assert self.node is not None
        return int(self.node.runtime.websocket.rpartition(":")[2].split("/")[0])

    async def _serve(self) -> None:
        """The service, which comes back whenever the node does."""
        while True:
            assert self.node is not None
            with contextlib.suppress(*GONE):
                client = await RawClient.connect_tcp(self.node.tcp_port)
                try:
                    client.setup(self.node.token("svc-ledger", "service"), ("ledger",))
                    while True:
                        frame = await client.recv(3600)
                        if isinstance(frame, frames.RequestResponse):
                            self.history.take(frame)
                            client.send(frames.Payload(frame.stream_id, None, b"had", next=True, complete=True))
                        elif isinstance(frame, frames.KeepAlive) and frame.respond:
                            client.send(frames.KeepAlive(False, 0, frame.data))
                finally:
                    await client.close()
            await asyncio.sleep(0.05)

    @property
    def read(self) -> int:
        return sum(map(len, self.history.read.values()))

    async def settled(self) -> None:
        """Everything that is safe has come, or nothing more comes."""
        before, quiet_s = -1, 0.0
        while self._missing() and quiet_s < PATIENCE_S:
            quiet_s = quiet_s + 0.05 if self.read == before else 0.0
            before = self.read
            await asyncio.sleep(0.05)

    def _missing(self) -> bool:
        return any(not meter.safe <= set(self.history.read[meter.name]) for meter in self.meters)

    def check(self) -> None:
        history = self.history
        history.acked = {(meter.name, number) for meter in self.meters for number in meter.safe}
        history.attempts = {(meter.name, number) for meter in self.meters for number in meter.numbers}
        history.check()

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        for meter in self.meters:
            await meter.line.close()
        if self.node is not None:
            self.node.stop()


@pytest.fixture
async def field(tmp_path: Path) -> AsyncIterator[Field]:
    field = Field(tmp_path / "data", tmp_path / "log")
    yield field
    await field.close()


async def add(field: Field, devices: int, interpreter: Interpreter, start: Start) -> None:
    assert field.node is not None
    for number in range(devices):
        name, line = f"meter-{number}", await Line.to(field.port)

        def begin(first: int, last: int, name: str = name, line: Line = line) -> Awaitable[Program]:
            assert field.node is not None
            token = field.node.token(name, "device")
            return start(interpreter, "posting", line.url, first, last, DEVICE_ID=name, DEVICE_TOKEN=token)

        field.meters.append(Meter(name, line, begin))


async def disturb(field: Field, random: Random) -> None:
    """One line after the other is cut; before that the way back is silent for a while, so that receipts are lost."""
    while True:
        line = random.choice(field.meters).line
        line.down = random.random() < 0.5
        await asyncio.sleep(random.uniform(0.0, 0.1))
        line.heal()
        await asyncio.sleep(random.uniform(0.0, 2.0 / len(field.meters)))


async def post_through(
    field: Field, interpreter: Interpreter, start: Start, devices: int, posts: int, kills: int
) -> None:
    random = Random(devices)
    await field.power()
    await add(field, devices, interpreter, start)
    first, *others = field.meters
    posting = [asyncio.create_task(meter.run(0, posts)) for meter in others]

    async def restarted() -> None:
        await first.run(0, posts, killed_at=posts // 3)
        await first.run(1000, 1000 + posts)

    posting.append(asyncio.create_task(restarted()))
    disturbing = asyncio.create_task(disturb(field, random))
    try:
        for kill in range(1, kills + 1):
            # Each in another part of the work, however fast the machine is.
            while field.read < devices * posts * kill // (kills + 2):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert field.node is not None
            field.node.kill()
            await field.power()
    finally:
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
        for meter in field.meters:
            meter.line.heal()
    await asyncio.gather(*posting)
    await field.settled()
    field.check()
    assert all(meter.lost == 0 for meter in field.meters)
    assert all(meter.safe == meter.numbers for meter in others)
    print(f"{field.read} delivered, {field.history.again} came again from the spool, {field.lives} lives")


async def test_a_lost_receipt(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """The device posts it again, and the node has it once."""
    assert node.node.control is not None
    assert node.node.depot is not None
    await node.node.control.documents.apply(SPOOL, by=Actor("system", "tests"))
    outlets, line = node.node.depot.outlets, await Line.to(node.port("ws"))
    token = node.token("meter", "device", ("meter",), ("*",))
    program = await start(interpreter, "posting", line.url, 0, 40, DEVICE_ID="meter", DEVICE_TOKEN=token)
    await until(lambda: "kept/ledger" in outlets and outlets["kept/ledger"].spool.appended >= 5)
    spool = outlets["kept/ledger"].spool
    line.down = False
    # All that comes down is receipts, and there is none without another post before it.
    await until(lambda: line.dropped > 0)
    line.heal()
    while "lost" not in (said := await program.line()):
        pass
    assert said == {"lost": 0}
    await program.finish()
    assert (spool.appended, spool.messages) == (40, 40)
    assert spool.came_again >= 1
    servant = await node.servant(name="ledger")
    await until(lambda: not spool.messages)
    assert [frame.data for frame in servant.got(frames.RequestResponse)] == [b"meter %d" % n for n in range(40)]
    await line.close()


@pytest.mark.timeout(300)
async def test_nothing_that_was_safe_is_lost_or_comes_twice(field: Field, compiled: Path, start: Start) -> None:
    await post_through(field, micropython_compiled(compiled, HEAP), start, devices=3, posts=45, kills=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_fifty_devices_post(field: Field, compiled: Path, start: Start) -> None:
    await post_through(field, micropython_compiled(compiled, HEAP), start, devices=50, posts=60, kills=4)
