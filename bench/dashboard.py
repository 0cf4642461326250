"""The dashboard on a node with 10,000 devices: how soon it shows something, and what requests of others notice of it.

Wants Chromium and Playwright: tools/install-peers browser. Beside one request at a time through the node, five
dashboards are open: first five that only read what a dashboard reads, which is the node's share, then five pages in one
Chromium, which draws graphs on the same cores. That is no doing of the node's, so Chromium has the lowest priority. The
devices are a process of their own. Prints one line a measure.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.admin import address_of, client
from bench.processes import REPOSITORY, Node, node
from gateway.control.identity import Identity
from gateway.load.crowd import Crowd, room_for
from gateway.load.endpoint import Endpoint
from gateway.load.opening import setup_frame
from gateway.load.run import complete, measure
from gateway.load.shape import Access, Shape
from gateway.load.tally import Tally
from gateway.policy.principal import Kind

DEVICES = 10_000
DASHBOARDS = 5
SECONDS = 3.0
ROUNDS = 3
LOAD_GOAL_S = 1.0
BESIDE_GOAL = 1.5
CHROMIUM = "/usr/bin/chromium"
#: What a dashboard follows, and what its overview asks for meanwhile: path and seconds between two times.
STREAMS = ("/stream/stats?interval_s=1", "/stream/events")
ASKED = (("/health", 5.0), ("/node/history", 5.0), ("/node", 30.0))
#: When the number of devices is there, the figures of the overview are; `performance` counts from the navigation.
DRAWN = """
addEventListener("DOMContentLoaded", () => {
  const watching = new MutationObserver(() => {
    if (!window.drawn && document.querySelector("main .tiles")?.textContent.match(/10[,. ]?000/))
      window.drawn = performance.now();
  });
  watching.observe(document.body, { childList: true, subtree: true, characterData: true });
});
"""
SCROLL = """async () => {
  let longest = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((each) => (longest = Math.max(longest, each.duration))))
    .observe({ type: "longtask" });
  const rows = document.querySelector("main .rows");
  const began = performance.now();
  let frames = 0;
  let still = 0;
  while (still < 120) {
    const before = rows.scrollTop;
    rows.scrollTop += rows.clientHeight;
    await new Promise((done) => requestAnimationFrame(done));
    frames++;
    still = rows.scrollTop === before ? still + 1 : 0;
  }
  const last = [...rows.querySelectorAll("tbody tr")].at(-1)?.textContent ?? "";
  return { frames: frames - still, ms: performance.now() - began, longest, last: last.trim().slice(0, 40),
           drawn: rows.querySelectorAll("tr").length, height: rows.scrollHeight };
}"""


def say(name: str, text: str, good: bool | None = None) -> None:
    verdict = "" if good is None else "  ok" if good else "  BELOW"
    print(f"{'dashboard':<18} {name:<10} {text}{verdict}", flush=True)


def register(api: httpx.Client) -> None:
    lines = [json.dumps({"id": f"device-{number}", "profile": f"p{number % 7}"}) for number in range(DEVICES)]
    for start in range(0, DEVICES, 2_500):
        body = "\n".join(lines[start : start + 2_500])
        api.post("/devices:bulk", content=body, headers={"content-type": "application/x-ndjson"}).raise_for_status()


async def stay(port: str, data: str) -> None:
    """Be all the devices, until this process is ended."""
    measured = Node(int(port), Path(data), os.getpid())
    room_for(DEVICES)
    tally = Tally()
    async with Crowd(measured.access, tally) as crowd:
        await crowd.admit_each(
            (Endpoint(tally, crowd.framing), setup_frame(token, subject, uuid.uuid4().bytes))
            for subject, token in measured.device_tokens(DEVICES)
        )
        print("there", flush=True)
        await asyncio.Event().wait()


async def read(url: str, token: str) -> None:
    """Read what so many dashboards read."""
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {token}"}

    async def follow(http: httpx.AsyncClient, path: str) -> None:
        async with http.stream("GET", path) as answer:
            answer.raise_for_status()
            async for _ in answer.aiter_raw():
                pass

    async def ask(http: httpx.AsyncClient, path: str, every: float) -> None:
        while True:
            (await http.get(path)).raise_for_status()
            await asyncio.sleep(every)

    base = f"{url}/api/v1"
    async with (
        httpx.AsyncClient(base_url=base, headers=headers, timeout=None, limits=limits) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(DASHBOARDS):
            for path in STREAMS:
                group.create_task(follow(http, path))
            for path, every in ASKED:
                group.create_task(ask(http, path, every))
        await asyncio.sleep(2)
        print("there", flush=True)


async def browse(url: str, *codes: str) -> None:
    """Open a dashboard for each code, each in a browser of its own, and say what one sees of them."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        pages = []
        for code in codes:
            page = await (await browser.new_context(viewport={"width": 1440, "height": 900})).new_page()
            await page.add_init_script(DRAWN)
            await page.goto(f"{url}/#/login?code={code}")
            await page.wait_for_function("() => window.drawn")
            pages.append(page)
        drawn = []
        for _ in range(ROUNDS):
            await pages[0].reload()
            await (await pages[0].wait_for_function("() => window.drawn")).json_value()
            drawn.append(await pages[0].evaluate("() => window.drawn"))
        await pages[0].goto(f"{url}/#/devices")
        await pages[0].wait_for_selector("main .rows tbody tr")
        scrolled = await pages[0].evaluate(SCROLL)
        await pages[0].goto(f"{url}/#/overview")
        print(json.dumps({"drawn": drawn, "scrolled": scrolled}), flush=True)
        await asyncio.Event().wait()


