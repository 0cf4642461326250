"""The wheel of deadlines, by a clock that stands still: what is told when, and what stays behind."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable
from random import Random

import pytest

from gateway.forwarding.deadlines import COARSE_S, SLOT_S, SLOTS, Deadlines, Due

FAR_S = SLOT_S * SLOTS


class Loop:
    """Timers as a loop keeps them. `early_s`: how much too early they come."""

    def __init__(self, early_s: float = 0.0) -> None:
        self.now = 1234.5
        self.early_s = early_s
        self.fired = 0
        self.timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        assert seconds >= 0.0
        timer = Timer(callback)
        heapq.heappush(self.timers, (self.now + seconds - self.early_s, next(self._numbers), timer))
        return timer

    @property
    def armed(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self.timers)

    def run(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            at, _, timer = heapq.heappop(self.timers)
            if not timer.cancelled:
                self.now = max(self.now, at)
                self.fired += 1
                timer.callback()
        self.now = until


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Told(Due):
    def __init__(self, loop: Loop, then: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.loop = loop
        self.then = then
        self.at: list[float] = []

    def overdue(self) -> None:
        assert not self.tick
        self.at.append(self.loop.now)
        if self.then is not None:
            self.then()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def wheel(loop: Loop) -> Deadlines:
    return Deadlines(loop.clock, loop.later)


def in_time(at: float, told: float) -> bool:
    return at <= told <= at + SLOT_S + 2 * COARSE_S


@pytest.mark.parametrize(
    "after_s", [0.0, 0.001, SLOT_S, 0.25, FAR_S - SLOT_S, FAR_S, FAR_S + SLOT_S, 5.0, 60.0, 86_400.0]
)
def test_each_is_told_in_its_slot_and_then_nothing_is_armed(loop: Loop, wheel: Deadlines, after_s: float) -> None:
    due = Told(loop)
    at = loop.now + after_s
    wheel.put(due, at, loop.now)
    assert (len(wheel), wheel.armed, loop.armed) == (1, True, 1)
    loop.run(at + 1)
    assert len(due.at) == 1
    assert in_time(at, due.at[0])
    assert (len(wheel), wheel.armed, loop.armed, due.tick) == (0, False, 0, 0)


def test_what_is_over_already_is_told_at_the_next_slot(loop: Loop, wheel: Deadlines) -> None:
    due = Told(loop)
    wheel.put(due, loop.now - 100, loop.now)
    loop.run(loop.now + 0.1)
    assert len(due.at) == 1


def test_one_that_was_taken_out_is_never_told(loop: Loop, wheel: Deadlines) -> None:
    dues = [Told(loop) for _ in range(6)]
    for index, due in enumerate(dues):
        wheel.put(due, loop.now + (0.1 if index < 3 else 9.0), loop.now)
    for taken in (dues[1], dues[4], dues[0], dues[5], dues[5]):
        wheel.take(taken)
    assert len(wheel) == 2
    loop.run(loop.now + 10)
    assert [len(due.at) for due in dues] == [0, 0, 1, 1, 0, 0]
    assert not wheel.armed


def test_one_that_is_put_in_again_is_moved(loop: Loop, wheel: Deadlines) -> None:
    due = Told(loop)
    wheel.put(due, loop.now + 5, loop.now)
    sooner = loop.now + 0.5
    wheel.put(due, sooner, loop.now)
    assert (len(wheel), loop.armed) == (1, 1)
    loop.run(loop.now + 10)
    assert len(due.at) == 1
    assert in_time(sooner, due.at[0])


def test_whoever_is_told_may_put_in_and_take_out(loop: Loop, wheel: Deadlines) -> None:
    """What is due in the same slot too, what comes at once, and itself."""
    other = Told(loop)
    start = loop.now

    def again() -> None:
        wheel.take(other)
        if len(first.at) < 4:
            wheel.put(first, loop.now + len(first.at) * 3.0, loop.now)

    first = Told(loop, again)
    wheel.put(other, start + 1, start)
    wheel.put(first, start + 1, start)
    loop.run(start + 100)
    assert [round(at - start) for at in first.at] == [1, 4, 10, 19]
    assert other.at == []
    assert not wheel.armed


def test_timers_that_come_early_tell_nobody_early() -> None:
    """By less than they round, or by what the loop's clock was behind when they were set."""
    loop = Loop(early_s=0.0004)
    wheel = Deadlines(loop.clock, loop.later)
    due = Told(loop)
    at = loop.now + 0.5
    loop.now -= 0.05
    wheel.put(due, at, loop.now + 0.05)
    loop.run(at + 1)
    assert in_time(at, due.at[0])
    assert loop.fired <= 3


def test_after_the_loop_stood_still_all_are_told_at_once_in_their_order(loop: Loop, wheel: Deadlines) -> None:
    order: list[int] = []
    start = loop.now
    for number, after_s in enumerate([0.1, 0.2, 3.9, 4.2, 9.0, 50.0]):
        wheel.put(Told(loop, lambda number=number: order.append(number)), start + after_s, start)  # type: ignore[misc]
    loop.now = start + 20  # the timer for 0.1 s comes now
    loop.run(start + 20)
    assert order == [0, 1, 2, 3, 4]
    loop.run(start + 51)
    assert order == [0, 1, 2, 3, 4, 5]


def test_against_a_list(loop: Loop, wheel: Deadlines) -> None:
    """Random deadlines put in, moved and taken out: each that stays in is told once, in time, and no other."""
    random = Random(5)
    expected: dict[Told, float] = {}
    alive: list[Told] = []
    for _ in range(4000):
        what = random.random()
        if what < 0.5 or not alive:
            alive.append(Told(loop))
            chosen = alive[-1]
        else:
            chosen = random.choice(alive)
        if what < 0.7:
            if not chosen.at:
                expected[chosen] = loop.now + random.choice([0.0, 0.01, 0.3, 3.0, 5.0, 30.0]) * (0.5 + random.random())
                wheel.put(chosen, expected[chosen], loop.now)
        elif what < 0.8:
            if not chosen.at:
                wheel.take(chosen)
                expected.pop(chosen, None)
        else:
            loop.run(loop.now + random.choice([0.0005, 0.02, 0.5]))
    loop.run(loop.now + 100)
    assert (len(wheel), wheel.armed) == (0, False)
    for due in alive:
        assert len(due.at) == (due in expected)
        if due.at:
            assert in_time(expected[due], due.at[0])


def test_short_calls_under_a_long_deadline_leave_nothing_and_set_no_timers(loop: Loop, wheel: Deadlines) -> None:
    """100,000 calls of a millisecond with 5 s to go: no more is held than is under way."""
    start = loop.now
    before = sys.getallocatedblocks()
    for _ in range(100_000):
        due = Told(loop)
        wheel.put(due, loop.now + 5.0, loop.now)
        loop.run(loop.now + 0.001)
        wheel.take(due)
    del due
    assert len(wheel) == 0
    assert sys.getallocatedblocks() - before < 2000
    assert loop.fired <= (loop.now - start) / 5.0 + 1
    loop.run(loop.now + FAR_S)
    assert not wheel.armed
