"""`python -m bench`: how fast this gateway is here and now, against a floor that checks nothing and, with --peer,
against what one would pick instead. One line a figure; everything that was measured goes to results/latest.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.peers import Peer, start_all
from bench.processes import HERE, REPOSITORY, NotStarted, floor, node
from bench.rows import ROWS, Ground, Line
from gateway.errors import GatewayError

RESULTS = HERE / "results"
#: Benchmarks of single parts: programs of their own that print one line a measure.
PARTS = {
    "routing_table": "routing_table.py",
    "device_sdk": "device_sdk.py",
    "floods": "floods.py",
    "admin": "admin.py",
    "spool": "spool.py",
    "federation": "federation.py",
    "mqtt": "mqtt.py",
    "workers": "workers.py",
    "governed": "governed.py",
    "dashboard": "dashboard.py",
}


def main() -> int:
    options = _options()
    names = [row.name for row in ROWS] + list(PARTS)
    if options.list:
        print("\n".join(names))
        return 0
    chosen = set(options.only or names)
    if unknown := chosen - set(names):
        print(f"no such benchmark: {', '.join(sorted(unknown))}; --list shows them", file=sys.stderr)
        return 2
    # Nodes that are started here inherit it: ten thousand idle devices are ten thousand sockets on both sides.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    machine = _machine()
    print(", ".join(str(value) for value in machine.values()), flush=True)
    document: dict[str, Any] = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "seconds": options.seconds,
        "rounds": options.rounds,
    }
    document |= _rows(options, chosen)
    document["parts"] = {name: _part(name) for name in PARTS if name in chosen}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {options.json}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peer", action="store_true", help="measure what one would pick instead, too")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each run counts (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often; the best round counts (default 3)")
    parser.add_argument("--only", action="append", metavar="NAME", help="this benchmark alone; may repeat")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="where the document goes")
    return parser.parse_args()


def _rows(options: argparse.Namespace, chosen: set[str]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    todo = [row for row in ROWS if row.name in chosen]
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        if not todo:
            return {"rows": rows, "left_out": left_out}
        try:
            ground_floor = stack.enter_context(floor(directory / "floor"))
        except NotStarted as error:
            ground_floor, left_out["floor"] = None, str(error)
        peers: list[Peer] = []
        if options.peer:
            peers, missing = start_all(stack, directory)
            left_out |= missing
        for who, why in left_out.items():
            print(Line("left out", who, why), flush=True)
        measured = stack.enter_context(node(directory / "node"))
        ground = Ground(measured, ground_floor, peers, directory, options.seconds, options.rounds)
        for row in todo:
            try:
                outcome = row.run(ground)
            except (GatewayError, NotStarted, OSError) as error:
                print(Line(row.name, "failed", str(error), False), flush=True)
                rows.append({"name": row.name, "failed": str(error)})
                continue
            for line in outcome.lines:
                print(line, flush=True)
            lines = [{"subject": line.subject, "text": line.text, "good": line.good} for line in outcome.lines]
            rows.append({"name": row.name, **outcome.document, "lines": lines})
    return {"rows": rows, "left_out": left_out}


def _part(name: str) -> list[str]:
    """Run a program of its own and pass its lines on."""
    program = HERE / PARTS[name]
    if not program.exists():
        return []
    lines = []
    command = [sys.executable, str(program)]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        lines.append(f"failed: exit status {process.returncode}")
        print(Line(name, "failed", f"exit status {process.returncode}", False))
    return lines


def _machine() -> dict[str, Any]:
    command = [sys.executable, "-m", "gateway.cli", "version", "-o", "json"]
    said = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    facts = json.loads(said.stdout) if said.returncode == 0 else {}
    return {
        **{name: f"gateway {value}" if name == "version" else value for name, value in facts.items()},
        "processor": _processor(),
        "cores": f"{os.cpu_count()} cores",
        "busy": f"{os.getloadavg()[0]:.1f} busy before",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
