"""What more processes of one node are worth here: requests a second of 100 requesters with 16 in flight each, at a node
of one process and at a node of two, in turns.

    python -m bench --only workers

The load generator runs on the last core, the node on all others. On two cores both of the node's processes have one
core, and no gain can be seen: the last line says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import START_S, Node, NotStarted, node
from bench.rows import Line
from gateway.load.run import complete, measure
from gateway.load.shape import Model, Shape

WORKERS = (1, 2)
#: A listening socket, as /proc/net/tcp says it.
_LISTENING = "0A"
REQUESTERS, IN_FLIGHT, RESPONDERS = 100, 16, 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    ours, theirs = {cores[-1]}, set(cores[:-1]) or set(cores)
    rates: dict[int, list[float]] = {count: [] for count in WORKERS}
    for _ in range(options.rounds):
        for count in WORKERS:
            rates[count].append(_rate(count, options.seconds, ours, theirs))
    best = {count: max(found) for count, found in rates.items()}
    for count in WORKERS:
        text = f"{best[count]:,.0f} requests/s, median {statistics.median(rates[count]):,.0f}"
        print(Line("workers", f"workers = {count}, {REQUESTERS} x {IN_FLIGHT}", text), flush=True)
    shared = "the node has one core: no gain can be seen here" if len(theirs) < len(WORKERS) else "a core each"
    text = f"{best[2] / best[1]:.2f} of one process; node on {len(theirs)} cores, load on {len(ours)}; {shared}"
    print(Line("workers", "workers = 2 against 1", text), flush=True)
    return 0


def _rate(count: int, seconds: float, ours: set[int], theirs: set[int]) -> float:
    """Answered requests a second. The node inherits the cores that this process is on while it starts."""
    shape = Shape(Model.RESPONSE, REQUESTERS, IN_FLIGHT, RESPONDERS, seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as name:
        os.sched_setaffinity(0, theirs)
        try:
            with node(Path(name) / "node", settings={"GATEWAY__NODE__WORKERS": str(count)}) as running:
                _until_ready(running, count)
                os.sched_setaffinity(0, ours)
                return complete(measure(running.access, shape)).rate
        finally:
            os.sched_setaffinity(0, ours | theirs)


def _until_ready(running: Node, count: int) -> None:
    """Wait until every process takes connections: each has its own listening socket on the port."""
    inode_of_port = f":{running.port:04X} "
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        lines = Path("/proc/net/tcp").read_text().splitlines()
        if sum(inode_of_port in line and line.split()[3] == _LISTENING for line in lines) >= count:
            return
        time.sleep(0.05)
    raise NotStarted(f"{count} processes do not listen on port {running.port}")


if __name__ == "__main__":
    sys.exit(main())
