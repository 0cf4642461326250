"""Says in the log which limits refuse something, without a line for each refusal.

The data plane does not log, and what strangers do must not fill a disk: the counters are looked at now and then. The
first refusal of a kind is said at once, those that follow once in `QUIET_S`, with their number. Knows nothing of what
the reasons mean: they are the labels of the counters, which for a limit is its name in the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.observe.metrics import Counters

QUIET_S: Final = 60.0
#: Ends that are nobody's fault and happen all the time.
ORDINARY: Final = frozenset(
    {
        "peer_closed",
        "peer_reset",
        "peer_failed",
        "drained",
        "taken_over",
        "token_expired",
        "resumed",
        "resume_expired",
    }
)


class RefusalLog:
    """`say(reason, count)` is called for what was refused or closed `count` times since it was called last."""

    def __init__(self, counters: Counters, say: Callable[[str, int], None]) -> None:
        self._counters = counters
        self._say = say
        self._told: dict[str, int] = {}
        self._told_at: dict[str, float] = {}

    def tick(self, now: float) -> None:
        """Look at the counters; `now` in seconds of a monotonic clock."""
        for kind, table in (("", self._counters.refusals), ("closed ", self._counters.closes)):
            for reason, count in table.items():
                key = kind + reason
                told = self._told.get(key, 0)
                if count == told or reason in ORDINARY:
                    continue
                last = self._told_at.get(key)
                if last is None or now - last >= QUIET_S:
                    self._told[key] = count
                    self._told_at[key] = now
                    self._say(reason, count - told)
