"""What a hop costs: request/response edge → central → edge against the same through one node, in one sitting.

`python -m bench.hop [SECONDS]`: a line a shape, in pairs that take turns, so that what else the machine does falls on
both. Nodes, load and responders share this machine's cores: the longer way has three nodes to feed with the same.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.local_cluster import LocalCluster
from gateway.load.opening import Address
from gateway.load.run import Run
from gateway.load.shape import Access, Model, Result, Shape

SHAPES = ((1, 64), (20, 16), (100, 1), (1, 1))
ROUNDS = 3


async def measured(ask: Access, serve: Access, shape: Shape) -> Result:
    """Requests at one node, responders at another one."""
    asking = Run(ask, replace(shape, responders=0))
    serving = Run(serve, replace(shape, requesters=0))
    async with serving:
        serving.tally.running = True
        await asyncio.sleep(1.0)
        async with asking:
            asking.start()
            await asyncio.sleep(shape.warm_up)
            asking.count()
            await asyncio.sleep(shape.seconds)
            asking.stop()
            await asking.drain()
            return asking.result()


async def main(seconds: float) -> None:
    root = Path(tempfile.mkdtemp(prefix="gateway-hop-"))
    cluster = LocalCluster(root)
    try:
        cluster.bring_up("edge-a", "edge-b")
        near, far = (
            Access(Address.of(cluster.url(name), None), cluster.token(name, "bench")) for name in ("edge-b", "edge-a")
        )
        for requesters, in_flight in SHAPES:
            shape = Shape(Model.RESPONSE, requesters, in_flight, min(requesters, 10), seconds=seconds)
            pairs = [(await measured(near, near, shape), await measured(far, near, shape)) for _ in range(ROUNDS)]
            ratios = [there.operations / here.operations for here, there in pairs]
            here, there = pairs[ratios.index(max(ratios))]
            added = (there.latency.p50 - here.latency.p50) * 1e6
            print(
                f"hop {requesters} x {in_flight:<4} one node {here.operations / here.seconds:>9,.0f}/s   "
                f"edge-edge {there.operations / there.seconds:>9,.0f}/s   ratio {max(ratios):.2f} (of {ROUNDS}: "
                f"{', '.join(f'{ratio:.2f}' for ratio in ratios)})   p50 +{added:.0f} us",
                flush=True,
            )
    finally:
        cluster.end()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
