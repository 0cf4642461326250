"""What documents cost a request: the same load through nodes without any, with a typical `Service`, with the flow log,
and with tracing of 1 %.

    python -m bench.governed [--seconds 2] [--rounds 5] [--only rr-1x64]

One node a document, each measured in every round, so that what else the machine does meets them alike. A line has two
ratios to the node without documents, of the best rounds: of the requests a second, which is what is wanted, and of the
processor time that the node takes a request, which says more on a machine where the load is what limits the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.mqtt import up
from bench.processes import Node, free_port, node
from gateway.cli.api import Api
from gateway.cli.contexts import of_directory
from gateway.load.run import complete, measure
from gateway.load.shape import Model, Shape

TYPICAL = """
kind: Service
name: bench
routes:
  - timeout: 5s
    idempotent: true
    retries: {attempts: 2, retryOn: [connectFailure, rejected]}
outlierDetection: {}
limits: {maxRequests: 100000, rate: {tokens: 100000000, fillInterval: 1s, per: principal}}
"""
FLOWS = "{kind: Telemetry, name: flows, flowLog: {}}"


def tracing() -> str:
    """To where nobody listens: what is delivered, or not, is none of the loop's business."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    return f"{{kind: Telemetry, name: traces, tracing: {{endpoint: '{endpoint}', randomSamplingPercentage: 1}}}}"


@dataclass(frozen=True)
class Subject:
    """A document, and what a node that has it must do of one that has none."""

    name: str
    document: str
    goal: float


SUBJECTS = (
    Subject("no documents", "", 0.0),
    Subject("typical Service", TYPICAL, 0.7),
    Subject("flow log", FLOWS, 0.8),
    Subject("tracing 1 %", tracing(), 0.95),
)
SHAPES = {
    "rr-1x64": Shape(),
    "rr-100x16": Shape(requesters=100, in_flight=16, responders=10),
    "fnf-1": Shape(Model.FNF, in_flight=1),
}


@dataclass(frozen=True)
class Figure:
    """Requests a second, and microseconds of the node's processor a request."""

    rate: float
    cost_us: float


def cpu_ns(pid: int) -> int:
    """What all threads of a process have had of a processor."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def one(measured: Node, shape: Shape) -> Figure:
    # The warm-up is part of what the processor time is of, and not of the operations: it is short.
    before = cpu_ns(measured.pid)
    result = complete(measure(measured.access, shape))
    spent = cpu_ns(measured.pid) - before
    if not result.good:
        raise SystemExit(f"{shape}: {result.errors} errors, {result.unfinished} unfinished {result.texts}")
    counted = result.operations * (1 + shape.warm_up / shape.seconds)
    return Figure(result.rate, spent / counted / 1000)


def run(seconds: float, rounds: int, shapes: dict[str, Shape]) -> bool:
    good = True
    with tempfile.TemporaryDirectory(prefix="governed-") as name, ExitStack() as stack:
        nodes = {}
        for number, subject in enumerate(SUBJECTS):
            started = nodes[subject.name] = stack.enter_context(node(Path(name) / str(number)))
            asyncio.run(up(started.data))
            if subject.document:
                with Api(of_directory(started.data)) as api:
                    api.send("POST", "/documents:apply", {"text": subject.document})
        for title, shape in shapes.items():
            shape = replace(shape, seconds=seconds, warm_up=0.2)
            found: dict[str, list[Figure]] = {subject.name: [] for subject in SUBJECTS}
            for turn in range(rounds):
                for place in range(len(SUBJECTS)):
                    subject = SUBJECTS[(place + turn) % len(SUBJECTS)]
                    found[subject.name].append(one(nodes[subject.name], shape))
            bare = found[SUBJECTS[0].name]
            for subject in SUBJECTS:
                own = found[subject.name]
                by_rate = max(one.rate for one in own) / max(one.rate for one in bare)
                by_cost = min(one.cost_us for one in bare) / min(one.cost_us for one in own)
                verdict = "" if not subject.goal else "  ok" if by_rate >= subject.goal else "  BELOW"
                good = good and by_rate >= subject.goal
                ratios = f"{by_rate * 100:4.0f} % by rate, {by_cost * 100:4.0f} % by cost"
                print(
                    f"{title:<10} {subject.name:<18} {max(one.rate for one in own):>11,.0f} req/s  "
                    f"{min(one.cost_us for one in own):6.2f} µs of the node  {ratios} (≥ {subject.goal * 100:.0f} %)"
                    f"{verdict}",
                    flush=True,
                )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.governed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=SHAPES)
    options = parser.parse_args()
    good = run(options.seconds, options.rounds, {name: SHAPES[name] for name in options.only or SHAPES})
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
