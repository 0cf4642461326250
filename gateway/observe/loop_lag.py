"""How late the event loop is: a timer that reports by how much it missed its time.

Whatever holds the loop (a long turn of the data plane, a collection, a swapped-out machine) delays every connection by
as much, so this is the node's first sign of overload. Must not know: what is done with the figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.5


class LoopLagProbe:
    """Calls ``report(seconds)`` every half second from the running loop, between ``start`` and ``stop``."""

    def __init__(self, report: Callable[[float], None], interval: float = INTERVAL_SECONDS) -> None:
        self._report = report
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        # Not the loop's clock: uvloop's is read once a turn and in whole milliseconds.
        self._due = time.monotonic() + self._interval
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._fire)

    def _fire(self) -> None:
        self._report(max(0.0, time.monotonic() - self._due))
        self._arm()
