"""Who goes first when not all can: room in a limit is kept for requests of a higher priority. Pure: brings no clock.

Priorities are 0, which goes first, to 7. A request is admitted while fewer are open than the limit; one of a lower
priority leaves free besides what those before it have lately used or been refused. So the limit is exact, all of it may
be used by one priority alone, and when it is reached the lowest are shed first. An overloaded node sheds those that
were declared less important than usual.
"""

from __future__ import annotations

from typing import Final

from gateway.policy.overload import Overload

PRIORITIES: Final = 8
#: The least important priority that is still served at each level of overload.
SERVED: Final = {Overload.NONE: 7, Overload.LATE: 5, Overload.SHEDDING: 4}
#: How long what a priority needed is remembered, in seconds: between once and twice.
REMEMBER_S: Final = 1.0


class Shedder:
    """The requests of one service that are open, by priority. `open`: all of them; `shed`: refusals, by priority."""

    __slots__ = ("_lowest", "_needed", "_needed_before", "_open", "_turn_at", "open", "shed")

    def __init__(self, now: float) -> None:
        self.open = 0
        self.shed = [0] * PRIORITIES
        self._open = [0] * PRIORITIES
        self._needed = [0] * PRIORITIES
        self._needed_before = [0] * PRIORITIES
        self._lowest = PRIORITIES
        self._turn_at = now + REMEMBER_S

    def admit(self, priority: int, limit: int, now: float) -> bool:
        """Ask for one request under `limit` (0: none); it is open until `ended`."""
        if now >= self._turn_at:
            self._turn(now)
        if limit and self.open + (self._kept_for(priority) if priority > self._lowest else 0) >= limit:
            self.shed[priority] += 1
            needed = self._needed[priority] + 1
            self._need(priority, needed if needed < limit else limit)
            return False
        self.open += 1
        open_ = self._open[priority] + 1
        self._open[priority] = open_
        if open_ > self._needed[priority]:
            self._need(priority, open_)
        return True

    def ended(self, priority: int) -> None:
        self.open -= 1
        self._open[priority] -= 1

    def open_of(self, priority: int) -> int:
        return self._open[priority]

    def _need(self, priority: int, needed: int) -> None:
        self._needed[priority] = needed
        if priority < self._lowest:
            self._lowest = priority

    def _kept_for(self, priority: int) -> int:
        """What those who go before this priority may want yet."""
        kept = 0
        for each in range(self._lowest, priority):
            needed = max(self._needed[each], self._needed_before[each])
            if needed > self._open[each]:
                kept += needed - self._open[each]
        return kept

    def _turn(self, now: float) -> None:
        stale = now >= self._turn_at + REMEMBER_S
        self._turn_at = now + REMEMBER_S
        self._needed_before = [0] * PRIORITIES if stale else self._needed
        # What is open is needed.
        self._needed = list(self._open)
        self._lowest = PRIORITIES
        for each in range(PRIORITIES - 1, -1, -1):
            if self._needed[each] or self._needed_before[each]:
                self._lowest = each


def serves(priority: int, overload: Overload) -> bool:
    """Whether an overloaded node takes requests of this priority."""
    return priority <= SERVED[overload]
