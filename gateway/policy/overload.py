"""How overloaded the node is, told by how late its event loop runs: what to say no to before everything slows down.

A delay lasts: whoever is let in the moment after a stall makes the next one. So a level holds for a second after the
last delay that gave reason for it. Knows nothing of what is given up at each level.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

#: How long a level holds after the last delay of its kind, in seconds.
HOLD_S: Final = 1.0


class Overload(IntEnum):
    """Each level holds with those before it."""

    NONE = 0
    LATE = 1
    SHEDDING = 2


class LoopLoad:
    """`warn_s` and `shed_s`: delays of the event loop from which on it is late, or too late to let anybody in."""

    def __init__(self, warn_s: float, shed_s: float) -> None:
        self.level = Overload.NONE
        self._bounds = ((Overload.SHEDDING, shed_s), (Overload.LATE, warn_s))
        self._until = {Overload.SHEDDING: 0.0, Overload.LATE: 0.0}

    def observe(self, late_s: float, now: float) -> Overload:
        """A timer ran `late_s` seconds after its time, at `now` seconds of a monotonic clock. Returns the level."""
        self.level = Overload.NONE
        for level, bound in self._bounds:
            if late_s >= bound:
                self._until[level] = now + HOLD_S
            if now < self._until[level] and not self.level:
                self.level = level
        return self.level
