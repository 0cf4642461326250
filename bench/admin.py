"""The admin API with 10,000 devices: how long a page takes, and what requests of others notice of it.

Beside one request at a time through the node, another process lists (20 pages a second, the rate of one token), exports
and backs up, one after the other and without a pause. That process takes much of a processor itself, which is no doing
of the node's, so the reference is a process that computes as much and asks nothing. Prints one line a measure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.processes import REPOSITORY, Node, node
from gateway.control.runtime import Runtime
from gateway.load.run import complete, measure
from gateway.load.shape import Shape
from gateway.policy.principal import Kind

DEVICES = 10_000
PAGES = 100
SECONDS = 1.5
ROUNDS = 5
PAGE_GOAL_MS = 50.0
BESIDE_GOAL = 2.0
WORK = ("list", "export", "backup")
ROWS_AT_ONCE = 2_500
#: The rate of one token.
PAGE_EVERY_S = 0.05


def client(url: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {token}"}, timeout=60)


def say(name: str, text: str, good: bool | None = None) -> None:
    verdict = "" if good is None else "  ok" if good else "  BELOW"
    print(f"{'admin':<18} {name:<8} {text}{verdict}", flush=True)


def register(api: httpx.Client) -> None:
    began = time.perf_counter()
    for start in range(0, DEVICES, ROWS_AT_ONCE):
        lines = [
            json.dumps(
                {"id": f"device-{number:05}", "profile": f"p{number % 7}", "labels": {"floor": str(number % 40)}}
            )
            for number in range(start, start + ROWS_AT_ONCE)
        ]
        answer = api.post(
            "/devices:bulk", content="\n".join(lines), headers={"content-type": "application/x-ndjson"}
        ).json()
        assert answer["created"] == ROWS_AT_ONCE, answer
    say("import", f"{DEVICES:,} devices in {time.perf_counter() - began:.1f} s")


def pages(api: httpx.Client) -> None:
    """The first page of several orders, and one behind the other through the list."""
    for name, query in (
        ("page", {}),
        ("filtered", {"label": "floor=7", "sort": "-updated_at"}),
        ("searched", {"q": "device-09"}),
        ("1000", {"limit": "1000"}),
    ):
        cursor: str | None = None
        times: list[float] = []
        for _ in range(PAGES if name == "page" else PAGES // 5):
            began = time.perf_counter()
            page = api.get("/devices", params={**query, **({"cursor": cursor} if cursor else {})}).json()
            times.append((time.perf_counter() - began) * 1e3)
            cursor = page["meta"]["next"]
            time.sleep(0.02)
        worst = max(times)
        text = f"{len(page['data'])} rows: median {statistics.median(times):.1f} ms, longest {worst:.1f} ms"
        if name == "page":
            text += f" (≤ {PAGE_GOAL_MS:g})"
        say(name, text, worst <= PAGE_GOAL_MS if name == "page" else None)


def requests(kind: str, api: httpx.Client) -> None:
    """What one piece of work asks."""
    if kind == "list":
        api.get("/devices", params={"sort": "-updated_at"}).raise_for_status().json()
    elif kind == "export":
        with api.stream("GET", "/devices/export", params={"format": "jsonl"}) as answer:
            assert sum(1 for _ in answer.iter_lines()) == DEVICES
    else:
        made = api.post("/backups").json()
        api.delete(f"/backups/{made['id']}").raise_for_status()


def work(kind: str, url: str, token: str, every: float) -> None:
    """Do it until this process is ended, at most every so many seconds.

    A line on standard output for each time: how long it took, and how much of the processor here, in seconds.
    """
    with client(url, token) as api:
        while True:
            began, cpu = time.perf_counter(), time.process_time()
            requests(kind, api)
            took = time.perf_counter() - began
            print(f"{took:.4f} {time.process_time() - cpu:.4f}", flush=True)
            time.sleep(max(0.0, every - took))


def compute(seconds: float, every: float) -> None:
    """As much of the processor at the same pace, and nothing of the node."""
    while True:
        began, cpu = time.perf_counter(), time.process_time()
        while time.process_time() - cpu < seconds:
            json.loads("[1, 2, 3]")
        print(f"{time.perf_counter() - began:.4f} {seconds:.4f}", flush=True)
        time.sleep(max(0.0, every - (time.perf_counter() - began)))


@dataclass(frozen=True)
class Pieces:
    """How often it was done, how long each time took and how much of the client's processor, in seconds."""

    times: int
    took: float
    cpu: float


@contextmanager
def beside(*arguments: object) -> Iterator[list[Pieces]]:
    """Another process that works meanwhile; afterwards the list says what it did.

    It has the lowest priority: it stands for a client on a machine of its own.
    """
    command = [sys.executable, "-m", "bench.admin", *map(str, arguments)]
    done: list[Pieces] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        try:
            # The first one is done: the client is up.
            if not process.stdout.readline():
                raise RuntimeError(f"{' '.join(command[2:5])} did not start")
            yield done
        finally:
            process.terminate()
            lines = [line.split() for line in process.stdout if line.endswith("\n")]
            took = [float(each) for each, _ in lines] or [0.0]
            cpu = [float(each) for _, each in lines] or [0.0]
            done.append(Pieces(len(lines), statistics.median(took), statistics.median(cpu)))


def noticed(measured: Node, url: str, token: str) -> None:
    """What requests notice. Of several short rounds the medians: one says as much of the machine as of the node."""
    for kind in WORK:
        every = PAGE_EVERY_S if kind == "list" else 0.0
        rounds: list[tuple[float, ...]] = []
        for _ in range(ROUNDS):
            alone = p99(measured)
            with beside("work", kind, url, token, every) as done:
                busy = p99(measured)
            (pieces,) = done
            with beside("compute", pieces.cpu, max(every, pieces.took)):
                reference = p99(measured)
            rounds.append((alone, reference, busy, pieces.times / SECONDS, pieces.took))
        alone, reference, busy, rate, each = (statistics.median(column) for column in zip(*rounds, strict=True))
        text = (
            f"p99 {alone * 1e6:,.0f} µs alone, {reference * 1e6:,.0f} µs beside a client that only computes, "
            f"{busy * 1e6:,.0f} µs beside {rate:.0f} a second ({each * 1e3:.0f} ms each): "
            f"{busy / reference:.1f} times (≤ {BESIDE_GOAL:g})"
        )
        say(kind, text, busy <= BESIDE_GOAL * reference)


def p99(measured: Node) -> float:
    """Of one request at a time, in seconds."""
    return complete(measure(measured.access, Shape(in_flight=1, seconds=SECONDS))).latency.p99


def address_of(measured: Node) -> str:
    """Where the admin API is; it opens behind the listeners."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        runtime = Runtime.read(measured.data)
        if runtime is not None and runtime.admin:
            return runtime.admin
        time.sleep(0.05)
    raise TimeoutError("the admin API did not open")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-admin-") as name:
        settings = {"GATEWAY__ADMIN__REQUESTS_PER_SECOND": "0"}
        with node(Path(name) / "node", settings=settings) as measured:
            url = address_of(measured)
            token = measured.identity.mint("bench", Kind.ADMIN, (), ("*",), 3600, time.time(), audience="gateway-admin")
            with client(url, token) as api:
                register(api)
                pages(api)
            noticed(measured, url, token)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", kind, url, token, every]:
            os.nice(19)
            work(kind, url, token, float(every))
        case ["compute", seconds, every]:
            os.nice(19)
            compute(float(seconds), float(every))
        case _:
            main()
