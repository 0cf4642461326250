"""How fast a backlog is replayed: an adaptive window over the time acknowledgements take, and an optional cap.

Additive increase while acknowledgements come about as fast as they ever did, multiplicative decrease once they take
`SLOW` times that: then queues are growing somewhere, and live traffic stands in them too. Pure: takes `now` in seconds.
"""

from __future__ import annotations

MIN_WINDOW = 16
STEP = 256
SLOW = 4.0
#: Below this nobody is disturbed, in seconds.
UNNOTICED_S = 0.1
#: How long the fastest acknowledgement is remembered, in seconds: paths change.
MEMORY_S = 60.0


class Pace:
    """`window`: messages that may be in flight. `bytes_per_second`: what the link is known to carry, of which
    `live_reserve` is left to live traffic; None: not known, then the window alone decides."""

    def __init__(
        self,
        *,
        window: int = 512,
        max_window: int = 16_384,
        bytes_per_second: float | None = None,
        live_reserve: float = 0.2,
    ) -> None:
        self.max_window = max_window
        self._window = float(min(window, max_window))
        self._rate = None if bytes_per_second is None else bytes_per_second * (1 - live_reserve)
        self._tokens = 0.0 if self._rate is None else self._rate / 10
        self._filled_at: float | None = None
        self._fastest = float("inf")
        self._fastest_at = 0.0
        self._cut_at = float("-inf")

    @property
    def window(self) -> int:
        return int(self._window)

    def wait(self, now: float) -> float:
        """Seconds until the cap lets the next batch go; 0: now."""
        if self._rate is None:
            return 0.0
        if self._filled_at is not None:
            # A tenth of a second of burst, so that an idle link does not earn a flood.
            self._tokens = min(self._rate / 10, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return 0.0 if self._tokens > -1 else -self._tokens / self._rate

    def sent(self, size: int) -> None:
        self._tokens -= size

    def acknowledged(self, now: float, latency: float, count: int) -> None:
        """A batch of `count` messages was acknowledged `latency` seconds after it was sent."""
        if latency < self._fastest or now - self._fastest_at > MEMORY_S:
            self._fastest, self._fastest_at = latency, now
        if latency > max(UNNOTICED_S, SLOW * self._fastest):
            self._cut(now, latency)
        else:
            self._window = min(float(self.max_window), self._window + STEP * count / self._window)

    def lost(self, now: float) -> None:
        """A batch failed."""
        self._cut(now, 0.0)

    def _cut(self, now: float, latency: float) -> None:
        # Batches that were in flight together are slow together: they count once.
        if now - self._cut_at >= latency:
            self._window = max(float(MIN_WINDOW), self._window / 2)
            self._cut_at = now
