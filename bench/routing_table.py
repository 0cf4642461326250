"""What the routing table costs at its design load: one line a measure.

    python -m bench.routing_table [--routes 1000000] [--sample 20000]

Every device registers a service name of its own and is reachable as its subject. Goals: 400 B a route beyond the
route's own strings, a join or a leave within 20 µs, a lookup within 5 µs, whatever the size.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TypeVar

from gateway.routing.address import Address, address_from
from gateway.routing.balancer import Method, fan_out, pick, shard
from gateway.routing.group import Group
from gateway.routing.locator import locate
from gateway.routing.route import Route
from gateway.routing.table import RoutingTable
from gateway.wire import brokering
from gateway.wire.brokering import Cast
from gateway.wire.sink import FrameSink

Item = TypeVar("Item")

SAMPLE = 20_000


class Connection(FrameSink):
    """As much of a connection as a balancer looks at."""

    __slots__ = ()

    def __init__(self) -> None:
        self.pending = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=SAMPLE)
    arguments = parser.parse_args()
    routes, sample = arguments.routes, arguments.sample
    size_of_lone_routes(routes)
    table = filled(routes)
    times_of_lone_routes(table, routes, sample)
    del table
    gc.collect()
    times_of_one_service(routes, sample)
    times_of_picks(sample)


# What a device brings along is made first, so that it is not counted: its strings, its id, its connection.


def identities(routes: int) -> list[tuple[bytes, str, str, Connection]]:
    random = Random(7)
    return [
        (random.randbytes(16), f"plant/{number % 100}/device-{number}", f"device-{number}", Connection())
        for number in range(routes)
    ]


def fill(table: RoutingTable, devices: Iterable[tuple[bytes, str, str, Connection]]) -> None:
    for route_id, service, subject, owner in devices:
        table.add(Route(route_id, service, owner, subject=subject))


def filled(routes: int) -> RoutingTable:
    table = RoutingTable()
    fill(table, identities(routes))
    return table


def size_of_lone_routes(routes: int) -> None:
    devices = identities(routes)
    gc.collect()
    table = RoutingTable()
    before = resident_bytes()
    fill(table, devices)
    report("size, resident", (resident_bytes() - before) / routes, "B/route", "400")
    for _, service, _, _ in devices:
        table.service(service)
    report("size, resident, every service looked up once", (resident_bytes() - before) / routes, "B/route")
    del table
    gc.collect()
    tracemalloc.start()
    table = RoutingTable()
    fill(table, devices)
    report("size, traced", tracemalloc.get_traced_memory()[0] / routes, "B/route", "400")
    report("size, traced, peak while it grew", tracemalloc.get_traced_memory()[1] / routes, "B/route")
    tracemalloc.stop()
    del table
    gc.collect()
    tracemalloc.start()
    table = RoutingTable()
    tags = [("zone", "eu"), ("io.rsocket.broker.InstanceName", "p1")]
    for route_id, service, subject, owner in devices:
        table.add(Route(route_id, service, owner, subject=subject, tags=tags))
    report("size, traced, two common tags of its own", tracemalloc.get_traced_memory()[0] / routes, "B/route")
    tracemalloc.stop()


def times_of_lone_routes(table: RoutingTable, routes: int, sample: int) -> None:
    random = Random(11)
    present = [random.randrange(routes) for _ in range(sample)]
    names = [f"plant/{number % 100}/device-{number}" for number in present]
    held = list(table)

    joining = [
        Route(random.randbytes(16), f"late/{number}", Connection(), subject=f"late-{number}")
        for number in range(sample)
    ]
    report("join", microseconds(table.add, joining, rounds=1), "µs", "20")
    report("leave", microseconds(table.remove, joining, rounds=1), "µs", "20")

    def look(address: Address) -> Group:
        return locate(table, address)

    cases = {
        "route that is the name": [address_from([name], None) for name in names],
        "route of one more part": [address_from([f"{name}.read"], None) for name in names],
        "route of four more parts": [address_from([f"{name}/a/b/c.read"], None) for name in names],
        "route and sub, no such service": [address_from(["x.y", f"sub=device-{number}"], None) for number in present],
        "route narrowed by sub, all different": [
            address_from([f"{name}.read", f"sub=device-{number}"], None)
            for name, number in zip(names, present, strict=True)
        ],
        "route narrowed by sub, 500 in turn": [
            address_from([f"{name}.read", f"sub=device-{number}"], None)
            for name, number in zip(names[:500], present[:500], strict=True)
        ]
        * 40,
        "ADDRESS ServiceName": [addressed(("ServiceName", name)) for name in names],
        "ADDRESS RouteId, all different": [addressed(("RouteId", held[number].route_id.hex())) for number in present],
        "ADDRESS RouteId, 500 in turn": [
            addressed(("RouteId", held[number].route_id.hex())) for number in present[:500]
        ]
        * 40,
    }
    for case, addresses in cases.items():
        report(f"lookup, {case}", microseconds(look, addresses), "µs", "5")

    def parse(name: str) -> Address:
        return address_from([name], None)

    report("address of a plain route", microseconds(parse, names), "µs")


def times_of_one_service(routes: int, sample: int) -> None:
    """The other extreme: every route under one service, one zone, half of them in one of two racks."""
    table = RoutingTable()
    random = Random(7)
    joining = [
        Route(random.randbytes(16), "thermo", Connection(), tags=[("zone", "eu"), ("rack", str(number % 2))])
        for number in range(routes + sample)
    ]
    for route in joining[sample:]:
        table.add(route)
    narrowed = address_from(["thermo.read", "zone=eu", "rack=1"], None)
    with timed("first narrowed lookup, all routes match one tag", "ms", 1e3):
        locate(table, narrowed)
    report(
        "join, all in one service, narrowing cached", microseconds(table.add, joining[:sample], rounds=1), "µs", "20"
    )
    report("leave, all in one service", microseconds(table.remove, joining[:sample], rounds=1), "µs", "20")

    def look(address: Address) -> Group:
        return locate(table, address)

    report("lookup, narrowed, all in one service", microseconds(look, [narrowed] * sample), "µs", "5")
    with timed("fan-out to every connection", "ms", 1e3):
        fan_out(locate(table, address_from(["thermo"], None)))


def times_of_picks(sample: int) -> None:
    random = Random(7)
    draws = [random] * sample
    for size in (1, 2, 8, 9, 1000):
        group = Group(Route(random.randbytes(16), "pong", Connection()) for _ in range(size))
        for method in Method:
            report(f"pick, {method.value} of {size}, idle", microseconds(partial(pick, group, method), draws), "µs")
        for route in group.routes:
            route.owner.pending = 5
        busy = microseconds(partial(pick, group, Method.LEAST_PENDING), draws)
        report(f"pick, least-pending of {size}, all busy", busy, "µs")
        keys = [f"device-{number}".encode() for number in range(max(20, sample // size))]
        report(f"shard of {size}", microseconds(partial(shard, group), keys), "µs")


def addressed(*tags: tuple[str, str]) -> Address:
    return address_from([], brokering.Address(bytes(16), tags, Cast.UNICAST))


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def report(measure: str, value: float, unit: str, goal: str = "") -> None:
    print(f"routing_table  {measure:<50} {value:>9.2f} {unit}{f'  (goal {goal})' if goal else ''}", flush=True)


@contextmanager
def timed(measure: str, unit: str, scale: float) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    report(measure, (time.perf_counter() - begin) * scale, unit)


def microseconds(work: Callable[[Item], object], items: Iterable[Item], rounds: int = 3) -> float:
    """Mean time of one call, the best of some rounds, with the collector as a node runs it."""
    items = list(items)
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        for item in items:
            work(item)
        best = min(best, time.perf_counter() - begin)
    return best / len(items) * 1e6


if __name__ == "__main__":
    main()
