"""The table on real nats-servers, which are killed, frozen, split and emptied. Nodes have the least permissions."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from gateway.errors import FederationError
from gateway.federation.nats import NatsClient, NatsOptions, NatsStore, credentials
from gateway.federation.nats.bucket import configuration, unfit
from gateway.federation.nats.client import Denied, OnMessage, require
from gateway.federation.table import Claim, Offer, SharedTable, TableOptions, shared
from gateway.federation.table.records import LEASE_S, RECORD_S
from gateway.federation.table.store import Put
from tests.federation.central import FENCED, CentralProcess
from tests.federation.nats_cluster import BUCKET, Administrator, NatsCluster
from tests.federation.test_store import PREFIXES, Recorder
from tests.federation.waiting import until

pytestmark = [pytest.mark.xdist_group("nats"), pytest.mark.timeout(300)]

DEVICES = 100


class Central:
    """A table on NATS with one edge of a hundred devices, and a record of whatever was not found."""

    def __init__(self, cluster: NatsCluster, node: str, *servers: str) -> None:
        self.node = node
        self.edge = f"edge-of-{node}"
        self.devices = [f"{node}-device-{number}" for number in range(DEVICES)]
        self.store = cluster.store(node, *servers)
        self.alarms: list[str] = []
        self.fenced: list[str] = []
        self.table = SharedTable(
            self.store,
            TableOptions(node, f"tls://{node}:7879"),
            on_fenced=self.fenced.append,
            alarm=lambda slug, text: self.alarms.append(slug),
        )

    async def start(self) -> None:
        await self.table.start()
        await self.table.attach(self.edge)
        self.table.replace(
            self.edge, [Claim(device, 1, ("lights",)) for device in self.devices], {"lights": Offer(DEVICES)}
        )

    def knows(self, other: Central, *, url: str | None = None) -> bool:
        places = [self.table.device(device) for device in other.devices]
        return all(place is not None and place.node == other.node for place in places)


Start = Callable[..., Awaitable[list[Central]]]


@pytest.fixture
async def start(cluster: NatsCluster) -> AsyncIterator[Start]:
    """Centrals that know each other's devices."""
    started: list[Central] = []

    async def start(*nodes: str, servers: tuple[str, ...] = ()) -> list[Central]:
        for node in nodes:
            started.append(Central(cluster, node, *servers))
            await started[-1].start()
        await until(lambda: all(one.knows(other) for one in started for other in started))
        return started

    yield start
    for central in started:
        await central.table.stop()


class Watcher:
    """Looks at every route all the time, and counts what was not there."""

    def __init__(self, centrals: list[Central]) -> None:
        self.missed = 0
        self.looks = 0
        self.was_stale: set[str] = set()
        self._centrals = centrals
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watcher:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            for one in self._centrals:
                if not one.table.fresh:
                    self.was_stale.add(one.node)
                for other in self._centrals:
                    self.looks += 1
                    self.missed += not one.knows(other)
            await asyncio.sleep(0.05)


async def follows(centrals: list[Central]) -> None:
    """Everybody follows the engine again, what is written arrives, and nothing is held against anybody."""
    await until(lambda: all(central.table.fresh for central in centrals), 60)
    for one in centrals:
        one.table.join(one.edge, Claim(f"new-at-{one.node}", 1))
    await until(
        lambda: all(
            (place := other.table.device(f"new-at-{one.node}")) is not None and place.node == one.node
            for one in centrals
            for other in centrals
        ),
        60,
    )
    await until(lambda: not any(node.suspect for each in centrals for node in each.table.nodes()), 60)


# What a node may


async def test_a_node_needs_no_more_than_it_is_allowed(start: Start, cluster: NatsCluster) -> None:
    before = len(cluster.violations())
    centrals = await start("c1", "käse.net")
    await follows(centrals)
    centrals[0].table.detach(centrals[0].edge)
    await until(lambda: centrals[1].table.device("c1-device-1") is None)
    for central in centrals:
        await central.table.stop()
    assert cluster.violations()[before:] == []
    assert not any("engine_denied" in central.alarms for central in centrals)


