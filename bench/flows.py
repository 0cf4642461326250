"""What the flow log costs: requests on one node without it, with what a document usually keeps, and with all of it.

`python -m bench.flows [SECONDS]`: a line a shape, in rounds that take turns, so that what else the machine does falls
on all. `kept`: what failed or took over half a second; `all`: every record is written; `file`: and kept on disk, too.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.processes import Node, node
from gateway.load.run import measure
from gateway.load.shape import Model, Shape

SHAPES = ((Model.RESPONSE, 1, 64), (Model.RESPONSE, 100, 16), (Model.FNF, 1, 64))
ROUNDS = 3
USUAL = 'verdict != "FORWARDED" || latency_ms > 500'
WAYS = {
    "kept": f"flowLog: {{filter: '{USUAL}'}}",
    "all": "flowLog: {}",
    "file": "flowLog: {file: {}}",
}


def govern(running: Node, said: str) -> None:
    """Have it go by such a document; by none where nothing is said."""
    gateway = [sys.executable, "-m", "gateway.cli"]
    if said:
        path = running.data.parent / "flows.yaml"
        path.write_text(f"kind: Telemetry\nname: bench\n{said}\n")
        command = [*gateway, "apply", "-f", str(path), "--yes", "--data", str(running.data)]
    else:
        command = [*gateway, "delete", "telemetry", "bench", "--yes", "--data", str(running.data)]
    subprocess.run(command, check=bool(said), capture_output=True)


async def main(seconds: float) -> None:
    root = Path(tempfile.mkdtemp(prefix="gateway-flows-"))
    try:
        with node(root / "node") as running:
            for model, requesters, in_flight in SHAPES:
                shape = Shape(model, requesters, in_flight, min(requesters, 10), seconds=seconds)
                best: dict[str, float] = {}
                ratios: dict[str, float] = {}
                for _ in range(ROUNDS):
                    govern(running, "")
                    off = (await measure(running.access, shape)).rate
                    best["off"] = max(off, best.get("off", 0.0))
                    for way, said in WAYS.items():
                        govern(running, said)
                        ratio = (await measure(running.access, shape)).rate / off
                        ratios[way] = max(ratio, ratios.get(way, 0.0))
                text = "   ".join(f"{way} {ratio:.0%}" for way, ratio in ratios.items())
                print(f"{model} {requesters} x {in_flight}: off {best['off']:,.0f}/s   {text}", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
