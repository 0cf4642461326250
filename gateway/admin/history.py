"""The last quarter of an hour in steps of 5 s, for whoever opens the dashboard and has no Prometheus.

A measurement adds up what the processes of the node have counted; a step is what lies between two of them. What is
measured connection by connection is measured in slices, so that the data plane, which shares the loop, waits for none
of it. Lost with the process, as what it counts is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.admin.family import Reading, Sources
from gateway.admin.presence import count_online
from gateway.errors import GatewayError
from gateway.observe.metrics import BUCKETS, Durations
from gateway.observe.process import process_usage

if TYPE_CHECKING:
    from gateway.admin.context import NodeControls
    from gateway.forwarding.plane import Plane
    from gateway.observe.metrics import Metrics

STEP_S: Final = 5.0
KEPT: Final = 180
#: Paths, or connections, that are added up before others get their turn.
SLICE: Final = 64

Buckets = tuple[int, ...]
EMPTY: Final[Buckets] = (0,) * BUCKETS


@dataclass(frozen=True, slots=True)
class Measured:
    """All of a node at one moment. `at` is Unix seconds, `clock` monotonic ones; `answered`, `lag`: histograms of what
    requests took and of how late the loop was; what ends in `_s`: seconds. Counters are those since the start."""

    at: float
    clock: float
    connections: int
    devices_online: int
    requests: int
    failed: int
    refused: int
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    answered: Buckets
    lag: Buckets
    outbox_bytes: int
    streams_open: int
    spool_depth: int
    memory_bytes: int | None
    cpu_s: float


class Step(NamedTuple):
    """What lies between two measurements, at the second of which the gauges are read; rates are for a second. None
    where nothing was measured. `jumped_s`: how much further the wall clock went than time."""

    at: float
    connections: int
    devices_online: int
    requests_s: float
    failed_s: float
    refused_s: float
    frames_in_s: float
    frames_out_s: float
    bytes_in_s: float
    bytes_out_s: float
    p50_s: float | None
    p99_s: float | None
    outbox_bytes: int
    streams_open: int
    spool_depth: int
    loop_lag_s: float | None
    memory_bytes: int | None
    cpu: float
    jumped_s: float


def step(before: Measured, after: Measured) -> Step:
    passed = max(after.clock - before.clock, 1e-3)

    def rate(name: str) -> float:
        # A process that has ended takes what it had counted with it.
        grown: float = getattr(after, name) - getattr(before, name)
        return round(max(0.0, grown / passed), 3)

    answered = _grown(before.answered, after.answered)
    return Step(
        at=round(after.at, 3),
        connections=after.connections,
        devices_online=after.devices_online,
        requests_s=rate("requests"),
        failed_s=rate("failed"),
        refused_s=rate("refused"),
        frames_in_s=rate("frames_in"),
        frames_out_s=rate("frames_out"),
        bytes_in_s=rate("bytes_in"),
        bytes_out_s=rate("bytes_out"),
        p50_s=quantile(answered, 0.5),
        p99_s=quantile(answered, 0.99),
        outbox_bytes=after.outbox_bytes,
        streams_open=after.streams_open,
        spool_depth=after.spool_depth,
        loop_lag_s=quantile(_grown(before.lag, after.lag), 1.0),
        memory_bytes=after.memory_bytes,
        cpu=rate("cpu_s"),
        jumped_s=round((after.at - before.at) - (after.clock - before.clock), 3),
    )


def _grown(before: Buckets, after: Buckets) -> Buckets:
    return tuple(max(0, late - early) for early, late in zip(before, after, strict=True))


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """The duration, in seconds, that this share of what a histogram holds does not exceed; within a bucket as if what
    is in it were spread evenly. None of an empty one."""
    count = sum(buckets)
    if not count:
        return None
    wanted = share * count
    below = 0
    for number, held in enumerate(buckets):
        if held and below + held >= wanted:
            # See `Durations`: from 2^(number-1) to 2^number microseconds.
            first = 0.0 if number == 0 else 2.0 ** (number - 1)
            width = 1.0 if number == 0 else first
            return round((first + width * (wanted - below) / held) / 1e6, 7)
        below += held
    raise AssertionError("a share is at most 1")


class History:
    """The last `KEPT` steps, one every `STEP_S` between `start` and `stop`."""

    def __init__(self, measure: Callable[[], Awaitable[Measured]], step_s: float = STEP_S) -> None:
        self._measure = measure
        self._step_s = step_s
        self._steps: deque[Step] = deque(maxlen=KEPT)
        self._last: Measured | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="history")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def note(self, measured: Measured) -> None:
        """One more measurement."""
        if self._last is not None:
            self._steps.append(step(self._last, measured))
        self._last = measured

    def since(self, at: float) -> list[Step]:
        """The steps that ended after this time, oldest first."""
        return [each for each in self._steps if each.at > at]

    def latest(self, seconds: float) -> list[Step]:
        """The steps of the last so many seconds."""
        return list(self._steps)[-max(1, round(seconds / self._step_s)) :]

    async def _run(self) -> None:
        while True:
            try:
                self.note(await self._measure())
            except GatewayError:
                # A worker that ends just now: the next measurement spans two steps.
                pass
            await asyncio.sleep(self._step_s)


async def measure(node: NodeControls, plane: Plane, metrics: Metrics) -> Measured:
    """The node as it is now, all of its processes."""
    outbox_bytes = await outbox_bytes_of(plane)
    own = Reading(metrics, Sources(lambda: outbox_bytes, plane.table.__len__), "", process_usage())
    workers = node.workers
    readings = [own] if workers is None else [own, *(reading for _, reading in await workers.readings(""))]
    counters = [reading.metrics.counters for reading in readings]
    failed = 0
    answered = EMPTY
    lag = EMPTY
    for reading in readings:
        lag = _sum(lag, reading.metrics.lag)
        paths = list(reading.metrics.paths.values())
        for start in range(0, len(paths), SLICE):
            part = paths[start : start + SLICE]
            failed += sum(path.failed for path in part)
            answered = _sum(answered, *part)
            await asyncio.sleep(0)
    online = await count_online(plane)
    resident = [reading.process.resident_bytes for reading in readings if reading.process.resident_bytes is not None]
    return Measured(
        at=plane.wall(),
        clock=time.monotonic(),
        connections=sum(each.connections_open.get("client", 0) for each in counters),
        devices_online=online,
        requests=sum(
            each.request_response + each.fire_and_forget + each.request_stream + each.request_channel
            for each in counters
        ),
        failed=failed,
        refused=sum(sum(each.refusals.values()) for each in counters),
        frames_in=sum(each.frames_in for each in counters),
        frames_out=sum(each.frames_out for each in counters),
        bytes_in=sum(each.bytes_in for each in counters),
        bytes_out=sum(each.bytes_out for each in counters),
        answered=answered,
        lag=lag,
        outbox_bytes=sum(reading.sources.outbox_bytes() for reading in readings),
        streams_open=sum(each.streams_open for each in counters),
        spool_depth=sum(spool.messages for spool in node.depot.spools().values()) if node.depot is not None else 0,
        memory_bytes=sum(resident) if resident else None,
        cpu_s=sum(reading.process.cpu_seconds for reading in readings),
    )


def _sum(buckets: Buckets, *more: Durations) -> Buckets:
    return tuple(map(sum, zip(buckets, *(each.buckets for each in more), strict=True)))


async def outbox_bytes_of(plane: Plane) -> int:
    """Bytes that wait in every connection's outbox, some connections in one turn of the loop."""
    connections = list(plane.connections.values())
    waiting = 0
    for start in range(0, len(connections), 4 * SLICE):
        waiting += sum(connection.outbox.size for connection in connections[start : start + 4 * SLICE])
        await asyncio.sleep(0)
    return waiting