DENIED = [
    ("$KV.rt.n.c2", b"another node's lease"),
    ("$KV.rt.x.c1", b"another kind of key"),
    ("$JS.API.STREAM.CREATE.KV_other", b"{}"),
    ("$JS.API.STREAM.UPDATE.KV_rt", b"{}"),
    ("$JS.API.STREAM.PURGE.KV_rt", b""),
    ("$JS.API.STREAM.DELETE.KV_rt", b""),
    ("$JS.API.STREAM.MSG.DELETE.KV_rt", b'{"seq":1}'),
    ("$JS.API.CONSUMER.CREATE.KV_other.a", b"{}"),
    ("$JS.API.INFO", b""),
]


async def test_a_node_may_do_nothing_else(cluster: NatsCluster, administrator: Administrator) -> None:
    heard: list[str] = []
    client = NatsClient(cluster.options("c1"), alarm=lambda slug, text: heard.append(text))
    await client.start()
    before = len(cluster.violations())
    answers = await client.call_all([(subject, payload, None) for subject, payload in DENIED], seconds=1.0)
    assert all(isinstance(answer, Denied) for answer in answers)

    async def ignore(message: object) -> None:
        pytest.fail("heard what is not for it")

    for subject in (">", "$KV.rt.>", "_INBOX_c2.>"):
        await client.subscribe(subject, ignore)
    await until(lambda: len(heard) >= len(DENIED) + 3)
    assert len(cluster.violations()) - before >= len(DENIED) + 3
    await client.stop()
    assert (await administrator.info())["state"]["messages"] == 0


async def test_a_strangers_credential_is_refused_with_a_clear_message(cluster: NatsCluster, tmp_path: Path) -> None:
    credentials.make(tmp_path / "stranger")
    store = NatsStore(NatsOptions(cluster.urls, "c1", BUCKET, tmp_path / "stranger"))
    with pytest.raises(FederationError, match=r"federation\.nats_nkey_file") as refused:
        await store.start()
    assert refused.value.reason == "engine_denied"
    with pytest.raises(FederationError) as refused:
        await NatsStore(NatsOptions(cluster.urls, "c1", BUCKET, tmp_path / "nothing-there")).start()
    assert refused.value.reason == "engine_denied"


async def test_a_missing_bucket_is_named(cluster: NatsCluster, administrator: Administrator) -> None:
    await administrator.client.call(f"$JS.API.STREAM.DELETE.KV_{BUCKET}", seconds=10)
    store = cluster.store("c1")
    with pytest.raises(FederationError, match="gateway engine init") as refused:
        await store.start()
    assert refused.value.reason == "engine_no_bucket"


def test_an_older_server_is_refused() -> None:
    require("nats://here", (2, 12), "2.12.0")
    with pytest.raises(FederationError, match=r"2\.9\.10.*2\.12 or newer.*upgrade") as refused:
        require("nats://here", (2, 9), "2.9.10")
    assert refused.value.reason == "engine_too_old"


def test_a_bucket_that_cannot_hold_the_table_is_said_to_be() -> None:
    assert unfit(configuration("rt", 3)) == []
    assert len(unfit({"max_msgs_per_subject": 5, "max_age": 1})) == 4


# The watch


async def complete_snapshots(cluster: NatsCluster, administrator: Administrator, starts: int) -> None:
    """Every watch that is started while keys change has every key when it says so."""
    store = cluster.store("c1")
    await store.start()
    keys = [f"d.e{edge}.{shard}" for edge in range(20) for shard in range(25)]
    await store.put_all([Put(key, b"0", RECORD_S) for key in keys])
    writing, turn = True, 0

    async def churn() -> None:
        nonlocal turn
        while writing:
            turn += 1
            await store.put_all([Put(key, b"%d" % turn, RECORD_S) for key in keys[turn % 7 :: 7]])

    churning = asyncio.create_task(churn())
    incomplete = 0
    for _ in range(starts):
        recorder = Recorder()
        watch = store.watch(PREFIXES, recorder)
        await until(lambda recorder=recorder: recorder.snapshots)
        incomplete += recorder.found.keys() != set(keys)
        await watch.stop()
    writing = False
    await churning
    assert incomplete == 0
    # None of them has left a consumer behind.
    await store.stop()
    assert await administrator.consumers() == 0


async def test_a_snapshot_is_complete_while_keys_change(cluster: NatsCluster, administrator: Administrator) -> None:
    await complete_snapshots(cluster, administrator, 15)


@pytest.mark.soak
async def test_150_snapshots_are_complete(cluster: NatsCluster, administrator: Administrator) -> None:
    await complete_snapshots(cluster, administrator, 150)


