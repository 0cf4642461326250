"""Who has failed too often: ten failures a minute for an address or a name, then nothing for five minutes (fault 63).

Kept in memory, of at most so many addresses and names; whoever fails under many names still fails from one address.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from gateway.errors import TooManyAttempts

MAX_FAILURES = 10
WINDOW_S = 60.0
BAN_S = 300.0
MAX_KEPT = 10_000


class Attempts:
    """`monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._banned: OrderedDict[str, float] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raises TooManyAttempts when one of them is banned."""
        now = self._monotonic()
        for key in keys:
            until = self._banned.get(key)
            if until is None:
                continue
            if until > now:
                raise TooManyAttempts("too many failed attempts; wait", retry_after_s=until - now)
            del self._banned[key]

    def failed(self, *keys: str) -> None:
        now = self._monotonic()
        for key in keys:
            if not key:
                continue
            times = self._failures.setdefault(key, deque(maxlen=MAX_FAILURES))
            self._failures.move_to_end(key)
            times.append(now)
            if len(times) == MAX_FAILURES and now - times[0] <= WINDOW_S:
                del self._failures[key]
                self._banned[key] = now + BAN_S
        for kept in (self._failures, self._banned):
            while len(kept) > MAX_KEPT:
                kept.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        for key in keys:
            self._failures.pop(key, None)