@contextmanager
def beside(*words: str, nice: int = 0) -> Iterator[str]:
    """Another process; what it says once it is there."""
    command = ["nice", "-n", str(nice), sys.executable, "-m", "bench.dashboard", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if not said:
                raise RuntimeError(f"{words[0]} did not start")
            yield said
        finally:
            process.terminate()


def p99s(access: Access) -> list[float]:
    """Of several short rounds of one request at a time, in seconds."""
    return [complete(measure(access, Shape(in_flight=1, seconds=SECONDS))).latency.p99 for _ in range(ROUNDS)]


def share(measured: Node) -> float:
    """How much of a core the node takes while nobody sends requests."""
    cpu, began = measured.cpu_seconds(), time.monotonic()
    time.sleep(SECONDS * ROUNDS)
    return (measured.cpu_seconds() - cpu) / (time.monotonic() - began)


def noticed(name: str, busy: list[float], quiet: list[float], cpu: float) -> None:
    p99, reference = statistics.median(busy), statistics.median(quiet)
    text = (
        f"p99 {p99 * 1e6:,.0f} µs, {reference * 1e6:,.0f} µs before and after: {p99 / reference:.2f} times "
        f"(≤ {BESIDE_GOAL:g}); the node takes {cpu:+.1%} of a core for them"
    )
    say(name, text, p99 <= BESIDE_GOAL * reference)


def looked(said: dict[str, Any]) -> None:
    drawn = statistics.median(said["drawn"]) / 1e3
    say("overview", f"{drawn:.2f} s to its figures (≤ {LOAD_GOAL_S:g})", drawn <= LOAD_GOAL_S)
    scrolled = said["scrolled"]
    text = (
        f"{scrolled['height']:,} px in {scrolled['frames']} frames, {scrolled['ms'] / 1e3:.1f} s; longest task "
        f"{scrolled['longest']:.0f} ms; {scrolled['drawn']} rows drawn; the last is {scrolled['last']!r}"
    )
    say("scrolling", text)


def main() -> None:
    settings = {
        "GATEWAY__ADMIN__REQUESTS_PER_SECOND": "0",
        "GATEWAY__ADMIN__MAX_STREAMS": "64",
        "GATEWAY__LIMITS__MAX_CONNECTIONS": str(DEVICES + 100),
    }
    with (
        tempfile.TemporaryDirectory(prefix="bench-dashboard-") as name,
        node(Path(name) / "node", settings=settings) as on,
    ):
        url = address_of(on)
        token = Identity.open(on.data).mint(
            "bench", Kind.ADMIN, (), ("*",), 3600, time.time(), audience="gateway-admin"
        )
        with client(url, token) as api:
            register(api)
            with beside("stay", str(on.port), str(on.data)):
                run(on, api, url, token)


def run(measured: Node, api: httpx.Client, url: str, token: str) -> None:
    quiet, idle = p99s(measured.access), share(measured)
    say("quiet", f"p99 {statistics.median(quiet) * 1e6:,.0f} µs; the node takes {idle:.1%} of a core for its devices")
    with beside("read", url, token, nice=19):
        readers, cpu = p99s(measured.access), share(measured)
    after = p99s(measured.access)
    noticed("readers", readers, quiet + after, cpu - idle)
    codes = [api.post("/auth/codes", json={}).json()["code"] for _ in range(DASHBOARDS)]
    with beside("browse", url, *codes, nice=19) as said:
        looked(json.loads(said))
        pages, cpu = p99s(measured.access), share(measured)
    noticed("Chromium", pages, after + p99s(measured.access), cpu - idle)


def entry(words: Sequence[str]) -> None:
    match words:
        case ["stay", port, data]:
            asyncio.run(stay(port, data))
        case ["read", url, token]:
            asyncio.run(read(url, token))
        case ["browse", url, *codes]:
            asyncio.run(browse(url, *codes))
        case _:
            main()


if __name__ == "__main__":
    entry(sys.argv[1:])
