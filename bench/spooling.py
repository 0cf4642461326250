"""Store and forward through a whole node: acknowledged in, delivered out, and what the node holds meanwhile.

    python -m bench.spooling [--seconds 5] [--backlog 200000]

Requesters ask with request/response for a service that is not there, and get receipts, each after a sync. Then the same
as fire-and-forget until the backlog is as asked for, and the service comes and takes all of it. The node is a process,
the load another one. Goals: 20,000 a second each way, and memory that does not grow with what waits.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.processes import Node, node
from gateway.control.runtime import Runtime
from gateway.load.run import Run, complete
from gateway.load.shape import Model, Shape
from gateway.policy.principal import Kind

DOCUMENT = (
    "kind: Spool\nname: bench\nmatch: [{service: bench, interaction: [fireAndForget, requestResponse]}]\n"
    "minFree: 0%\nmaxBytes: 1GiB\nkey: device\nqueueWhileOffline: {ttl: 1h, onlyIdempotent: false}\n"
)
PAYLOAD = 200
#: What else this machine does is no overload of the node.
SETTINGS = {"GATEWAY__ADMIN__REQUESTS_PER_SECOND": "0", "GATEWAY__LIMITS__LAG_SHED_MS": "60000"}


class Spool:
    """The spool of one node, as its admin API shows it."""

    def __init__(self, of: Node, http: httpx.AsyncClient) -> None:
        self.http = http
        self.node = of

    async def seen(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = (await self.http.get("/spools")).json()["data"]
        return rows[0] if rows else {"messages": 0, "appended": 0, "delivered": 0, "refused": {}, "lost": {}}

    async def apply(self, text: str) -> None:
        (await self.http.post("/documents:apply", json={"text": text})).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--backlog", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, node(Path(name) / "node", settings=SETTINGS) as started:
        complete(measure(started, options.seconds, options.backlog))


@asynccontextmanager
async def spool_of(at: Node) -> AsyncIterator[Spool]:
    """A node's spool for the service `bench`."""
    token = at.identity.mint("operator", Kind.ADMIN, (), ("*",), 3600, time.time(), audience="gateway-admin")
    while (runtime := Runtime.read(at.data)) is None:  # noqa: ASYNC110  (another process writes it)
        await asyncio.sleep(0.05)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"{runtime.admin}/api/v1", headers=headers, timeout=60) as http:
        spool = Spool(at, http)
        await spool.apply(DOCUMENT)
        yield spool


async def measure(at: Node, seconds: float, backlog: int) -> None:
    async with spool_of(at) as spool:
        await acknowledged(spool, Model.RESPONSE, seconds)
        (await spool.http.post("/spools:drop", json={"spool": "bench/bench"})).raise_for_status()
        report("memory that nine tenths of them added", await growth(spool, backlog) / 2**20, "MiB")
        await delivered(spool)


async def growth(spool: Spool, backlog: int) -> int:
    """Bytes of memory that a node has more when all of a backlog waits than when a tenth of it did."""
    await fill(spool, backlog // 10)
    before = spool.node.resident_bytes()
    await fill(spool, backlog)
    return spool.node.resident_bytes() - before


async def acknowledged(spool: Spool, model: Model, seconds: float) -> None:
    shape = Shape(model, requesters=100, in_flight=16, responders=0, payload=PAYLOAD, seconds=seconds)
    async with Run(spool.node.access, shape) as run:
        run.start()
        await asyncio.sleep(shape.warm_up)
        run.count()
        began = spool.node.cpu_seconds()
        await asyncio.sleep(seconds)
        run.stop()
        busy = (spool.node.cpu_seconds() - began) / seconds
        await run.drain()
    result = run.result()
    assert result.good, result
    report("acknowledged, 100 x 16 in flight", result.rate, "messages/s", "≥ 20,000")
    print(
        f"spooling       {result.latency}, the node took {busy:.0%} of a core, the load {result.load:.0%}", flush=True
    )


async def fill(spool: Spool, backlog: int) -> None:
    """Fire until so many wait, and no faster than the disk takes it."""
    shape = Shape(Model.FNF, requesters=4, responders=0, payload=PAYLOAD)
    async with Run(spool.node.access, shape) as run:
        while (waiting := (await spool.seen())["messages"]) < backlog:
            run.start()
            await asyncio.sleep(0.01)
            run.tally.running = False
            await asyncio.sleep(0.1)
    report("messages that wait", waiting, "")


async def delivered(spool: Spool) -> None:
    before = await spool.seen()
    shape = Shape(Model.RESPONSE, requesters=0, responders=4, payload=PAYLOAD)
    began, cpu = time.perf_counter(), spool.node.cpu_seconds()
    async with Run(spool.node.access, shape):
        while (now := await spool.seen())["messages"]:
            await asyncio.sleep(0.25)
            assert time.perf_counter() - began < 600, now
    took = time.perf_counter() - began
    assert set(now["lost"]) <= {"dropped"}, now
    report("delivered", before["messages"] / took, "messages/s", "≥ 20,000")
    busy = (spool.node.cpu_seconds() - cpu) / took
    print(f"spooling       sent again {now['sent_again']}; of a core the node {busy:.0%}", flush=True)
    report("of a processor, each", busy * took / before["messages"] * 1e6, "µs")
    report("resident after", spool.node.resident_bytes() / 2**20, "MiB")


def report(measure: str, value: float, unit: str, goal: str = "") -> None:
    print(f"spooling       {measure:<50} {value:>12,.2f} {unit}{f'  (goal {goal})' if goal else ''}", flush=True)


if __name__ == "__main__":
    main()
