"""Which instances of one service are left out for a while, and when they come back. Pure: brings no clock.

After Envoy's outlier detection, with RSocket errors in place of HTTP's. An instance is ejected for so many failures in
a row; or when too large a share of its requests failed, or half of them took too long, within the last interval
while the others together did better: where all of them fail, leaving one out helps nobody. The share is judged at every
failure over a window that slides in halves, so that it is known within an interval and not only at its end.

An ejection lasts the base time, times the number of ejections so far, which an interval without one makes less. Who
comes back is on probation: until it has answered as many requests in a row as it may fail, the first failure ejects it
again. At most a share of the instances is out (but one always may be), and never all.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from gateway.policy.traffic import Outliers

#: Ejections remembered to be shown.
REMEMBERED: Final = 16
#: Halves of an interval with traffic, but none of its own, after which an instance that failed last is forgotten: one
#: that is rarely asked may take long to fail so often in a row, and one that has left is never heard of again.
MAX_IDLE: Final = 256
#: Halves without traffic of its own after which one on probation is taken to have left.
LONG_IDLE: Final = 16
_NEVER: Final = float("inf")


class Cause(StrEnum):
    """Why an instance was ejected."""

    CONSECUTIVE = "consecutive_errors"
    SHARE = "failure_share"
    LATENCY = "latency"
    PROBATION = "probation"
    MANUAL = "manual"


class Ejection(NamedTuple):
    """`at`, `until`: monotonic seconds."""

    instance: bytes
    cause: Cause
    at: float
    until: float


class Span:
    """What came in half an interval: requests, how many failed, how many answers were timed, and how many of those took
    too long."""

    __slots__ = ("answers", "failures", "requests", "slow")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.answers = 0
        self.slow = 0


class Instance:
    """What is known of one instance: this half of the interval and the one before. `row`: failures in a row.
    `ejections`: how often it was out of late; `proving`: successes that it still owes; `idle`: halves without one."""

    __slots__ = ("before", "cause", "ejections", "idle", "key", "proving", "row", "span", "until")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.span = Span()
        self.before = Span()
        self.row = 0
        self.ejections = 0
        self.proving = 0
        self.idle = 0
        self.until = 0.0
        self.cause: Cause | None = None

    @property
    def requests(self) -> int:
        return self.span.requests + self.before.requests

    @property
    def failures(self) -> int:
        return self.span.failures + self.before.failures

    @property
    def answers(self) -> int:
        return self.span.answers + self.before.answers

    @property
    def slow(self) -> int:
        return self.span.slow + self.before.slow


class OutlierDetector:
    """`out`: the instances that are ejected, by key. `version` counts changes of it; `returns_at`: when the first of
    them comes back. `ejections`: how many there were, by cause."""

    __slots__ = (
        "_all",
        "_halves",
        "_instances",
        "_latency_s",
        "_turn_at",
        "ejections",
        "latest",
        "out",
        "returns_at",
        "rules",
        "version",
    )

    def __init__(self, rules: Outliers, now: float) -> None:
        self.rules = rules
        self.out: dict[bytes, Instance] = {}
        self.version = 0
        self.returns_at = _NEVER
        self.ejections: dict[Cause, int] = {}
        self.latest: deque[Ejection] = deque(maxlen=REMEMBERED)
        self._instances: dict[bytes, Instance] = {}
        self._all = Instance(b"")
        self._halves = 0
        self._latency_s = rules.latency_s
        self._turn_at = now + rules.interval_s / 2

    def __len__(self) -> int:
        return len(self._instances)

    def known(self, key: bytes) -> Instance | None:
        """What is known of an instance, to be shown."""
        return self._instances.get(key)

    def succeeded(self, key: bytes, seconds: float, now: float, hosts: int) -> Ejection | None:
        """An instance did its work. `seconds`: what an answer took; below 0 where the time says nothing. `hosts`: how
        many instances there are, those out included."""
        if now >= self._turn_at:
            self._turn(now)
        each = self._at_work(key, now)
        if each is None:
            return None
        each.row = 0
        span, everybody = each.span, self._all.span
        span.requests += 1
        everybody.requests += 1
        if each.proving:
            each.proving -= 1
        if seconds >= 0.0:
            span.answers += 1
            everybody.answers += 1
            if 0.0 < self._latency_s < seconds:
                span.slow += 1
                everybody.slow += 1
                if self._slow(each):
                    return self._eject(each, Cause.LATENCY, now, hosts)
        return None

    def failed(self, key: bytes, now: float, hosts: int) -> Ejection | None:
        """An instance failed, or has gone. Returns its ejection, where it is one for that."""
        if now >= self._turn_at:
            self._turn(now)
        each = self._at_work(key, now)
        if each is None:
            return None
        each.row += 1
        for span in (each.span, self._all.span):
            span.requests += 1
            span.failures += 1
        rules = self.rules
        if each.proving:
            return self._eject(each, Cause.PROBATION, now, hosts)
        if rules.consecutive_errors and each.row >= rules.consecutive_errors:
            return self._eject(each, Cause.CONSECUTIVE, now, hosts)
        if rules.failure_share and self._failing(each):
            return self._eject(each, Cause.SHARE, now, hosts)
        return None

    def look(self, now: float) -> int:
        """Let those come back whose time is over. Returns the version of `out`."""
        if now >= self.returns_at:
            for each in [each for each in self.out.values() if now >= each.until]:
                each.proving = self.rules.consecutive_errors or 1
                self._return(each)
        return self.version

    def reset(self, key: bytes | None = None) -> int:
        """Let an instance, or all of them, come back now and without a past. Returns how many were out."""
        keys = list(self._instances) if key is None else [key]
        out = [self.out[each] for each in keys if each in self.out]
        for instance in out:
            self._return(instance)
        for each in keys:
            if each in self._instances:
                self._take_off(self._instances.pop(each))
        return len(out)

    def _at_work(self, key: bytes, now: float) -> Instance | None:
        """An instance whose requests count: not while it is out, when what it had before ends, or in a panic."""
        if self.out:
            self.look(now)
            if key in self.out:
                return None
        each = self._instances.get(key)
        if each is None:
            each = self._instances[key] = Instance(key)
        return each

    def _failing(self, each: Instance) -> bool:
        share = self.rules.failure_share
        requests, failures = each.requests, each.failures
        # As products, and with room for what floats lose: 3 of 10 is not below a share of 0.3.
        if requests < self.rules.min_requests or failures < share * requests - 1e-9:
            return False
        others = self._all.requests - requests
        return others > 0 and self._all.failures - failures < share * others - 1e-9

    def _slow(self, each: Instance) -> bool:
        answers, slow = each.answers, each.slow
        if answers < self.rules.min_requests or 2 * slow < answers:
            return False
        others = self._all.answers - answers
        return others > 0 and 2 * (self._all.slow - slow) < others

    def _eject(self, each: Instance, cause: Cause, now: float, hosts: int) -> Ejection | None:
        rules = self.rules
        out = len(self.out) + 1
        if hosts < rules.min_hosts or out >= hosts or out > max(1, int(hosts * rules.max_ejection_share + 1e-9)):
            return None
        each.ejections += 1
        each.until = now + min(rules.base_ejection_s * each.ejections, max(rules.max_ejection_s, rules.base_ejection_s))
        each.cause = cause
        # What it did is judged once: it comes back with nothing but its probation.
        self._take_off(each)
        self.out[each.key] = each
        self._changed()
        self.ejections[cause] = self.ejections.get(cause, 0) + 1
        ejection = Ejection(each.key, cause, now, each.until)
        self.latest.append(ejection)
        return ejection

    def _take_off(self, each: Instance) -> None:
        for everybody, span in ((self._all.span, each.span), (self._all.before, each.before)):
            everybody.requests -= span.requests
            everybody.failures -= span.failures
            everybody.answers -= span.answers
            everybody.slow -= span.slow
        each.span, each.before = Span(), Span()
        each.row = 0

    def _return(self, each: Instance) -> None:
        del self.out[each.key]
        each.idle = 0
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.returns_at = min((each.until for each in self.out.values()), default=_NEVER)

    def _turn(self, now: float) -> None:
        """Half an interval is over: the one before is forgotten, and so are instances of which nothing is left."""
        half_s = self.rules.interval_s / 2
        stale = now >= self._turn_at + half_s
        self._turn_at = now + half_s
        self._halves += 1
        self.look(now)
        for each in (self._all, *self._instances.values()):
            each.before, each.span = Span() if stale else each.span, Span()
            each.idle = 0 if each.before.requests else each.idle + 1
            well = not each.proving or each.idle >= LONG_IDLE
            if well and each.ejections and self._halves % 2 == 0 and each.key not in self.out:
                each.ejections -= 1
        for each in list(self._instances.values()):
            gone = each.idle >= (MAX_IDLE if each.row else 1)
            if gone and not each.ejections and each.key not in self.out:
                del self._instances[each.key]
