"""Floods: what one attacker costs the node, and a device that goes on beside it. A program of its own.

    python -m bench.floods [--seconds 5] [--only NAME] [--spared]

A line a flood. The node is a process with its defaults and the limits by address on, the attacker another process with
an address of its own (127.0.0.2), the device and a service that never answers are here. Memory is what the node grew by
at its highest, processor time what it took beyond its quiet rate; amplification is the ratio of either to what the
attack took: bytes sent, and the attacker's own processor time. `--spared`: no limits by address, so that an attacker
who is thrown out comes back at once, for as long as it likes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.attacker import FLOODS, STRANGERS
from bench.processes import REPOSITORY, Node, node
from gateway.load.crowd import OPEN_TIMEOUT_S
from gateway.load.endpoint import Endpoint
from gateway.load.histogram import Histogram
from gateway.load.opening import connect, setup_frame
from gateway.load.run import complete
from gateway.load.shape import Latency
from gateway.load.tally import Tally
from gateway.policy.principal import Kind
from gateway.wire import metadata, mimetypes
from gateway.wire.frames import KeepAlive, RequestResponse, encode

MIB = 1024 * 1024
GOAL_BYTES = 32 * MIB
GOAL_SLOWER = 3.0
GOAL_AMPLIFICATION = 10.0
#: A p99 that is no trouble whatever it was before: other work on a shared machine makes more difference.
LEAST_P99_S = 0.005
#: From how long on a flood must have spent the budget that ends it.
LONG_S = 30.0
#: What an interpreter and its allocator may take or give back by themselves, as may a clock of 10 ms: no ratio below.
_NOISE_BYTES = 4 * MIB
_NOISE_S = 0.3
#: How long is looked at the device without an attack; how often it asks; how often memory is looked at.
_QUIET_S = 8.0
_PAUSE_S = 0.025
_LOOK_S = 0.1
_TOKEN_S = 3600.0
_ATTACKERS = 64
#: Limits by address hold on loopback, too.
SETTINGS = {"GATEWAY__LIMITS__LOOPBACK": "true"}
#: What never reads, besides reading, is another flood where answers are drawn.
_UNREAD = ("requests", "keepalives", "invalid", "pings")
NAMES = (*FLOODS, *(f"{name} unread" for name in _UNREAD), *STRANGERS)


class Device(Endpoint):
    """Asks the node one question at a time, and takes the time of the answer."""

    def __init__(self, tally: Tally, framing: Any) -> None:
        super().__init__(tally, framing)
        self.times = Histogram()
        about = metadata.encode_composite([(mimetypes.ROUTING, metadata.encode_routing(["gateway.time"]))])
        self._question = framing.carry(encode(RequestResponse(1, about, b"")))
        self._answered = asyncio.Event()

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        kept_at = loop.time()
        while True:
            self._answered.clear()
            begun = time.perf_counter()
            self._send(self._question)
            await self._answered.wait()
            self.times.record(time.perf_counter() - begun)
            if loop.time() - kept_at > 10:
                kept_at = loop.time()
                self._send(self.framing.carry(encode(KeepAlive(respond=False))))
            await asyncio.sleep(_PAUSE_S)

    def buffer_updated(self, count: int) -> None:
        # Nothing comes but answers, one at a time.
        super().buffer_updated(count)
        self._answered.set()


@dataclass(frozen=True)
class Outcome:
    """One flood."""

    name: str
    grown: int
    quiet_p99: float
    p99: float
    cpu: float
    attack: dict[str, Any]
    seconds: float

    @property
    def expected(self) -> frozenset[int]:
        """The close codes of which one has to be seen: where it reads, and lasts long enough for every budget."""
        flood = FLOODS.get(self.name)
        return flood.codes if flood is not None and self.seconds >= LONG_S else frozenset()

    @property
    def codes(self) -> set[int]:
        return {int(code) for code in self.attack["codes"]}

    @property
    def memory_amplification(self) -> float:
        return self.grown / max(self.attack["sent"], 1) if self.grown > _NOISE_BYTES else 0.0

    @property
    def cpu_amplification(self) -> float:
        return self.cpu / max(self.attack["cpu"], 0.01) if self.cpu > _NOISE_S else 0.0

    @property
    def good(self) -> bool:
        return (
            self.grown <= GOAL_BYTES
            and self.p99 <= max(GOAL_SLOWER * self.quiet_p99, LEAST_P99_S)
            and self.memory_amplification < GOAL_AMPLIFICATION
            and self.cpu_amplification < GOAL_AMPLIFICATION
            and (not self.expected or bool(self.codes & self.expected))
        )

    def __str__(self) -> str:
        codes = ", ".join(f"{code or 'reset'} ×{count}" for code, count in sorted(self.attack["codes"].items()))
        said = f"{codes or '–'}{', refused ×' + str(self.attack['refused']) if self.attack['refused'] else ''}"
        slower = self.p99 / self.quiet_p99 if self.quiet_p99 else 0.0
        figures = (
            f"{self.grown / MIB:>5.1f} MiB",
            f"p99 {self.quiet_p99 * 1e3:>6.2f} → {self.p99 * 1e3:>7.2f} ms {slower:>5.1f}×",
            f"memory {self.memory_amplification:>4.1f}×",
            f"cpu {self.cpu:>5.2f} s {self.cpu_amplification:>4.1f}×",
            f"{self.attack['sent'] / MIB:>7.1f} MiB sent",
            f"{said:<32}",
            "ok" if self.good else "BELOW",
        )
        return f"{self.name:<18} " + "  ".join(figures)


async def withstand(target: Node, name: str, seconds: float) -> Outcome:
    tally = Tally()
    tally.ending = True
    framing = target.access.address.framing(target.access.mask)
    now = time.time()
    mint = target.identity.mint
    service = mint("svc-slow", Kind.SERVICE, ("slow",), ("*",), _TOKEN_S, now)
    await _join(target, Endpoint(tally, framing), service, "slow")
    device = Device(tally, framing)
    await _join(target, device, mint("healthy", Kind.DEVICE, ("{sub}",), ("*",), _TOKEN_S, now), None)
    asking = asyncio.create_task(device.ask())
    await asyncio.sleep(1)
    device.times.clear()
    cpu = target.cpu_seconds()
    await asyncio.sleep(_QUIET_S)
    quiet = Latency.of(device.times)
    quiet_cpu = (target.cpu_seconds() - cpu) / _QUIET_S
    before, cpu, begun = target.resident_bytes(), target.cpu_seconds(), time.monotonic()
    device.times.clear()
    attack = asyncio.create_task(_attack(target, name, seconds))
    highest = before
    while not attack.done():
        await asyncio.wait({attack}, timeout=_LOOK_S)
        highest = max(highest, target.resident_bytes())
    taken = target.cpu_seconds() - cpu - quiet_cpu * (time.monotonic() - begun)
    asking.cancel()
    if device.transport is not None:
        device.transport.abort()
    during = Latency.of(device.times).p99
    return Outcome(name, highest - before, quiet.p99, during, max(taken, 0.0), attack.result(), seconds)


async def _join(target: Node, endpoint: Endpoint, token: str, service: str | None) -> None:
    setup = setup_frame(token, service, uuid.uuid4().bytes)
    await connect(target.access.address, setup, endpoint, OPEN_TIMEOUT_S)


async def _attack(target: Node, name: str, seconds: float) -> dict[str, Any]:
    now = time.time()
    tokens = [
        target.identity.mint(f"attacker-{number}", Kind.DEVICE, ("{sub}",), ("*",), _TOKEN_S, now)
        for number in range(_ATTACKERS)
    ]
    reads = "blind" if name.endswith("unread") else "reads"
    command = [name.removesuffix(" unread"), str(target.port), str(seconds), reads, "127.0.0.2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.attacker",
        *command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate("\n".join(tokens).encode())
    found: dict[str, Any] = json.loads(said)
    return found


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m bench.floods", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each lasts (default 5)")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help="this flood alone; may repeat")
    parser.add_argument("--spared", action="store_true", help="no limits by address")
    arguments = parser.parse_args()
    settings = SETTINGS if not arguments.spared else {}
    with tempfile.TemporaryDirectory(prefix="floods-") as name:
        for flood in arguments.only or NAMES:
            with node(Path(name) / flood.replace(" ", "-"), settings=settings) as target:
                print(complete(withstand(target, flood, arguments.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
