"""What store and forward costs here: one line a measure.

    python bench/spool.py [--messages 1000000]

Messages of 200 bytes under 1,000 keys, on the volume of the temporary directory, every acknowledgement after a sync.
Goals: 20,000 acknowledged and 20,000 replayed a second, and memory that does not grow with what waits.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from gateway.spool.delivery import Delivery
from gateway.spool.message import Batch, Message
from gateway.spool.rules import SpoolRules
from gateway.spool.spool import Spool
from gateway.spool.store import SpoolStore

PAYLOAD = b"x" * 200
KEYS = [b"device-%d" % number for number in range(1000)]
#: Appends of one message each that wait at once, as a busy node's requests do.
WRITERS = 2000
#: What a batch takes to be acknowledged by the far side.
ROUND_TRIP_S = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    asyncio.run(measure(parser.parse_args().messages))


async def measure(messages: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-spool-") as name:
        path = Path(name) / "spool.sqlite3"
        store = await SpoolStore.open(path, "bench")
        spool = await store.spool("uplink", SpoolRules(min_free=0.0))
        await lone(spool)
        single = min(100_000, messages // 4)
        # Everything that runs once has run, and whatever is imported late is there.
        await append(spool, WRITERS, single, 1)
        gc.collect()
        began = resident_bytes()
        await append(spool, WRITERS, single, 1, "acked, one message an append")
        await append(spool, 50, messages - spool.messages, 20, "acked, 20 messages an append")
        gc.collect()
        report("memory added while they came in", (resident_bytes() - began) / 2**20, "MiB")
        report("messages that wait", spool.messages, "")
        report("bytes on disk for each", disk_bytes(path) / spool.messages, "B")
        await store.close()

        began_s = time.perf_counter()
        store = await SpoolStore.open(path, "bench")
        spool = await store.spool("uplink", SpoolRules(min_free=0.0))
        report("start with them waiting", time.perf_counter() - began_s, "s", "≤ 5")
        report("resident with them waiting", resident_bytes() / 2**20, "MiB")
        await replay(spool)
        report("resident after, at most in all", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")
        await store.close()


async def lone(spool: Spool) -> None:
    began = time.perf_counter()
    for _ in range(50):
        await spool.append([Message(PAYLOAD, KEYS[0])])
    report("one append alone", (time.perf_counter() - began) / 50 * 1e3, "ms")


async def append(spool: Spool, writers: int, messages: int, at_once: int, measure: str = "") -> None:
    async def write(writer: int) -> None:
        for turn in range(messages // writers // at_once):
            start = writer + turn * at_once
            await spool.append([Message(PAYLOAD, KEYS[(start + one) % len(KEYS)]) for one in range(at_once)])

    began, before = time.perf_counter(), spool.messages
    await asyncio.gather(*(write(writer) for writer in range(writers)))
    if measure:
        report(measure, (spool.messages - before) / (time.perf_counter() - began), "messages/s", "≥ 20,000")


async def replay(spool: Spool) -> None:
    messages = spool.messages

    async def send(batch: Batch) -> None:
        await asyncio.sleep(ROUND_TRIP_S)

    began, most = time.perf_counter(), 0
    delivery = Delivery(spool, send, start_jitter_s=0.0)
    running = asyncio.create_task(delivery.run())
    while spool.messages:
        await asyncio.sleep(0.02)
        most = max(most, spool.in_flight)
    report("replayed", messages / (time.perf_counter() - began), "messages/s", "≥ 20,000")
    report("in flight, at most", most, "messages")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def disk_bytes(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def report(measure: str, value: float, unit: str, goal: str = "") -> None:
    print(f"spool          {measure:<50} {value:>12,.2f} {unit}{f'  (goal {goal})' if goal else ''}", flush=True)


if __name__ == "__main__":
    main()
