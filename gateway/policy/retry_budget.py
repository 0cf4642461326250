"""How many tries beyond the first one service is worth on one node, so that retries never make an overload worse.

Two bounds hold together. Envoy's: retries under way are at most a share of the requests under way, or a few. And over
time: each request brings that share of a retry along, so however the time of a first try and that of a retry differ,
there are never more retries than that share of the requests, beside the few. A request counts as under way until it
is tried again; then it counts as a retry, while it waits for its turn too.

Knows no clock and nothing of what is tried again.
"""

from __future__ import annotations

from typing import Final

from gateway.policy.traffic import RetryBudget

#: Most retries that quiet times may save up.
SAVED: Final = 100.0
_SAVED = SAVED


class RetryAccount:
    """`open`: requests in their first try; `retrying`: those beyond it. Every `begin` has one `end`."""

    __slots__ = ("_few", "_saved", "_share", "open", "retrying")

    def __init__(self, budget: RetryBudget) -> None:
        self._share = budget.share
        self._few = budget.min_concurrency
        self._saved = 0.0
        self.open = 0
        self.retrying = 0

    def begin(self) -> None:
        """A request is sent for the first time."""
        self.open += 1
        saved = self._saved + self._share
        self._saved = saved if saved < _SAVED else _SAVED

    def end(self, retried: bool) -> None:
        """A request is over; `retried`: its last `take` said yes."""
        if retried:
            self.retrying -= 1
        else:
            self.open -= 1

    def take(self, retried: bool) -> bool:
        """Whether a request that has begun may be tried again; `retried`: it has been before. It is retried then."""
        retrying, first = (self.retrying, self.open) if retried else (self.retrying + 1, self.open - 1)
        if retrying > self._few and (self._saved < 1.0 or retrying > self._share * first):
            return False
        self._saved = self._saved - 1.0 if self._saved > 1.0 else 0.0
        self.retrying, self.open = retrying, first
        return True
