"""What one connection may do that no single frame can be refused for: floods of frames that are each in order.

A connection has budgets where its profile has such limits, which a device's and a user's have and no service's or
node's. Every budget ends in one of two ways: the connection is closed (ConnectionFailed, whose reason names the limit),
or it is not read from for a while. `now` is in seconds of the plane's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import ConnectionFailed

if TYPE_CHECKING:
    from gateway.forwarding.credit import Credit
    from gateway.forwarding.endpoint import Endpoint
    from gateway.policy.limits import LimitsProfile

#: A stream that its requester ends within this time was not worth opening.
PREMATURE_S = 1.0
#: KEEPALIVE frames that go with one interval of what the client announced, and the shortest that is believed: stock
#: clients announce 0.5 s.
_KEEPALIVES = 2
_LEAST_INTERVAL_S = 0.1


class Budgets:
    """`asked`: requests that came, whatever became of them. `feeders` is always None: among the outboxes that a
    connection waits for, this is the one that nobody feeds."""

    __slots__ = (
        "_answer_waits",
        "_at",
        "_bytes",
        "_expected",
        "_interval_s",
        "_keepalives",
        "_kept_at",
        "_premature",
        "_pushed_at",
        "_pushes",
        "asked",
        "feeders",
        "limits",
    )

    def __init__(self, limits: LimitsProfile, keepalive_ms: int, now: float) -> None:
        self.limits = limits
        self.feeders: set[Endpoint] | None = None
        self.asked = 0
        self._premature = 0
        self._interval_s = max(keepalive_ms / 1000, _LEAST_INTERVAL_S)
        self._keepalives = float(limits.keepalive_burst + _KEEPALIVES)
        self._kept_at = now
        self._expected = 0
        self._answer_waits = False
        self._pushes = float(limits.pushes_per_second)
        self._pushed_at = now
        self._bytes = float(limits.bytes_per_second)
        self._at = now

    def premature_end(self, open_streams: int) -> None:
        """A stream was canceled as soon as it was opened, or could not have been meant (fault 23).

        Half of those that ended may be so; it is looked at from `premature_ends` on, and what is long ago counts less.
        """
        limit = self.limits.premature_ends
        if not limit:
            return
        self._premature += 1
        ended = self.asked - open_streams
        if ended >= 2 * limit:
            self._premature = self._premature * limit // ended
            self.asked = limit + open_streams
        elif ended >= limit and 2 * self._premature >= ended:
            raise ConnectionFailed("too many requests that are canceled at once", reason="premature_ends")

    def keepalive(self, now: float) -> None:
        """A KEEPALIVE came (fault 31): two an interval, and a few more."""
        burst = self.limits.keepalive_burst
        if not burst:
            return
        if self._expected:
            self._expected -= 1
            return
        earned = (now - self._kept_at) * _KEEPALIVES / self._interval_s
        self._keepalives = min(float(burst + _KEEPALIVES), self._keepalives + earned)
        self._kept_at = now
        if self._keepalives < 1.0:
            raise ConnectionFailed("too many KEEPALIVE frames", reason="keepalive_burst")
        self._keepalives -= 1.0

    def expect_keepalive(self) -> None:
        """The peer was sent a KEEPALIVE that it has to answer: one more is in order."""
        self._expected += 1

    def may_answer(self, blocked: bool) -> bool:
        """Whether a KEEPALIVE is answered: while nothing leaves, one answer waits and no more (fault 31)."""
        if blocked and self._answer_waits:
            return False
        self._answer_waits = blocked
        return True

    def push(self, now: float) -> bool:
        """Whether a METADATA_PUSH is within its rate (fault 43)."""
        rate = self.limits.pushes_per_second
        if not rate:
            return True
        self._pushes = min(float(rate), self._pushes + (now - self._pushed_at) * rate)
        self._pushed_at = now
        if self._pushes < 1.0:
            return False
        self._pushes -= 1.0
        return True

    def spare(self, credit: Credit) -> bool:
        """Whether a REQUEST_N says more often than the items that came give reason to (fault 28)."""
        limit = self.limits.request_n_burst
        return bool(limit) and credit.grants > credit.used + limit

    def read(self, size: int, now: float) -> bool:
        """`size` bytes came. Returns whether that is too much, and nothing should be read for now."""
        rate = self.limits.bytes_per_second
        if not rate:
            return False
        self._earn(now, rate)
        self._bytes -= size
        return self._bytes < 0

    def rested(self, now: float) -> bool:
        """Whether reading may go on."""
        rate = self.limits.bytes_per_second
        self._earn(now, rate)
        return not rate or self._bytes >= 0

    def _earn(self, now: float, rate: int) -> None:
        self._bytes = min(float(rate), self._bytes + (now - self._at) * rate)
        self._at = now
