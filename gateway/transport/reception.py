"""Where strangers wait: what they ask for before they are let in costs a hundred times what a frame costs.

A handshake and a SETUP with its token and its routes are 100 to 200 µs each, so that a storm of devices that come back,
or an attacker who never stops coming, could keep everybody else from being served for as long as it lasts. They stand
in line, first come, first served, and a loop turn goes on with them for `TURN_S`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

#: What a loop turn may spend on strangers, in seconds; the last of them may take it a little beyond.
TURN_S: Final = 0.001


class Reception:
    """One line for all listeners of a node. `schedule` runs a callback in the next loop turn, `monotonic` is in s."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object], monotonic: Callable[[], float]) -> None:
        self._schedule = schedule
        self._monotonic = monotonic
        self._line: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._line)

    def queue(self, work: Callable[[], None]) -> None:
        """Do `work` when it is its turn."""
        self._line.append(work)
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._serve)

    def _serve(self) -> None:
        until = self._monotonic() + TURN_S
        line = self._line
        try:
            while line:
                line.popleft()()
                if self._monotonic() >= until:
                    break
        finally:
            # Also after a bug, which must not cost those who stand behind it.
            self._scheduled = bool(line)
            if line:
                self._schedule(self._serve)
