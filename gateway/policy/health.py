"""Whether a node got worse by what it acts by since a moment: the trial of a bundle. Pure; the caller says the time.

It got worse when, within the trial,

* a readiness check that was met when it began is not met at two looks in a row;
* there was an uplink when it began, and there has been none for `UPLINK_S`;
* of at least `ENOUGH` requests that ended, the share of those that failed is more than `MARGIN` above what it was, and
  more than twice as high. What it was comes from up to `BEFORE_S` before it began; with too few requests then,
  `ALONE` is what is too much;
* the share of requests that this node refused, by the same measure.

What has not got worse until the end of the trial is good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Seconds.
BEFORE_S: Final = 60.0
SAMPLE_S: Final = 10.0
UPLINK_S: Final = 20.0
ENOUGH: Final = 20
#: Shares, from 0 to 1.
MARGIN: Final = 0.1
ALONE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Vitals:
    """A node at one moment. `ended`, `failed`, `refused`: requests since its start. `failing`: why not, by the name of
    each readiness check that is not met. `uplink`: whether it has one."""

    ended: int = 0
    failed: int = 0
    refused: int = 0
    failing: Mapping[str, str] | None = None
    uplink: bool = False

    def since(self, before: Vitals) -> Vitals:
        return Vitals(self.ended - before.ended, self.failed - before.failed, self.refused - before.refused)


class Pulse:
    """How a node has been lately: samples of the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Vitals]] = deque(maxlen=int(BEFORE_S / SAMPLE_S) + 1)

    def is_due(self, now: float) -> bool:
        return not self._samples or now - self._samples[-1][0] >= SAMPLE_S

    def take(self, now: float, vitals: Vitals) -> None:
        self._samples.append((now, vitals))

    def before(self, now: float, vitals: Vitals) -> Vitals:
        """What has happened in the last minute."""
        for at, sample in self._samples:
            if now - at <= BEFORE_S:
                return vitals.since(sample)
        return Vitals()


class Trial:
    """`began`: by the clock that `look` is given. `seconds`: how long it lasts."""

    def __init__(self, began: float, seconds: float, vitals: Vitals, before: Vitals) -> None:
        self.ends = began + seconds
        self._start = vitals
        self._before = before
        self._failed_once: frozenset[str] = frozenset()
        self._no_uplink_since: float | None = None

    def look(self, now: float, vitals: Vitals) -> str | None:
        """What has got worse, in words; None as long as nothing has."""
        return self._readiness(vitals) or self._uplink(now, vitals) or self._requests(vitals)

    def is_over(self, now: float) -> bool:
        return now >= self.ends

    def _readiness(self, vitals: Vitals) -> str | None:
        fine_before = {} if self._start.failing is None else self._start.failing
        failing = {name: why for name, why in (vitals.failing or {}).items() if name not in fine_before}
        twice = self._failed_once & failing.keys()
        self._failed_once = frozenset(failing)
        return next((f"not ready: {failing[name]}" for name in sorted(twice)), None)

    def _uplink(self, now: float, vitals: Vitals) -> str | None:
        if vitals.uplink or not self._start.uplink:
            self._no_uplink_since = None
            return None
        if self._no_uplink_since is None:
            self._no_uplink_since = now
        if now - self._no_uplink_since < UPLINK_S:
            return None
        return f"no uplink for {UPLINK_S:g} s"

    def _requests(self, vitals: Vitals) -> str | None:
        since = vitals.since(self._start)
        for what in ("failed", "refused"):
            share = _share(since, what)
            if share is None:
                continue
            before = _share(self._before, what)
            most = ALONE if before is None else max(before + MARGIN, 2 * before)
            if share > most:
                was = "" if before is None else f", {before:.0%} before"
                return f"{share:.0%} of {since.ended} requests {what}{was}"
        return None


def _share(vitals: Vitals, what: str) -> float | None:
    return getattr(vitals, what) / vitals.ended if vitals.ended >= ENOUGH else None
