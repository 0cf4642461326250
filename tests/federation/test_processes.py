"""Three central nodes with one table on three nats-servers, and two edges, each a process: what dies, and who goes on.

One phone at an edge asks a device at the other all the time. What of it fails while nothing is in flight is counted.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.local_cluster import LocalCluster, on_engine
from gateway.federation.table import SharedTable, TableOptions
from gateway.wire import frames
from gateway.wire.frames import ErrorCode
from tests.federation.nats_cluster import Administrator, NatsCluster, prepare
from tests.federation.waiting import until
from tests.local_node import Servant
from tests.rawclient import ConnectionEnded, RawClient

pytestmark = [pytest.mark.xdist_group("nats"), pytest.mark.timeout(600)]

CENTRALS, EDGES = ("c1", "c2", "c3"), ("edge-a", "edge-b")
FENCED = 3
#: A machine that runs tests stands still now and then, and a node with it.
PATIENT = {"GATEWAY__LINKS__SILENCE_MS": "5000"}


class Town:
    """The nodes, and a reader of the table that is no node of theirs (`c4`)."""

    def __init__(self, nodes: LocalCluster, nats: NatsCluster) -> None:
        self.nodes = nodes
        self.nats = nats

    async def client(self, at: str, subject: str, serving: tuple[str, ...] = (), kind: str = "service") -> RawClient:
        client = await RawClient.connect_ws(self.nodes.ports[at][0])
        client.setup(self.nodes.token(at, subject, kind), serving)
        await client.ready()
        return client

    @asynccontextmanager
    async def table(self) -> AsyncIterator[SharedTable]:
        table = SharedTable(self.nats.store("c4"), TableOptions("c4"))
        await table.start()
        try:
            yield table
        finally:
            await table.stop()

    async def heal(self) -> None:
        """Everybody is there again."""
        self.nats.heal()
        for name in (*CENTRALS, *EDGES):
            process = self.nodes.processes[name]
            process.send_signal(signal.SIGCONT)
            if process.poll() is not None:
                await asyncio.to_thread(self.nodes.start, name)


@pytest.fixture(scope="module")
def streets(running_cluster: NatsCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    asyncio.run(prepare(running_cluster))
    engines = {name: on_engine(running_cluster, name) for name in CENTRALS}
    settings = {name: PATIENT | engines.get(name, {}) for name in (*CENTRALS, *EDGES)}
    nodes = LocalCluster(tmp_path_factory.mktemp("town"), (*CENTRALS, *EDGES), settings=settings, admin=False)
    nodes.introduce()
    try:
        for name in nodes.names:
            nodes.start(name, wait=False)
        for name in nodes.names:
            nodes.started(name)
        yield nodes
    finally:
        nodes.end()


@pytest.fixture
async def town(streets: LocalCluster, running_cluster: NatsCluster) -> AsyncIterator[Town]:
    town = Town(streets, running_cluster)
    yield town
    await town.heal()


class Traffic:
    """A phone that asks a door; `failed` are the answers that it had to ask again for, `longest` how long that took."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.asked = 0
        self.failed: list[frames.Error] = []
        self.longest = 0.0

    async def __aenter__(self) -> Traffic:
        self.door = await self.town.client("edge-b", "door-1", ("door",))
        self.servant = Servant(self.door, "door")
        self.phone = await self.town.client("edge-a", "phone")
        await self.once()
        self.failed.clear()
        self.longest = 0.0
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.servant.stop()
        for client in (self.door, self.phone):
            await client.close()

    async def more(self, count: int) -> None:
        """Wait for so many further answers."""
        wanted = self.asked + count
        await until(lambda: self.asked >= wanted or self._task.done(), 60)
        assert not self._task.done(), self._task

    async def once(self) -> None:
        """Ask until there is an answer."""
        began = time.monotonic()
        while True:
            number = self.phone.request("door.open")
            answer = await self.phone.recv(30)
            while getattr(answer, "stream_id", 0) != number:
                answer = await self.phone.recv(30)
            if isinstance(answer, frames.Payload):
                break
            assert isinstance(answer, frames.Error), answer
            self.failed.append(answer)
            await asyncio.sleep(0.02)
        self.asked += 1
        self.longest = max(self.longest, time.monotonic() - began)

    async def _go_on(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(0.005)


async def parent_of(table: SharedTable, edge: str, *but: str) -> str:
    """Who has an edge, somebody else than those."""
    await until(lambda: (place := table.edge(edge)) is not None and place.node not in but, 60)
    place = table.edge(edge)
    assert place is not None
    return place.node


async def test_a_central_is_killed(town: Town) -> None:
    """Its edges are served by another parent, and what was not in flight succeeds when it is asked again."""
    async with town.table() as table, Traffic(town) as traffic:
        dies = await parent_of(table, "edge-b")
        town.nodes.kill(dies)
        await traffic.more(20)
        assert await parent_of(table, "edge-b", dies) != dies
        await traffic.more(20)
        # Nobody has processed it, or it was with the one that died.
        assert {error.code for error in traffic.failed} <= {ErrorCode.REJECTED, ErrorCode.CANCELED}


async def test_the_leader_of_the_engine_is_killed(town: Town) -> None:
    """No route is dropped and no request fails; what comes meanwhile is seen when there is a leader again."""
    async with town.table() as table, Traffic(town) as traffic:
        async with Administrator(town.nats) as administrator:
            leader = await administrator.leader()
        town.nats.kill(leader)
        await traffic.more(100)
        late = await town.client("edge-b", "late", kind="device")
        await until(lambda: table.device("late"), 60)
        assert traffic.failed == []
        await late.close()


async def test_of_two_nodes_with_one_name_the_older_ends(town: Town) -> None:
    """It says why, and ends with 3; its edges go on with others."""
    nodes = town.nodes
    async with Traffic(town) as traffic:
        older = nodes.processes["c3"]
        twin = LocalCluster(nodes.root / "twin", ("c3",), settings={"c3": on_engine(town.nats, "c3")}, admin=False)
        shutil.copytree(nodes.root / "c3", nodes.root / "twin" / "c3", ignore=shutil.ignore_patterns("*.lock", "run*"))
        try:
            twin.start("c3")
            assert await asyncio.to_thread(older.wait, 60) == FENCED
            assert "another process has the name 'c3'" in nodes.log("c3")
            assert twin.processes["c3"].poll() is None
            await traffic.more(20)
        finally:
            twin.end()


@pytest.mark.soak
def test_the_demonstration() -> None:
    """`make run-cluster`, as a test: it joins every node by its line, kills, and asks again."""
    program = Path(__file__).parents[2] / "tools" / "run-cluster"
    ended = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("edge-b opened the door for phone") == 4


@pytest.mark.soak
async def test_a_node_that_slept_ends_when_it_wakes(town: Town) -> None:
    """While it slept another process took its name."""
    nodes = town.nodes
    nodes.kill("c3", signal.SIGSTOP)
    twin = LocalCluster(nodes.root / "twin-2", ("c3",), settings={"c3": on_engine(town.nats, "c3")}, admin=False)
    shutil.copytree(nodes.root / "c3", nodes.root / "twin-2" / "c3", ignore=shutil.ignore_patterns("*.lock", "run*"))
    try:
        twin.start("c3")
        async with town.table() as table:
            await until(lambda: any(node.name == "c3" and node.alive for node in table.nodes()))
        nodes.kill("c3", signal.SIGCONT)
        assert await asyncio.to_thread(nodes.processes["c3"].wait, 60) == FENCED
    finally:
        twin.end()


@pytest.mark.soak
@pytest.mark.parametrize("whom", ["leader", "follower", "majority"])
@pytest.mark.parametrize("freeze", [False, True], ids=["killed", "frozen"])
async def test_servers_of_the_engine_are_away(town: Town, whom: str, freeze: bool) -> None:
    """For longer than a lease: no route is dropped, traffic is untouched."""
    async with town.table() as table, Traffic(town) as traffic:
        async with Administrator(town.nats) as administrator:
            leader = await administrator.leader()
        others = [name for name in town.nats.names if name != leader]
        victims = {"leader": [leader], "follower": others[:1], "majority": others}[whom]
        await until(lambda: table.device("service/door-1") is not None)
        (town.nats.freeze if freeze else town.nats.kill)(*victims)
        began = time.monotonic()
        while time.monotonic() - began < 30:
            await traffic.more(50)
            assert table.device("service/door-1") is not None
        town.nats.heal()
        await until(lambda: table.fresh, 90)
        await traffic.more(50)
        assert traffic.failed == []


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_a_central_that_is_gone_is_unused_at_once_and_forgotten_soon(town: Town, number: int) -> None:
    """Its edges are served at once, or after the silence; its own clients' routes are gone everywhere within 15 s."""
    async with town.table() as table, Traffic(town) as traffic:
        dies = await parent_of(table, "edge-b")
        lamp = await town.client(dies, "lamp-1", kind="device")
        await until(lambda: table.device("lamp-1"))
        # The first seconds after a start are an outage's end to the reader, and held for longer.
        await until(lambda: table.following.hold_until < time.monotonic(), 60)
        town.nodes.kill(dies, number)
        began = time.monotonic()
        await traffic.more(1)
        await until(lambda: table.device("lamp-1") is None, 60)
        gone = time.monotonic() - began
        print(f"{dies}: served again after {traffic.longest:.2f} s, forgotten after {gone:.1f} s")
        assert traffic.longest < 8
        assert gone < 20
        try:
            await lamp.close()
        except ConnectionEnded:
            pass


@pytest.mark.soak
async def test_servers_of_the_engine_lose_everything(town: Town) -> None:
    """The table is whole again without a hand but for the bucket itself, which only an administrator may make."""
    async with town.table() as table, Traffic(town) as traffic:
        town.nats.empty()
        await until(lambda: not table.fresh, 60)
        async with Administrator(town.nats) as administrator:
            await administrator.fresh_bucket()
        await until(lambda: table.fresh and table.device("service/door-1"), 90)
        await traffic.more(20)
        assert traffic.failed == []
    async with town.table() as anew:
        await until(lambda: anew.device("service/door-1"))


@pytest.mark.soak
async def test_a_central_of_several_processes(town: Town, tmp_path: Path) -> None:
    """Whichever of them took a client in, it is behind the one node that the table knows."""
    several = on_engine(town.nats, "c4") | {"GATEWAY__NODE__WORKERS": "3"}
    node = LocalCluster(tmp_path, ("c4",), settings={"c4": several}, admin=False)
    await asyncio.to_thread(node.introduce)
    reader = SharedTable(town.nats.store("käse.net"), TableOptions("käse.net"))
    await reader.start()
    clients: list[RawClient] = []
    try:
        await asyncio.to_thread(node.start, "c4")
        for number in range(12):
            client = await RawClient.connect_ws(node.ports["c4"][0])
            clients.append(client)
            client.setup(node.token("c4", f"bulb-{number}", "device"), (f"bulb-{number}.on", "bulb"))
            await client.ready()
        await until(lambda: all(reader.device(f"bulb-{number}") for number in range(12)))
        assert {reader.device(f"bulb-{number}").edge for number in range(12)} == {"c4"}  # type: ignore[union-attr]
        await until(lambda: [each.offer.count for each in reader.service("bulb")] == [8])
        for client in clients[:6]:
            await client.close()
        await until(lambda: not any(reader.device(f"bulb-{number}") for number in range(6)))
        assert all(reader.device(f"bulb-{number}") for number in range(6, 12))
    finally:
        for client in clients[6:]:
            await client.close()
        await reader.stop()
        node.end()
