"""When what is under way is over: one wheel for all deadlines of a plane, and one timer at most.

A request costs two moves of pointers: in when it opens, out when it ends. Nothing of one that has ended stays behind,
however long its deadline would have been. Slots are 4 ms wide: nothing is due early, and all at most that much late,
beside what the loop itself is late. What is due within the next 4096 slots (16 s) hangs in the slot of its tick; what
is due later hangs in one list for each 4096 ticks, and moves into slots when those begin.

The timer is armed for the first slot that may hold something. It is left alone when that empties: it then finds
nothing and is armed for the next one, or for none. So short calls under a long deadline set no timers.

Must not know: streams, what happens when something is due.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

SLOT_S: Final = 0.004
SLOTS: Final = 4096
#: Timers of loops go by whole milliseconds and may come that much early.
COARSE_S: Final = 0.0005
_SLOT_S = SLOT_S
_SLOTS = SLOTS
_MASK = SLOTS - 1
_SHIFT = 12
#: No tick at all.
_NEVER = 1 << 60


class Timer(Protocol):
    def cancel(self) -> object: ...


Later = Callable[[float, Callable[[], None]], Timer]


class Due:
    """What can be due, at one time at most. `tick` 0: it is not."""

    __slots__ = ("_after", "_before", "tick")

    def __init__(self) -> None:
        self.tick = 0
        self._before: Due | None = None
        self._after: Due | None = None

    @abstractmethod
    def overdue(self) -> None:
        """Its time has come, and it is out of the wheel. It may be put in again."""


class Deadlines:
    """`clock`: seconds, monotonic; `later(seconds, callback)` calls once. `len()`: how many are in it."""

    __slots__ = ("_armed", "_clock", "_count", "_done", "_far", "_later", "_near", "_timer")

    def __init__(self, clock: Callable[[], float], later: Later) -> None:
        self._clock = clock
        self._later = later
        self._near: list[Due | None] = [None] * _SLOTS
        self._far: dict[int, Due] = {}
        #: All ticks up to this one are over.
        self._done = 0
        #: The tick that the timer is for.
        self._armed = _NEVER
        self._timer: Timer | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def armed(self) -> bool:
        """Whether a timer is set."""
        return self._timer is not None

    def put(self, due: Due, at: float, now: float) -> None:
        """Have `due` be told at `at`, or at the next slot if that is over; `now`: a reading of the clock that may be
        a moment old. One that is in already is moved."""
        if due.tick:
            self.take(due)
        began = int(now / _SLOT_S)
        if began > self._done:
            # Nothing is due before the timer.
            self._done = began if began < self._armed else self._armed - 1
        tick = int(at / _SLOT_S) + 1
        if tick <= self._done:
            tick = self._done + 1
        due.tick = tick
        self._hang(due)
        self._count += 1
        first = tick if tick <= self._done + _SLOTS else tick >> _SHIFT << _SHIFT
        if first < self._armed:
            self._arm(first, now)

    def take(self, due: Due) -> None:
        """It is not due any more. One that is not in is left alone."""
        if due.tick:
            self._unhang(due)
            due.tick = 0
            self._count -= 1

    def _hang(self, due: Due) -> None:
        tick = due.tick
        if tick <= self._done + _SLOTS:
            first = self._near[tick & _MASK]
            self._near[tick & _MASK] = due
        else:
            first = self._far.get(tick >> _SHIFT)
            self._far[tick >> _SHIFT] = due
        due._after = first
        if first is not None:
            first._before = due

    def _unhang(self, due: Due) -> None:
        before, after = due._before, due._after
        due._before = due._after = None
        if after is not None:
            after._before = before
        if before is not None:
            before._after = after
            return
        tick = due.tick
        if self._near[tick & _MASK] is due:
            self._near[tick & _MASK] = after
        elif after is not None:
            self._far[tick >> _SHIFT] = after
        else:
            del self._far[tick >> _SHIFT]

    def _arm(self, tick: int, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        wait_s = tick * _SLOT_S - now
        self._timer = self._later((wait_s if wait_s > 0.0 else 0.0) + COARSE_S, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock()
        last = int(now / _SLOT_S)
        tick = self._armed
        self._armed = _NEVER
        while tick <= last:
            self._done = tick - 1
            if not tick & _MASK:
                self._draw_near(tick >> _SHIFT)
            self._tell(tick)
            tick = self._first(tick + 1)
        # Whoever was told may have armed it for less.
        if tick < self._armed:
            self._arm(tick, now)

    def _draw_near(self, block: int) -> None:
        """The ticks of a block of 1024 begin."""
        due = self._far.pop(block, None)
        while due is not None:
            after = due._after
            due._before = None
            self._hang(due)
            due = after

    def _tell(self, tick: int) -> None:
        while True:
            due = self._near[tick & _MASK]
            if due is None:
                return
            self.take(due)
            due.overdue()

    def _first(self, tick: int) -> int:
        """The first tick from this one on for which there is something to do."""
        if not self._count:
            return _NEVER
        far = min(self._far) << _SHIFT if self._far else _NEVER
        end = self._done + _SLOTS
        near = self._near
        while tick <= end and tick < far:
            if near[tick & _MASK] is not None:
                return tick
            tick += 1
        return far
