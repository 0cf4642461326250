"""How old a message is, on hosts whose clock may be wrong.

Each message carries two times: how long the store had been running (monotonic time, summed over its runs) and what the
wall clock said. The first cannot be wrong and misses the time without power; the second knows that time and may be
anything.

* Accepted in this run: the monotonic age, whatever the wall clock does.
* Accepted before: at least the monotonic age. The wall clock's answer counts where it is no less than that and claims
  no more than `MAX_OFF_MS` without power; else it is not believed, and the message is kept. It counts once the clock
  has had `SETTLE_MS` to be set after a start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_OFF_MS = 90 * 24 * 3600 * 1000
SETTLE_MS = 60 * 1000


def _monotonic() -> float:
    """Seconds, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from, in seconds."""

    monotonic: Callable[[], float] = _monotonic
    wall: Callable[[], float] = time.time


class Timeline:
    """The store's time. `run_before`: for how long it had run before, in ms."""

    def __init__(self, clock: Clock, run_before: int) -> None:
        self.started = run_before + 1
        self._clock = clock
        self._origin = clock.monotonic()

    def running(self) -> int:
        return self.started + max(0, int((self._clock.monotonic() - self._origin) * 1000))

    def wall(self) -> int:
        return int(self._clock.wall() * 1000)

    def age(self, running: int, wall: int, now: int | None = None) -> int:
        """Milliseconds since a message with these two times was accepted. `now`: what `running` said, for many."""
        if now is None:
            now = self.running()
        certain = max(0, now - running)
        if running >= self.started or now - self.started < SETTLE_MS:
            return certain
        claimed = self.wall() - wall
        return claimed if certain <= claimed <= certain + MAX_OFF_MS else certain
