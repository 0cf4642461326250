"""Latencies counted in buckets, so that recording one allocates nothing.

Buckets are 1 µs wide up to 2 ms and then ten times wider each decade up to 20 s: within 1 % of the true value from
100 µs on. Compiled where `histogram.pxd` is used.
"""

from __future__ import annotations

from array import array

_BUCKETS = 2000 + 4 * 1800 + 1


class Histogram:
    """Durations in seconds. `count` and `longest` (seconds) are exact."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * _BUCKETS))
        self.count = 0
        self.longest = 0.0

    def record(self, seconds: float) -> None:
        micros = seconds * 1e6
        if micros < 2e3:
            bucket = int(micros)
        elif micros < 2e4:
            bucket = 1800 + int(micros / 10)
        elif micros < 2e5:
            bucket = 3600 + int(micros / 100)
        elif micros < 2e6:
            bucket = 5400 + int(micros / 1000)
        elif micros < 2e7:
            bucket = 7200 + int(micros / 10000)
        else:
            bucket = 9200
        self._counts[bucket] += 1
        self.count += 1
        if seconds > self.longest:
            self.longest = seconds

    def clear(self) -> None:
        self._counts = array("q", bytes(8 * _BUCKETS))
        self.count = 0
        self.longest = 0.0

    def quantile(self, share: float) -> float:
        """The duration, in seconds, that `share` (0 to 1) of those recorded did not exceed; 0 when there are none.

        The middle of its bucket, and never above the longest.
        """
        wanted = share * self.count
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted and bucket < _BUCKETS - 1:
                return min(_middle(bucket), self.longest)
        return self.longest


def _middle(bucket: int) -> float:
    width, first, offset = 1.0, 0, 0.0
    for decade in range(1, 5):
        start = 200 + 1800 * decade
        if bucket >= start:
            width, first, offset = 10.0**decade, start, 2e2 * 10.0**decade
    return (offset + (bucket - first + 0.5) * width) / 1e6
