"""Timers for a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable


class Timer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """`later` begins one; `due` says which come next until a time, in their order."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.pending: list[Timer] = []

    def later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self._monotonic() + delay_s, callback)
        self.pending.append(timer)
        return timer

    def next(self, until: float) -> Timer | None:
        """The earliest that is due by then, which is begun no more."""
        self.pending = [timer for timer in self.pending if not timer.cancelled]
        first = min(self.pending, key=lambda timer: timer.at, default=None)
        if first is None or first.at > until:
            return None
        self.pending.remove(first)
        return first
