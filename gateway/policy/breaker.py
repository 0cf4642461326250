"""One service's circuit breaker, after Hystrix: closed, open, half-open, by exact counts. Pure: whoever asks brings the
time, in seconds of a monotonic clock.

Closed, it counts how requests ended in a window of ten steps; it opens when of enough of them too many failed. Open, it
lets none through for `sleep_s`. Half-open, it lets `probes` through: all must end well to close it, one failure opens
it again. What was let through in an earlier state says nothing of a later one, so each request carries the ticket under
which it went. A probe whose end is not known within another `sleep_s` is replaced: else one stream that stays open
would keep everybody else out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.policy.traffic import Breaker

#: Parts of the window; the oldest is forgotten whole (Hystrix: metrics.rollingStats.numBuckets).
STEPS: Final = 10
_NEVER: Final = -1


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


_CLOSED = State.CLOSED
_HALF_OPEN = State.HALF_OPEN


class CircuitBreaker:
    """`state` as of the last request; `since`: when it was entered. `opened`, `refused`: how often it opened, and how
    many requests it has kept back."""

    __slots__ = (
        "_all",
        "_failed",
        "_fails",
        "_failure_share",
        "_min_requests",
        "_probe_again_at",
        "_probes_left",
        "_proved",
        "_requests",
        "_step",
        "_ticket",
        "_width_s",
        "opened",
        "refused",
        "rules",
        "since",
        "state",
    )

    def __init__(self, rules: Breaker, now: float) -> None:
        self.rules = rules
        self.state = _CLOSED
        self.since = now
        self.opened = 0
        self.refused = 0
        self._ticket = 1
        self._width_s = rules.window_s / STEPS
        self._min_requests = rules.min_requests
        self._failure_share = rules.failure_share
        self._probes_left = 0
        self._proved = 0
        self._probe_again_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self._step = _NEVER
        self._all = [0] * STEPS
        self._failed = [0] * STEPS
        self._requests = 0
        self._fails = 0

    @property
    def requests(self) -> int:
        """How many have ended within the window, as of the last one."""
        return self._requests

    @property
    def failures(self) -> int:
        return self._fails

    def admit(self, now: float) -> int:
        """Ask for one request. Returns its ticket, for `ended` or `released`; 0 where it may not go."""
        if self.state is _CLOSED:
            return self._ticket
        if self.state is not _HALF_OPEN:
            if now < self.since + self.rules.sleep_s:
                self.refused += 1
                return 0
            self._enter(_HALF_OPEN, now)
            self._probe(now)
        elif not self._probes_left and now >= self._probe_again_at:
            self._ticket += 1
            self._probe(now)
        if not self._probes_left:
            self.refused += 1
            return 0
        self._probes_left -= 1
        return self._ticket

    def retry_after_s(self, now: float) -> float:
        """Seconds until a request may be let through again; 0 where one may now."""
        if self.state is State.OPEN:
            return max(0.0, self.since + self.rules.sleep_s - now)
        if self.state is _HALF_OPEN and not self._probes_left:
            return max(0.0, self._probe_again_at - now)
        return 0.0

    def ended(self, ticket: int, failed: bool, now: float) -> None:
        """The request with this ticket ended, well or not."""
        if ticket != self._ticket:
            return
        if self.state is _CLOSED:
            self._count(failed, now)
        elif failed:
            self._open(now)
        else:
            self._proved += 1
            if self._proved >= self.rules.probes:
                self.reset(now)

    def released(self, ticket: int) -> None:
        """The request with this ticket ended in a way that says nothing of the service: it was canceled."""
        if ticket == self._ticket and self.state is _HALF_OPEN:
            self._probes_left += 1

    def reset(self, now: float) -> None:
        """Close it, and forget what was counted."""
        self._enter(_CLOSED, now)
        self._forget()

    def _count(self, failed: bool, now: float) -> None:
        step = int(now / self._width_s)
        if step != self._step:
            self._move_to(step)
        at = step % STEPS
        self._all[at] += 1
        self._requests += 1
        if failed:
            self._failed[at] += 1
            self._fails += 1
        if not self._fails or self._requests < self._min_requests:
            return
        # As products, and with room for what floats lose: 3 of 10 is not below a share of 0.3.
        if self._fails >= self._failure_share * self._requests - 1e-9:
            self._open(now)

    def _move_to(self, step: int) -> None:
        passed = STEPS if self._step == _NEVER else min(STEPS, step - self._step)
        for index in range(step - passed + 1, step + 1):
            at = index % STEPS
            self._requests -= self._all[at]
            self._fails -= self._failed[at]
            self._all[at] = self._failed[at] = 0
        self._step = step

    def _open(self, now: float) -> None:
        self._enter(State.OPEN, now)
        self.opened += 1

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self.since = now
        self._ticket += 1

    def _probe(self, now: float) -> None:
        self._probes_left = self.rules.probes
        self._proved = 0
        self._probe_again_at = now + self.rules.sleep_s
