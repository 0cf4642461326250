"""Whether a request that a `Service` document governs may go on, and what its end says of who served it.

A guard looks after one service on this node: rate, breaker, requests at once, ejections. It is asked once a request and
told of each end. Rates and requests at once count at the node that the caller is connected to; breaker and ejections at
the node that picks among the instances, which are the same for most. Fire-and-forget is never heard of again, so it
takes no place among the requests that are open and proves nothing.

Whoever calls under a lease has been told by it what the rate allows (`promised`), so a rate never refuses it: what it
takes beyond is owed, and makes its next lease the smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import Overloaded, RateLimited, RequestError
from gateway.forwarding.links import UPLINK
from gateway.observe.guards import GuardFigures
from gateway.policy.breaker import CircuitBreaker, State
from gateway.policy.gradient import GradientLimit
from gateway.policy.outliers import OutlierDetector
from gateway.policy.rates import Rates
from gateway.policy.shedding import Shedder, serves
from gateway.policy.traffic import Per
from gateway.wire.frames import ErrorCode, FrameType

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.policy.overload import Overload
    from gateway.policy.traffic import Rate, ServiceRules
    from gateway.routing.route import Route

#: How requests end, for `tried` and `over`.
WELL: Final = 0
FAILED: Final = 1
UNKNOWN: Final = 2
#: A limit that nobody reaches.
AMPLE: Final = 0x7FFFFFFF

# Not from `stream`, which knows the plane, which knows whoever governs.
REQUEST_RESPONSE = int(FrameType.REQUEST_RESPONSE)
REQUEST_FNF = int(FrameType.REQUEST_FNF)
_INVALID = int(ErrorCode.INVALID)
_WELL = WELL
_FAILED = FAILED
_UNKNOWN = UNKNOWN
_HALF_OPEN = State.HALF_OPEN
_BREAKER_FIGURE = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_NEVER = float("inf")


def verdict_of(code: int) -> int:
    """What an ERROR frame says of who sent it. INVALID blames the request; 0 is no frame: one side broke the protocol,
    or lost its rights, or nobody knows."""
    if code == 0:
        return _UNKNOWN
    return _WELL if code == _INVALID else _FAILED


class Guard:
    """What protects one service. `leave_out` is told whom to pass over, whenever that changes. `figures` are read by
    scrapes, after `measure`."""

    def __init__(
        self,
        rules: ServiceRules,
        now: float,
        figures: GuardFigures,
        leave_out: Callable[[frozenset[bytes]], None],
    ) -> None:
        limits = rules.limits
        self.rules = rules
        self.document = f"Service/{rules.name}"
        self.figures = figures
        self.max_requests = limits.max_requests
        self.max_pending = limits.max_pending
        self.waiting = 0
        self.shedder = Shedder(now)
        self.rates = None if limits.rate is None else Rates(limits.rate)
        self.breaker = None if rules.breaker is None else CircuitBreaker(rules.breaker, now)
        self.outliers = None if rules.outliers is None else OutlierDetector(rules.outliers, now)
        self.adaptive = None if rules.adaptive is None else GradientLimit(rules.adaptive, now)
        #: When the next instance comes back.
        self.returns_at = _NEVER
        self._leave_out = leave_out
        self._by_principal = limits.rate is not None and limits.rate.per is Per.PRINCIPAL
        self._told_limited = 0
        self._told_opened = 0

    # Before

    def admit(
        self,
        connection: Endpoint,
        decision: Decision,
        kind: int,
        priority: int,
        here: bool,
        now: float,
        overload: Overload,
    ) -> int:
        """Let one request go on, or not. Raises RateLimited, Overloaded.

        Returns the breaker's ticket, 0 without one. What was admitted is to end in `over`.
        """
        if now >= self.returns_at:
            self._look(now)
        if here:
            if overload and not serves(priority, overload):
                text = f"this node is overloaded, and sheds priority {priority}; try again later"
                raise self._refusal(Overloaded, text, "shed")
            if self.rates is not None:
                self._spend(connection, decision, now)
        ticket = 0
        if self.breaker is not None:
            ticket = self._pass_breaker(kind, now)
        if here and kind != REQUEST_FNF:
            limit = self.max_requests
            if self.adaptive is not None and (not limit or self.adaptive.limit < limit):
                limit = self.adaptive.limit
            if not self.shedder.admit(priority, limit, now):
                if ticket:
                    self.breaker.released(ticket)  # type: ignore[union-attr]
                raise self._too_many(limit)
        return ticket

    def _pass_breaker(self, kind: int, now: float) -> int:
        breaker = self.breaker
        assert breaker is not None
        if kind != REQUEST_FNF:
            ticket = breaker.admit(now)
            if ticket:
                return ticket
        elif not breaker.retry_after_s(now):
            return 0
        text = f"the circuit breaker is {breaker.state}; try again in {max(breaker.retry_after_s(now), 0.01):.2g} s"
        raise self._refusal(Overloaded, text, "breaker_open")

    def _spend(self, connection: Endpoint, decision: Decision, now: float) -> None:
        rates = self.rates
        assert rates is not None
        if self._by_principal:
            key = connection.grant.principal.subject
        else:
            key = decision.address.route if rates.rule.per is Per.ROUTE else ""
        if connection.granted is not None:
            rates.debit(key, now, connection.number)  # type: ignore[attr-defined]
        elif not rates.take(key, now):
            rule = rates.rule
            per = "of yours" if rule.per is Per.PRINCIPAL else f"per {rule.per}"
            text = (
                f"over {rule.tokens} requests {per} in {rule.fill_interval_s:g} s;"
                f" try again in {max(rates.retry_after_s(key, now), 0.01):.2g} s"
            )
            raise self._refusal(RateLimited, text, "rate")

    def _too_many(self, limit: int) -> RequestError:
        if self.adaptive is not None and limit == self.adaptive.limit != self.max_requests:
            text = f"over {limit} requests at once, which is what it does without delay; try again later"
            return self._refusal(Overloaded, text, "adaptive_limit")
        return self._refusal(Overloaded, f"over {limit} requests at once; try again later", "max_requests")

    def _refusal(self, error: type[RequestError], text: str, reason: str) -> RequestError:
        self.figures.refused[reason] += 1
        refusal = error(f"{self.document}: {text}", reason=f"service_{reason}")
        refusal.policy = self.document
        return refusal

    # Waiting

    def wait(self) -> None:
        """A request has to wait: for a route, a lease, another try. Raises Overloaded; else `waited` is to follow."""
        if self.max_pending and self.waiting >= self.max_pending:
            text = f"over {self.max_pending} requests that wait; try again later"
            raise self._refusal(Overloaded, text, "max_pending")
        self.waiting += 1

    def waited(self) -> None:
        self.waiting -= 1

    # After

    def tried(self, route: Route, verdict: int, seconds: float, now: float, hosts: int) -> None:
        """One attempt at one instance is over. `seconds` below 0: how long it took says nothing."""
        outliers = self.outliers
        if outliers is None or verdict == _UNKNOWN or route.owner.side == UPLINK or not route.service:  # type: ignore[attr-defined]
            return
        if verdict == _WELL:
            ejection = outliers.succeeded(route.route_id, seconds, now, hosts)
        else:
            ejection = outliers.failed(route.route_id, now, hosts)
        if ejection is not None:
            self.figures.ejections[ejection.cause] += 1
            self._tell()

    def over(self, ticket: int, priority: int, here: bool, kind: int, verdict: int, seconds: float, now: float) -> None:
        """A request that was admitted has ended."""
        breaker = self.breaker
        if ticket and breaker is not None:
            if verdict == _UNKNOWN:
                breaker.released(ticket)
            else:
                breaker.ended(ticket, verdict == _FAILED, now)
        if not here or kind == REQUEST_FNF:
            return
        adaptive = self.adaptive
        if adaptive is not None and verdict == _WELL and kind == REQUEST_RESPONSE:
            adaptive.answered(seconds, self.shedder.open, now)
        self.shedder.ended(priority)

    def _look(self, now: float) -> None:
        """Some instance's time is over."""
        assert self.outliers is not None
        self.outliers.look(now)
        self._tell()

    def _tell(self) -> None:
        assert self.outliers is not None
        self.returns_at = self.outliers.returns_at
        self._leave_out(frozenset(self.outliers.out))

    # Shown and set by hand

    def measure(self, now: float, *, alone: bool) -> None:
        """Bring the figures up to date; those of this moment only where they are of this service `alone`."""
        figures = self.figures
        if now >= self.returns_at:
            self._look(now)
        if self.rates is not None and self.rates.rule.dry_run:
            figures.would_refuse += self.rates.limited - self._told_limited
            self._told_limited = self.rates.limited
        if self.breaker is not None:
            figures.opened += self.breaker.opened - self._told_opened
            self._told_opened = self.breaker.opened
        if not alone:
            return
        figures.open = self.shedder.open
        figures.waiting = self.waiting
        figures.limit = self.limit
        if self.breaker is not None:
            figures.breaker = _BREAKER_FIGURE[self.breaker.state]
        if self.outliers is not None:
            figures.ejected = len(self.outliers.out)

    @property
    def limit(self) -> int:
        """Requests that may be open at once now; 0: any number."""
        if self.adaptive is None:
            return self.max_requests
        return min(self.adaptive.limit, self.max_requests or AMPLE)

    def reset(self, now: float) -> int:
        """Begin anew: close the breaker, let every instance come back, fill every bucket. Returns how many were out."""
        returned = 0
        if self.breaker is not None:
            self.breaker.reset(now)
        if self.rates is not None:
            self.rates.reset()
        if self.outliers is not None:
            returned = self.outliers.reset()
            self._tell()
        return returned

    def restore(self, instance: bytes) -> bool:
        """Let one instance come back. Returns whether it was out."""
        if self.outliers is None:
            return False
        returned = self.outliers.reset(instance)
        self._tell()
        return bool(returned)


