"""One central's table in a process of its own, to be killed, frozen and doubled.

    python -m tests.federation.central OPTIONS-AS-JSON

Prints `ready`, then a line whenever the table is fresh or stale. Ends with 3 when it is fenced.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from gateway.federation.nats import NatsOptions, NatsStore
from gateway.federation.table import Claim, Offer, SharedTable, TableOptions
from tests.federation.nats_cluster import BUCKET, NatsCluster

FENCED = 3


class CentralProcess:
    """A central with one edge and its devices."""

    def __init__(self, cluster: NatsCluster, node: str, edge: str, devices: Sequence[str]) -> None:
        options = {
            "servers": cluster.urls,
            "node": node,
            "seed": str(cluster.seeds[node]),
            "edge": edge,
            "devices": devices,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.federation.central", json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> CentralProcess:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    async def ended(self) -> tuple[int, str]:
        """Its exit code, and what it has said last."""
        _, said = await asyncio.to_thread(self.process.communicate)
        return self.process.returncode, said


async def run(servers: list[str], node: str, seed: str, edge: str, devices: list[str]) -> int:
    store = NatsStore(NatsOptions(servers, node, BUCKET, Path(seed)))
    fenced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    table = SharedTable(store, TableOptions(node, f"tls://{node}:7879"), on_fenced=fenced.set_result)
    await table.start()
    await table.attach(edge)
    table.replace(edge, [Claim(device, 1, ("lights",)) for device in devices], {"lights": Offer(len(devices))})
    while table.status().dirty:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    text = await fenced
    await table.stop()
    print(text, file=sys.stderr)
    return FENCED


if __name__ == "__main__":
    sys.exit(asyncio.run(run(**json.loads(sys.argv[1]))))
