"""What has arrived of one epoch of one sender: the receiver's half of "exactly once". Pure: no I/O.

`settled` is the highest number below which nothing is awaited; what came ahead of it is kept as ranges, few, because a
sender keeps few in flight. A sender tells its `floor`: what is below it never comes (expired, evicted, dropped), so the
gap is counted as missing and closed (fault 77).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

#: Ranges ahead that are kept: more than a sender has messages in flight.
MAX_RANGES = 8192
_END = float("inf")


class TooManyGaps(Exception):
    """More came ahead than is remembered: what was sent before has to come first."""


@dataclass(slots=True)
class Arrivals:
    """`above`: disjoint ranges [first, last] beyond `settled + 1`, rising."""

    settled: int = 0
    above: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0

    def add(self, seq: int) -> bool:
        """Whether it is new; then it is remembered. A gap before it is no reason to refuse it.

        Raises TooManyGaps, with nothing remembered of it.
        """
        if seq <= self.settled:
            return False
        above = self.above
        if not above:
            if seq == self.settled + 1:
                self.settled = seq
            else:
                above.append((seq, seq))
            return True
        at = bisect_right(above, (seq, _END))
        if at and above[at - 1][1] >= seq:
            return False
        joins_next = at < len(above) and above[at][0] == seq + 1
        joins_last = at > 0 and above[at - 1][1] == seq - 1
        if joins_last:
            above[at - 1] = (above[at - 1][0], above[at][1] if joins_next else seq)
            if joins_next:
                del above[at]
        elif joins_next:
            above[at] = (seq, above[at][1])
        elif len(above) >= MAX_RANGES and seq != self.settled + 1:
            raise TooManyGaps
        else:
            above.insert(at, (seq, seq))
        self._close()
        return True

    def advance(self, floor: int) -> int:
        """Nothing below `floor` is awaited any longer; how many of it never came."""
        if floor <= self.settled + 1:
            return 0
        missing = floor - 1 - self.settled
        kept = []
        for first, last in self.above:
            if first < floor:
                missing -= min(last, floor - 1) - first + 1
            if last >= floor:
                kept.append((max(first, floor), last))
        self.above = kept
        self.settled = floor - 1
        self.missing += missing
        self._close()
        return missing

    def _close(self) -> None:
        while self.above and self.above[0][0] == self.settled + 1:
            self.settled = self.above.pop(0)[1]
