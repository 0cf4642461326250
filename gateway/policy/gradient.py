"""A concurrency limit that follows latency, after Netflix's Gradient and Envoy's adaptive concurrency. Pure: brings no
clock.

Answers are looked at in windows. Each moves the limit by the gradient: how many times the least latency, with its
tolerance, goes into the window's average (at most 1, at least one half), plus the square root of the limit as room to
grow. Where latency stays, the limit grows; where it rises because requests queue at the responder, it falls to what
that does without queueing. A limit that nobody comes near is left alone: nothing was learned of it.

The least latency is measured again now and then, at the least limit, where nothing of ours can queue: a service that
has become slower for good must not be taken to be overloaded for ever.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.policy.traffic import Adaptive

#: A window ends after this time (Envoy: concurrency_update_interval 0.1 s) and with so many answers at least.
WINDOW_S: Final = 0.1
MIN_ANSWERS: Final = 10
#: How much of the way to its new value the limit goes in one window.
SMOOTHING: Final = 0.4
#: Seconds between two measurements of the least latency (Envoy's min_rtt_calc_params.interval: 60 s by default).
MEASURE_S: Final = 60.0
#: Answers that make a measurement (Envoy's request_count: 50), and how long one may take at most.
MEASURE_ANSWERS: Final = 50
MEASURE_AT_MOST_S: Final = 5.0
_LEAST_GRADIENT: Final = 0.5


class GradientLimit:
    """`limit`: requests that may be open at once. `least_s`: the least latency, 0 until it is known; `latest_s`: that
    of the last window. `measuring`: the least latency is being measured, at the least limit."""

    __slots__ = (
        "_answers",
        "_busy_s",
        "_ends_at",
        "_limit",
        "_measure_at",
        "_most_open",
        "_settling",
        "_started_at",
        "_stop_at",
        "latest_s",
        "least_s",
        "limit",
        "measuring",
        "rules",
    )

    def __init__(self, rules: Adaptive, now: float) -> None:
        self.rules = rules
        self._limit = float(rules.min_limit)
        self.limit = rules.min_limit
        self.least_s = 0.0
        self.latest_s = 0.0
        self.measuring = False
        self._measure_at = now + MEASURE_S
        self._stop_at = 0.0
        self._started_at = 0.0
        self._settling = False
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._answers = 0
        self._busy_s = 0.0
        self._most_open = 0
        self._ends_at = now + WINDOW_S

    def answered(self, seconds: float, open_: int, now: float) -> None:
        """A request took `seconds`; so many were open with it, itself included."""
        if self.measuring:
            self._measured(seconds, open_, now)
            return
        self._answers += 1
        self._busy_s += seconds
        if open_ > self._most_open:
            self._most_open = open_
        if now >= self._ends_at and self._answers >= MIN_ANSWERS:
            self._move(now)

    def _move(self, now: float) -> None:
        latest = self.latest_s = self._busy_s / self._answers
        if not self.least_s or latest < self.least_s:
            self.least_s = latest
        gradient = 1.0
        if latest > 0.0:
            gradient = max(_LEAST_GRADIENT, min(1.0, self.rules.tolerance * self.least_s / latest))
        # Where less than half of the limit is used, it is not what holds anybody back.
        if gradient < 1.0 or self._most_open * 2 >= self._limit:
            aim = self._limit * gradient + sqrt(self._limit)
            self._limit += SMOOTHING * (aim - self._limit)
            self._limit = min(float(self.rules.max_limit), max(float(self.rules.min_limit), self._limit))
            self.limit = int(self._limit)
        if now >= self._measure_at:
            self.measuring = True
            self._settling = True
            self._stop_at = now + MEASURE_AT_MOST_S
            self.limit = self.rules.min_limit
        self._begin(now)

    def _measured(self, seconds: float, open_: int, now: float) -> None:
        if self._settling:
            # What came before queues still; only requests that were begun after it has gone say anything.
            if open_ <= self.rules.min_limit:
                self._settling = False
                self._started_at = now
            elif now < self._stop_at:
                return
        if now - seconds >= self._started_at and not self._settling:
            self._answers += 1
            self._busy_s += seconds
        if self._answers < MEASURE_ANSWERS and now < self._stop_at:
            return
        if self._answers >= MIN_ANSWERS:
            self.least_s = self.latest_s = self._busy_s / self._answers
        self.measuring = False
        self._measure_at = now + MEASURE_S
        self.limit = int(self._limit)
        self._begin(now)