async def test_a_watch_that_missed_a_message_begins_anew(cluster: NatsCluster) -> None:
    store = cluster.store("c1")
    await store.start()
    recorder = Recorder()
    watch = store.watch(PREFIXES, recorder)
    await store.put(Put("e.e1", b"1", RECORD_S))
    await until(lambda: recorder.snapshots == 1)
    # A consumer deleted under it says nothing more: the heartbeats stop.
    async with Administrator(cluster) as administrator:
        listed = await administrator.client.call(f"$JS.API.CONSUMER.NAMES.KV_{BUCKET}")
        for name in listed["consumers"]:
            await administrator.client.call(f"$JS.API.CONSUMER.DELETE.KV_{BUCKET}.{name}")
    await store.put(Put("e.e1", b"2", RECORD_S))
    await until(lambda: recorder.snapshots == 2 and recorder.held == {"e.e1": b"2"})
    assert recorder.interruptions
    assert recorder.resets == 0
    await watch.stop()
    await store.stop()


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
async def test_a_message_that_is_lost_on_the_way_is_noticed(cluster: NatsCluster, last: bool) -> None:
    """A number that is missing says so at once; where nothing follows, the heartbeat's count does."""
    store = cluster.store("c1")
    await store.start()
    subscribe, lose = store.client.subscribe, [3]

    async def lossy(subject: str, on_message: OnMessage) -> object:
        async def pass_on(message: Msg) -> None:
            if message.data and lose and lose[0] == int(message.data):
                lose.clear()
            else:
                await on_message(message)

        return await subscribe(subject, pass_on)

    store.client.subscribe = lossy  # type: ignore[method-assign, assignment]
    recorder = Recorder()
    watch = store.watch(PREFIXES, recorder)
    await until(lambda: recorder.snapshots == 1)
    for number in range(1, 4 if last else 6):
        await store.put(Put(f"e.e{number}", b"%d" % number, RECORD_S))
    await until(lambda: recorder.snapshots == 2)
    assert watch.gaps == 1
    assert len(recorder.held) == (3 if last else 5)
    assert ("heartbeat" if last else "came after") in recorder.interruptions[0]
    await store.stop()


# Servers that fail


async def servers_fail(
    start: Start, cluster: NatsCluster, administrator: Administrator, whom: str, freeze: bool, seconds: float
) -> None:
    """No route is dropped, and everything follows again."""
    centrals = await start("c1", "c2", "c3")
    leader = await administrator.leader()
    others = [name for name in cluster.names if name != leader]
    victims = {"leader": [leader], "follower": others[:1], "majority": others}[whom]
    tries = sum(central.store.client.attempts for central in centrals)
    async with Watcher(centrals) as watcher:
        if freeze:
            cluster.freeze(*victims)
        else:
            cluster.kill(*victims)
        if whom == "majority":
            await until(lambda: not any(central.table.fresh for central in centrals), 60)
            # What changes meanwhile counts at home, and is written later.
            for central in centrals:
                central.table.join(central.edge, Claim(f"meanwhile-at-{central.node}", 1))
                assert central.table.device(f"meanwhile-at-{central.node}")
        await asyncio.sleep(seconds)
        cluster.heal()
        await follows(centrals)
    assert watcher.looks > 0
    assert watcher.missed == 0
    assert sum(central.store.client.attempts for central in centrals) - tries < 40 * (seconds + 20)


async def test_the_leader_is_killed(start: Start, cluster: NatsCluster, administrator: Administrator) -> None:
    await servers_fail(start, cluster, administrator, "leader", freeze=False, seconds=0)


@pytest.mark.soak
@pytest.mark.parametrize("whom", ["leader", "follower", "majority"])
@pytest.mark.parametrize("freeze", [False, True], ids=["killed", "frozen"])
async def test_servers_are_away_for_longer_than_a_lease(
    start: Start, cluster: NatsCluster, administrator: Administrator, whom: str, freeze: bool
) -> None:
    await servers_fail(start, cluster, administrator, whom, freeze, seconds=LEASE_S * 2)


