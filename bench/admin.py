"""The admin API with 10,000 devices: how long a page takes, and what requests of others notice of it.

Beside one request at a time through the node, another process lists (20 pages a second, the rate of one token), exports
and backs up, one after the other and without a pause. Prints one line a measure.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.processes import Node, node
from gateway.control.runtime import Runtime
from gateway.load.run import complete, measure
from gateway.load.shape import Shape
from gateway.policy.principal import Kind

DEVICES = 10_000
PAGES = 100
SECONDS = 5.0
ROUNDS = 3
PAGE_GOAL_MS = 50.0
BESIDE_GOAL = 2.0
WORK = ("list", "export", "backup")
ROWS_AT_ONCE = 2_500


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


def work(kind: str, url: str, token: str) -> None:
    """Do it until this process is ended; one line on standard output for each time."""
    with client(url, token) as api:
        while True:
            began = time.perf_counter()
            if kind == "list":
                api.get("/devices", params={"sort": "-updated_at"}).raise_for_status()
            elif kind == "export":
                with api.stream("GET", "/devices/export", params={"format": "jsonl"}) as answer:
                    assert sum(1 for _ in answer.iter_lines()) == DEVICES
            else:
                made = api.post("/backups").json()
                api.delete(f"/backups/{made['id']}").raise_for_status()
            print(f"{time.perf_counter() - began:.4f}", flush=True)
            if kind == "list":
                time.sleep(max(0.0, 0.05 - (time.perf_counter() - began)))


@contextmanager
def working(kind: str, url: str, token: str) -> Iterator[list[float]]:
    """Another process that works meanwhile; afterwards the list has how long each piece took, in seconds."""
    command = [sys.executable, __file__, kind, url, token]
    done: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            # The first one is done: the client is up.
            process.stdout.readline()
            yield done
        finally:
            process.terminate()
            done += [float(line) for line in process.stdout if line.strip()]


def beside(measured: Node, url: str, token: str) -> None:
    alone = Shape(in_flight=1, seconds=SECONDS)
    for kind in WORK:
        found: list[tuple[float, float, float, int, float]] = []
        for _ in range(ROUNDS):
            quiet = complete(measure(measured.access, alone)).latency
            with working(kind, url, token) as done:
                busy = complete(measure(measured.access, alone)).latency
            found.append((busy.p99 / quiet.p99, quiet.p99, busy.p99, len(done), statistics.median(done or [0.0])))
        ratio, before, after, times, each = min(found)
        text = (
            f"p99 {before * 1e6:,.0f} µs alone, {after * 1e6:,.0f} µs beside {times} in {SECONDS:g} s "
            f"({each * 1e3:.0f} ms each): {ratio:.1f} times (≤ {BESIDE_GOAL:g})"
        )
        say(kind, text, ratio <= BESIDE_GOAL)


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
            beside(measured, url, token)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(*sys.argv[1:])
    else:
        main()
