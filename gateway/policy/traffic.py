"""How requests to one service are treated, as its `Service` document says: compiled, frozen, without a clock.

Times are seconds, shares are 0 to 1. What counts and remembers (breakers, ejections, rates) is elsewhere and goes by
these. The first route rule whose matches fit a request holds for it; a rule without matches fits every request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Balance(StrEnum):
    """How an instance is chosen."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


class RetryOn(StrEnum):
    """What may be tried again. Only a request that nobody has processed, or one that may be processed twice."""

    REJECTED = "rejected"
    """ERROR[REJECTED]: whoever sent it says that it did nothing."""
    CONNECT_FAILURE = "connectFailure"
    """Nobody to send it to, or gone before anything came back of a request marked idempotent."""
    APPLICATION_ERROR = "applicationError"
    """ERROR[APPLICATION_ERROR]; of requests marked idempotent alone."""
    TIMEOUT = "timeout"
    """No answer within `per_try_timeout_s`; of requests marked idempotent alone."""


class Per(StrEnum):
    """Whom a rate limit counts apart."""

    PRINCIPAL = "principal"
    SERVICE = "service"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Subset:
    """Those routes of a service that carry all of these tags (canonical keys)."""

    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Who asks; all that is given must fit: of principals, groups and kinds one each, of labels all. Principals and
    groups are patterns with `*`."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """`route`: a pattern of the whole route, or of what follows the service's name; "" any. `interactions`: request
    frame types; empty: all. `sources`: one of them must fit; empty: everybody."""

    route: str = ""
    interactions: frozenset[int] = frozenset()
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """A part of the requests: `subset` "" is the whole service; weights of one rule sum to 100."""

    subset: str = ""
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Retries:
    """`attempts` beyond the first."""

    attempts: int
    on: frozenset[RetryOn]
    per_try_timeout_s: float | None = None
    backoff_s: float = 0.025
    max_backoff_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected for tests of others. Each share is drawn by itself: `abort` answers with this error code and no further,
    `drop` swallows the request, `disconnect` closes the caller's connection."""

    delay_s: float = 0.0
    delay_share: float = 0.0
    abort_code: int = 0
    abort_share: float = 0.0
    drop_share: float = 0.0
    disconnect_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a share of the requests goes there, and what it answers goes nowhere."""

    subset: str
    share: float


@dataclass(frozen=True, slots=True)
class RouteRule:
    """`idempotent`: its requests may be processed twice. `priority`: 0 goes first and is shed last, 7 first.
    `wait_for_route_s`: how long a request may wait for somebody who serves it."""

    name: str
    matches: tuple[Match, ...] = ()
    to: tuple[Destination, ...] = (Destination(),)
    timeout_s: float | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Mirror | None = None
    idempotent: bool = False
    priority: int = 4
    wait_for_route_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """`hash_key`: requests with one value go to one instance; `principal`, `route`, or the name of a tag. "": by
    `method`; None: as the node does it. `by_lease`: by the lease credit left, where responders lend."""

    method: Balance | None = None
    hash_key: str = ""
    by_lease: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    tokens: int
    fill_interval_s: float
    burst: int
    per: Per
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_requests`: open at once for the service on this node; `max_pending`: those of them that wait (for a route,
    a lease, a retry). 0: none."""

    max_requests: int = 0
    max_pending: int = 0
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Outliers:
    """When one instance is left out. `latency_s` 0: errors alone. `min_hosts`: with fewer nobody is ejected."""

    consecutive_errors: int = 5
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    max_ejection_s: float = 300.0
    max_ejection_share: float = 0.1
    failure_share: float = 0.0
    min_requests: int = 10
    latency_s: float = 0.0
    min_hosts: int = 2


@dataclass(frozen=True, slots=True)
class Breaker:
    """Hystrix's: open when of at least `min_requests` within `window_s` this share failed; after `sleep_s` so many
    probes are let through, and all of them must succeed."""

    min_requests: int = 20
    failure_share: float = 0.5
    window_s: float = 10.0
    sleep_s: float = 5.0
    probes: int = 1


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries in flight are at most this share of the requests in flight, or so many."""

    share: float = 0.2
    min_concurrency: int = 3


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A concurrency limit that follows latency: `tolerance` times the least latency seen is still well."""

    min_limit: int = 8
    max_limit: int = 1024
    tolerance: float = 2.0


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """One `Service` document. `hosts`: patterns of the service names it holds for; `name` where there are none given.
    `failover`: levels of locality, nearest first; empty: none is preferred."""

    name: str
    hosts: tuple[str, ...] = ()
    subsets: tuple[Subset, ...] = ()
    routes: tuple[RouteRule, ...] = ()
    balancer: LoadBalancer | None = None
    failover: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    outliers: Outliers | None = None
    breaker: Breaker | None = None
    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    adaptive: Adaptive | None = None
