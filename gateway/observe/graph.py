"""Who calls whom, how often and how well, over the last minute or five: differences between the counters and what they
were. Counting costs nothing more than the counters do; every ten seconds those that have moved are noted.

A quantile is read from buckets that double, so it is right within them. Must not know: who asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from gateway.observe.metrics import Path, ServiceStats

STEP_S: Final = 10.0
#: Windows that can be asked for, in seconds.
WINDOWS: Final = (10, 60, 300)
_SHORT: Final = 60.0
_LONG_STEP_S: Final = 60.0

#: requests, ok, failed, canceled, refused, sum of seconds, buckets without the empty ones at their end
Note = tuple[int, int, int, int, int, float, tuple[int, ...]]
_NOTHING: Final[Note] = (0, 0, 0, 0, 0, 0.0, ())


@dataclass(slots=True)
class Traffic:
    """What went on in `seconds`."""

    seconds: float
    requests: int = 0
    ok: int = 0
    failed: int = 0
    canceled: int = 0
    refused: int = 0
    sum_seconds: float = 0.0
    buckets: list[int] = field(default_factory=list)

    def add(self, other: Traffic) -> None:
        self.seconds = max(self.seconds, other.seconds)
        self.requests += other.requests
        self.ok += other.ok
        self.failed += other.failed
        self.canceled += other.canceled
        self.refused += other.refused
        self.sum_seconds += other.sum_seconds
        self.buckets = [a + b for a, b in zip_longest(self.buckets, other.buckets, fillvalue=0)]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def error_share(self) -> float:
        """Of those that ended: failed at the responder, or refused here."""
        ended = self.ok + self.failed + self.canceled + self.refused
        return (self.failed + self.refused) / ended if ended else 0.0

    def quantile(self, share: float) -> float | None:
        """In seconds; None where nothing was answered."""
        whole = sum(self.buckets)
        if not whole:
            return None
        wanted = share * whole
        passed = 0
        for index, count in enumerate(self.buckets):
            if count and passed + count >= wanted:
                low = 0.0 if index == 0 else 2.0 ** (index - 1)
                return (low + (2.0**index - low) * (wanted - passed) / count) / 1e6
            passed += count
        return None


class Graph:
    """`note` what the counters say now and then; `traffic` is what they have gained."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._short: deque[tuple[float, dict[Path, Note]]] = deque([(now, {})], maxlen=round(_SHORT / STEP_S) + 1)
        self._long: deque[tuple[float, dict[Path, Note]]] = deque([(now, {})], maxlen=6)

    def note(self, now: float, paths: Mapping[Path, ServiceStats]) -> None:
        """Call it every few seconds; `now` is monotonic."""
        at, last = self._short[-1]
        if now - at < STEP_S:
            return
        noted: dict[Path, Note] = {}
        for path, stats in paths.items():
            before = last.get(path)
            noted[path] = before if before is not None and _same(before, stats) else _noted(stats)
        self._short.append((now, noted))
        if now - self._long[-1][0] >= _LONG_STEP_S:
            self._long.append((now, noted))

    def traffic(self, now: float, paths: Mapping[Path, ServiceStats], window: float) -> dict[Path, Traffic]:
        """What each path has had in the last `window` seconds, as near as was noted, and at least so long."""
        at, before = self._then(now - window)
        seconds = now - at
        found = {}
        for path, stats in paths.items():
            then = before.get(path, _NOTHING)
            if _same(then, stats):
                continue
            buckets = [a - b for a, b in zip_longest(stats.buckets, then[6], fillvalue=0)]
            while buckets and not buckets[-1]:
                buckets.pop()
            found[path] = Traffic(
                seconds,
                stats.requests - then[0],
                stats.ok - then[1],
                stats.failed - then[2],
                stats.canceled - then[3],
                stats.refused - then[4],
                stats.sum_seconds - then[5],
                buckets,
            )
        return found

    def _then(self, at: float) -> tuple[float, dict[Path, Note]]:
        known = sorted((*self._short, *self._long), key=lambda each: each[0])
        return next((each for each in reversed(known) if each[0] <= at), known[0])


def _same(note: Note, stats: ServiceStats) -> bool:
    return note[:5] == (stats.requests, stats.ok, stats.failed, stats.canceled, stats.refused)


def _noted(stats: ServiceStats) -> Note:
    buckets = list(stats.buckets)
    while buckets and not buckets[-1]:
        buckets.pop()
    return (
        stats.requests, stats.ok, stats.failed, stats.canceled, stats.refused, stats.sum_seconds, tuple(buckets),
    )  # fmt: skip


def told(traffic: Mapping[Path, Traffic]) -> list[Any]:
    """For another process of the node, as JSON can say it."""
    return [
        [path, [t.seconds, t.requests, t.ok, t.failed, t.canceled, t.refused, t.sum_seconds, t.buckets]]
        for path, t in traffic.items()
    ]


def heard(rows: Iterable[Any]) -> dict[Path, Traffic]:
    return {Path(*path): Traffic(*figures) for path, figures in rows}


def together(parts: Iterable[Mapping[Path, Traffic]], node: str) -> dict[Path, Traffic]:
    """What the processes of one node, or several ways to ask, have seen. What one passes on to another, whose `node` is
    this one, is counted where it is served."""
    whole: dict[Path, Traffic] = {}
    for part in parts:
        for path, traffic in part.items():
            if path.node == node:
                continue
            known = whole.get(path)
            if known is None:
                known = whole[path] = Traffic(0.0)
            known.add(traffic)
    return whole
