"""Whose turn it is among the classes of one destination: the most important first, and a share for those below it.

Strict priority would starve the others, so they get `lower_share` of the messages, in rotation. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence


class Turns:
    def __init__(self, lower_share: float) -> None:
        self._rate = lower_share / (1 - lower_share)
        self._credit = 0.0
        self._last = -1

    def order(self, ready: Sequence[int]) -> list[int]:
        """The classes that have something, in the order in which to try them. `ready` rises."""
        if len(ready) < 2 or self._credit < 1:
            return list(ready)
        lower = ready[1:]
        later = [priority for priority in lower if priority > self._last]
        return [*later, *(priority for priority in lower if priority <= self._last), ready[0]]

    def allowance(self, priority: int, ready: Sequence[int]) -> int | None:
        """How many messages this class may send in its turn; None: as many as it likes."""
        return None if priority == ready[0] or self._rate == 0 else max(1, int(self._credit))

    def took(self, priority: int, count: int, ready: Sequence[int]) -> None:
        if len(ready) < 2:
            self._credit = 0.0
        elif priority == ready[0]:
            self._credit += count * self._rate
        else:
            self._credit = max(0.0, self._credit - count)
            self._last = priority