def guards(rules: ServiceRules) -> bool:
    """Whether a document asks for anything that a guard does."""
    limits = rules.limits
    wanted = rules.breaker or rules.outliers or rules.adaptive or limits.rate
    return bool(wanted or limits.max_requests or limits.max_pending) or any(
        route.priority > ORDINARY for route in rules.routes
    )


#: The priority of a route that says none; those above are shed by an overloaded node.
ORDINARY: Final = 4


class Rated:
    """One document whose rate refuses, and the buckets of the services that it speaks of."""

    def __init__(self, rules: ServiceRules, rate: Rate) -> None:
        self.rules = rules
        self.rate = rate
        self.hosts = rules.hosts or (rules.name,)
        self.in_use: list[tuple[str, Rates]] = []

    def promised(self, connection: Endpoint, now: float) -> int:
        """How many requests it does not refuse this connection, of those that it may send."""
        grant = connection.grant
        number = connection.number  # type: ignore[attr-defined]
        per = self.rate.per
        least = AMPLE
        for service, rates in self.in_use:
            if grant.may_call_into(service):
                if per is Per.ROUTE:
                    left = rates.leave_of(number, now)
                else:
                    left = rates.leave(grant.principal.subject if per is Per.PRINCIPAL else "", now, number)
                least = min(least, left)
        if self.rate.burst < least and any("*" in host or grant.may_call_into(host) for host in self.hosts):
            least = self.rate.burst
        return least


def promised(connection: Endpoint, now: float) -> int:
    """How many requests no rate refuses this connection before its next lease: the least of all that it may call."""
    governor = connection.plane.governor
    if governor is None:
        return AMPLE
    return min((rated.promised(connection, now) for rated in governor.rated), default=AMPLE)
