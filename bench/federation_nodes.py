"""What a cluster of real nodes takes to see a change, and to go on without a central: each node a process.

Three nats-servers, three centrals, two edges with different parents. One client at each edge, in this process: one that
comes and goes, and one that asks for it every 2 ms, so that a figure holds everything from the handshake to the answer.
Run by `bench/federation.py --only cluster`; everything shares this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from bench.local_cluster import LocalCluster, on_engine
from bench.local_nats import BUCKET, LocalNats
from gateway.client import Gateway, Service
from gateway.errors import FederationError, GatewayError
from gateway.federation.nats import NatsClient, NatsOptions
from gateway.federation.nats.bucket import make

CENTRALS, EDGES = ("central-1", "central-2", "central-3"), ("edge-a", "edge-b")
ROUNDS, KILLS = 60, 5
POLL_S = 0.002

Report = Callable[..., None]


def measure(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-nodes-") as directory:
        root = Path(directory)
        (root / "nats").mkdir()
        nats = LocalNats(root / "nats", CENTRALS)
        settings = {name: on_engine(nats, name) for name in CENTRALS}
        nodes = LocalCluster(root, (*CENTRALS, *EDGES), settings=settings, admin=False)
        settings["edge-a"] = {"GATEWAY__LINKS__PARENTS": nodes.url("central-1")}
        settings["edge-b"] = {"GATEWAY__LINKS__PARENTS": ",".join(map(nodes.url, CENTRALS[1:]))}
        nodes.settings.update(settings)
        try:
            asyncio.run(_make_bucket(nats))
            nodes.introduce()
            for name in nodes.names:
                nodes.start(name, wait=False)
            for name in nodes.names:
                nodes.started(name)
            asyncio.run(_measured(nodes, report))
        finally:
            nodes.end()
            nats.close()


async def _make_bucket(nats: LocalNats) -> None:
    administrator = NatsClient(NatsOptions(nats.urls, "admin", BUCKET, nats.seeds["admin"]))
    await administrator.start()
    await administrator.ready.wait()
    deadline = time.monotonic() + 60
    while True:
        try:
            await make(administrator, BUCKET, 3)
            break
        except FederationError:
            # The servers have to find each other first.
            if time.monotonic() > deadline:
                raise
    await administrator.stop()


async def _measured(nodes: LocalCluster, report: Report) -> None:
    phone = Gateway(nodes.url("edge-a"), lambda: nodes.token("edge-a", "phone"))
    async with phone:
        door = _service(nodes, "door")
        async with door:
            await _until(phone, "door.open", there=True)
        await _until(phone, "door.open", there=False)
        await _joins_and_leaves(nodes, phone, report)
        async with _service(nodes, "door"):
            await _until(phone, "door.open", there=True)
            await _failovers(nodes, phone, report)


def _service(nodes: LocalCluster, name: str) -> Service:
    token = nodes.token("edge-b", f"svc-{name}")
    service = Service(nodes.url("edge-b"), lambda: token, name=name)

    @service.request_response("open")
    async def opened(data: bytes) -> bytes:
        return data

    return service


async def _joins_and_leaves(nodes: LocalCluster, phone: Gateway, report: Report) -> None:
    """Each a name of its own that nobody has heard of, looked for before it is there."""
    random = Random(1)
    joins, leaves = [], []
    for number in range(ROUNDS):
        name = f"door-{number}"
        await _until(phone, f"{name}.open", there=False)
        # At any point of whatever goes round every so often.
        await asyncio.sleep(random.uniform(0.1, 0.9))
        service = _service(nodes, name)
        began = time.perf_counter()
        await service.start()
        joins.append(await _until(phone, f"{name}.open", there=True) - began)
        await asyncio.sleep(random.uniform(0.1, 0.9))
        began = time.perf_counter()
        await service.close()
        leaves.append(await _until(phone, f"{name}.open", there=False) - began)
    for what, times in (("join", joins), ("leave", leaves)):
        title = f"three centrals, a {what} answered at another central's edge"
        report(f"{title}: p50", statistics.median(times) * 1e3, "ms")
        report(f"{title}: p99", statistics.quantiles(times, n=100)[98] * 1e3, "ms", "≤ 1,000")


async def _failovers(nodes: LocalCluster, phone: Gateway, report: Report) -> None:
    """The longest time without an answer after the parent of the edge that serves is killed."""
    gaps = []
    for _ in range(KILLS):
        parent = await _parent(nodes)
        lives = _lives(nodes, parent)
        os.kill(nodes.processes[parent].pid, signal.SIGKILL)
        gaps.append(await _longest_gap(phone, 3.0))
        await asyncio.to_thread(nodes.processes[parent].wait)
        await asyncio.to_thread(nodes.start, parent)
        # Until the edge has it as its second parent again.
        await _linked(nodes, parent, lives + 1)
    report("three centrals, one is killed: longest time without an answer", max(gaps), "s", "≤ 2")
    report("  median", statistics.median(gaps), "s")


async def _parent(nodes: LocalCluster) -> str:
    """The one that edge-b has said last that it uses."""
    used = [line for line in nodes.log("edge-b").splitlines() if "uplink in use" in line]
    return str(json.loads(used[-1])["node"])


def _lives(nodes: LocalCluster, central: str) -> int:
    return nodes.log(central).count('"event": "ready"')


async def _linked(nodes: LocalCluster, central: str, life: int) -> None:
    """Wait until a central that has just started, as often as this, has edge-b for a child."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = nodes.log(central).splitlines()
        began = max(number for number, line in enumerate(lines) if '"event": "ready"' in line)
        ready = _lives(nodes, central) >= life
        if ready and any("edge-b" in line and "link up" in line for line in lines[began:]):
            await asyncio.sleep(1.0)
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"edge-b does not link to {central}")


async def _longest_gap(phone: Gateway, seconds: float) -> float:
    ends = time.perf_counter() + seconds
    longest, last = 0.0, time.perf_counter()
    while time.perf_counter() < ends:
        last_asked = await _until(phone, "door.open", there=True)
        longest, last = max(longest, last_asked - last), last_asked
        await asyncio.sleep(POLL_S)
    return longest


async def _until(phone: Gateway, route: str, *, there: bool) -> float:
    """Ask until there is an answer, or none; returns when that was."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            await phone.request(route, b"?", timeout=2)
            answered = True
        except (GatewayError, TimeoutError):
            answered = False
        if answered == there:
            return time.perf_counter()
        await asyncio.sleep(POLL_S)
    raise SystemExit(f"{route} is {'not ' if there else ''}there after a minute")