async def owner_dies_meanwhile(start: Start, cluster: NatsCluster, seconds: float) -> None:
    """Who lives keeps its routes; who died while the engine was away goes one lease after it is back."""
    centrals = await start("c1", "c2")
    with CentralProcess(cluster, "c3", "edge-of-c3", ["lamp"]) as other:
        await until(lambda: all(central.table.device("lamp") for central in centrals))
        cluster.kill("n1", "n2")
        await until(lambda: not any(central.table.fresh for central in centrals), 60)
        other.process.kill()
        other.process.wait()
        await asyncio.sleep(seconds)
        assert all(central.table.device("lamp") for central in centrals)
        async with Watcher(centrals) as watcher:
            cluster.heal()
            await until(lambda: not any(central.table.device("lamp") for central in centrals), 90)
            await follows(centrals)
        assert watcher.missed == 0


@pytest.mark.soak
async def test_an_owner_dies_while_the_engine_is_away(start: Start, cluster: NatsCluster) -> None:
    await owner_dies_meanwhile(start, cluster, LEASE_S * 2)


async def test_the_table_comes_back_from_an_emptied_bucket(
    start: Start, cluster: NatsCluster, administrator: Administrator
) -> None:
    centrals = await start("c1", "c2")
    async with Watcher(centrals) as watcher:
        await administrator.fresh_bucket()
        await until(lambda: all(central.store.watches[0].sessions > 1 for central in centrals))
        await follows(centrals)
    assert watcher.missed == 0
    # Whole in the engine too: a central that comes now finds everything.
    await start("c3")


@pytest.mark.soak
async def test_the_table_comes_back_from_servers_that_lost_everything(start: Start, cluster: NatsCluster) -> None:
    centrals = await start("c1", "c2")
    async with Watcher(centrals) as watcher:
        cluster.empty()
        await until(lambda: not any(central.table.fresh for central in centrals), 60)
        async with Administrator(cluster) as administrator:
            await administrator.fresh_bucket()
        await follows(centrals)
    assert watcher.missed == 0
    await start("c3")


# Nodes that are not what they seem


async def test_a_frozen_node_whose_name_was_taken_ends_when_it_wakes(start: Start, cluster: NatsCluster) -> None:
    with CentralProcess(cluster, "c3", "edge-of-c3", ["lamp"]) as zombie:
        zombie.process.send_signal(signal.SIGSTOP)
        centrals = await start("c1", "c3")
        zombie.process.send_signal(signal.SIGCONT)
        code, said = await zombie.ended()
        assert code == FENCED
        assert "another process has the name 'c3'" in said
        assert "node.name" in said
        await follows(centrals)
        assert not centrals[1].fenced


async def test_the_older_of_two_nodes_of_one_name_ends(cluster: NatsCluster) -> None:
    with (
        CentralProcess(cluster, "c3", "edge-of-c3", ["lamp"]) as older,
        CentralProcess(cluster, "c3", "edge-of-c3", ["lamp"]) as newer,
    ):
        code, said = await older.ended()
        assert code == FENCED
        assert "it takes over, this one ends" in said
        assert newer.process.poll() is None


@pytest.mark.soak
async def test_a_killed_nodes_routes_go_with_its_lease(start: Start, cluster: NatsCluster) -> None:
    (central,) = await start("c1")
    with CentralProcess(cluster, "c3", "edge-of-c3", ["lamp"]) as other:
        await until(lambda: central.table.device("lamp"))
        # The first seconds after a start are an outage's end to the reader, and held for longer.
        await until(lambda: central.table.following.hold_until < central.table._clock(), 60)
        central.table.link_up("c3")
        other.process.kill()
        other.process.wait()
        central.table.link_down("c3")
        place = central.table.device("lamp")
        assert place is not None
        assert place.suspect
        await until(lambda: central.table.device("lamp") is None, 60)


async def test_the_majority_is_killed(start: Start, cluster: NatsCluster, administrator: Administrator) -> None:
    await servers_fail(start, cluster, administrator, "majority", freeze=False, seconds=1)


async def test_an_engine_that_is_away_at_the_start_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "START_S", 0.1)
    cluster = NatsCluster(tmp_path, size=1)
    try:
        async with Administrator(cluster) as administrator:
            await administrator.fresh_bucket(replicas=1)
        cluster.kill("n1")
        central = Central(cluster, "c1")
        await central.start()
        assert central.knows(central)
        assert not central.table.fresh
        cluster.heal()
        await until(lambda: central.table.fresh and not central.table.status().dirty, 60)
        await central.table.stop()
    finally:
        cluster.close()


def test_without_the_client_library_the_message_says_what_to_install() -> None:
    program = "import sys; sys.modules['nats'] = None; import gateway.federation.nats"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'rsocket-edge-gateway[nats]'" in ended.stderr
