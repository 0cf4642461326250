"""When a device was claimed, in an order that all nodes agree on: a hybrid logical clock.

A stamp is 64 bits: 48 of milliseconds since 1970 and 16 that count within one. Stamps of one clock only grow, and are
above every stamp that it has observed.
"""

from __future__ import annotations

COUNTER_BITS = 16
LARGEST = (1 << 64) - 1
#: How far ahead of this node's clock a stamp may be. Beyond it the sender's clock is wrong, and its word is cut short.
AHEAD_MS = 60_000


class HybridClock:
    """One a node."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def stamp(self, now_ms: int) -> int:
        """A stamp above all before it."""
        self._last = max(now_ms << COUNTER_BITS, self._last + 1)
        return self._last

    def observe(self, stamp: int, now_ms: int) -> int:
        """Takes notice of another node's stamp; returns it, cut to what may be believed at `now_ms`."""
        believed = min(stamp, (now_ms + AHEAD_MS) << COUNTER_BITS)
        self._last = max(self._last, believed)
        return believed


def stamp_ms(stamp: int) -> int:
    return stamp >> COUNTER_BITS
