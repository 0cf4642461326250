"""What has arrived of one epoch of one sender: the receiver's half of "exactly once". Pure: no I/O.

`settled` is the highest number below which nothing is awaited; what came ahead of it is kept as ranges, few, because a
sender keeps few in flight. A sender tells its `floor`: what is below it never comes (expired, evicted, dropped), so the
gap is counted as missing and closed (fault 77).
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Ranges ahead that are kept; a sender that leaves more holes gives up on the lowest.
MAX_RANGES = 1024


@dataclass(slots=True)
class Arrivals:
    """`above`: disjoint ranges [first, last] beyond `settled + 1`, rising."""

    settled: int = 0
    above: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0

    def has(self, seq: int) -> bool:
        return seq <= self.settled or any(first <= seq <= last for first, last in self.above)

    def add(self, seq: int) -> bool:
        """Whether it is new; then it is remembered. A gap before it is no reason to refuse it."""
        if seq == self.settled + 1 and not self.above:
            self.settled = seq
            return True
        if self.has(seq):
            return False
        at = len(self.above)
        while at and self.above[at - 1][0] > seq:
            at -= 1
        first = last = seq
        if at < len(self.above) and self.above[at][0] == seq + 1:
            last = self.above.pop(at)[1]
        if at and self.above[at - 1][1] == seq - 1:
            at -= 1
            first = self.above.pop(at)[0]
        self.above.insert(at, (first, last))
        self._close()
        if len(self.above) > MAX_RANGES:
            self.advance(self.above[0][0])
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
