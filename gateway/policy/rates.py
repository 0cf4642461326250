"""Token buckets for a rate limit: one for each principal, for the service, or for each route. Pure: brings no clock.

A bucket starts full, holds `burst`, and is filled evenly with `tokens` an interval. A full bucket is the same as none,
so full ones are forgotten whenever the table has doubled: its size follows those who have asked lately, not those who
ever did. Whoever asks under a lease has been told beforehand and is never refused here: it may take what is not there,
and its next lease is the smaller for it (`debit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.policy.traffic import Rate

#: Buckets below which nothing is looked for that could be forgotten.
FORGET_ABOVE: Final = 256
#: Buckets at most: keys that come later share one. Bounds what a caller that makes routes up can take.
MAX_BUCKETS: Final = 65_536
#: How long somebody counts among those who share a bucket by lease, in seconds: about as long as a lease lasts.
BORROWER_S: Final = 30.0
MAX_BORROWERS: Final = 65_536
_OTHERS: Final = "\x00others"
#: One part in a thousand million of a token is a rounding error.
_NEARLY_ONE = 1.0 - 1e-9


class Bucket:
    """`left` tokens as of `at`; below 0 while what was taken by lease is owed."""

    __slots__ = ("at", "borrowers", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.borrowers: dict[int, float] | None = None


class Rates:
    """The buckets of one rate limit. `limited`: requests that it has refused, or would have while it is a dry run."""

    __slots__ = ("_buckets", "_burst", "_per_s", "_sweep_above", "limited", "rule")

    def __init__(self, rule: Rate) -> None:
        self.rule = rule
        self.limited = 0
        self._buckets: dict[str, Bucket] = {}
        self._per_s = rule.tokens / rule.fill_interval_s
        self._burst = float(rule.burst)
        self._sweep_above = FORGET_ABOVE

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """One request of `key`. Returns whether it may go on; of a dry run every one does, and is counted."""
        bucket = self._bucket(key, now)
        if bucket.left >= _NEARLY_ONE:
            bucket.left -= 1.0
            return True
        self.limited += 1
        return self.rule.dry_run

    def debit(self, key: str, now: float, borrower: int) -> None:
        """One request under a lease: it was told of what there is, and goes on. `borrower` is whoever asks."""
        bucket = self._bucket(key, now)
        if self.rule.dry_run:
            if bucket.left >= _NEARLY_ONE:
                bucket.left -= 1.0
            else:
                self.limited += 1
            return
        bucket.left -= 1.0
        borrowers = bucket.borrowers
        if borrowers is None:
            borrowers = bucket.borrowers = {}
        if borrower in borrowers or len(borrowers) < MAX_BORROWERS:
            borrowers[borrower] = now

    def leave(self, key: str, now: float, borrower: int) -> int:
        """How many requests of `key` may be promised to `borrower` now: its part of what is there."""
        if self.rule.dry_run:
            return 0x7FFFFFFF
        bucket = self._buckets.get(self._known(key))
        if bucket is None:
            return int(self._burst)
        self._fill(bucket, now)
        others = 0
        if bucket.borrowers:
            gone = [number for number, at in bucket.borrowers.items() if now - at > BORROWER_S]
            for number in gone:
                del bucket.borrowers[number]
            others = len(bucket.borrowers) - (borrower in bucket.borrowers)
        return max(0, int((bucket.left + 1e-9) / (1 + others)))

    def leave_of(self, borrower: int, now: float) -> int:
        """The least that may be promised to `borrower` of any bucket that it has lately taken from by lease."""
        least = int(self._burst)
        for key, bucket in self._buckets.items():
            if bucket.borrowers and borrower in bucket.borrowers:
                least = min(least, self.leave(key, now, borrower))
        return least

    def retry_after_s(self, key: str, now: float) -> float:
        """Seconds until `key` has a token again."""
        bucket = self._buckets.get(self._known(key))
        if bucket is None:
            return 0.0
        self._fill(bucket, now)
        return max(0.0, (1.0 - bucket.left) / self._per_s)

    def least(self, now: float) -> tuple[str, float] | None:
        """The key with the least left, and how much that is; None while every bucket is full."""
        for bucket in self._buckets.values():
            self._fill(bucket, now)
        key = min(self._buckets, key=lambda each: self._buckets[each].left, default=None)
        return None if key is None else (key, self._buckets[key].left)

    def reset(self) -> None:
        """Fill every bucket."""
        self._buckets.clear()

    def _known(self, key: str) -> str:
        return _OTHERS if key not in self._buckets and len(self._buckets) >= MAX_BUCKETS else key

    def _bucket(self, key: str, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._add(key, now)
        left = bucket.left + (now - bucket.at) * self._per_s
        bucket.left = left if left < self._burst else self._burst
        bucket.at = now
        return bucket

    def _add(self, key: str, now: float) -> Bucket:
        if len(self._buckets) >= self._sweep_above:
            self.forget_full(now)
        key = self._known(key)
        if key in self._buckets:
            return self._bucket(key, now)
        bucket = self._buckets[key] = Bucket(self._burst, now)
        return bucket

    def forget_full(self, now: float) -> None:
        """Drop the buckets that say nothing."""
        for bucket in self._buckets.values():
            self._fill(bucket, now)
        self._buckets = {key: each for key, each in self._buckets.items() if each.left < self._burst}
        self._sweep_above = max(FORGET_ABOVE, 2 * len(self._buckets))

    def _fill(self, bucket: Bucket, now: float) -> None:
        left = bucket.left + (now - bucket.at) * self._per_s
        bucket.left = left if left < self._burst else self._burst
        bucket.at = now
