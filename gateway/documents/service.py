"""`kind: Service`: how requests to a service are treated. Istio's VirtualService and DestinationRule in one, so that a
route and the subsets that it names stand together. What `.rules` makes of it is `policy.traffic`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.documents.model import Body, Name, Part
from gateway.documents.words import (
    Count,
    Interaction,
    Labels,
    Names,
    OwnLabels,
    Percent,
    Time,
    TimeOrNone,
    Who,
    frames,
    pairs,
    shares,
    told,
)
from gateway.policy import traffic
from gateway.policy.principal import Kind
from gateway.policy.traffic import Balance, Per, RetryOn
from gateway.wire.header import ErrorCode

MAX_ROUTES = 64
MAX_SUBSETS = 32
MAX_SOURCES = 16
#: With which a fault may answer: what a responder may say.
ABORTS = ("REJECTED", "APPLICATION_ERROR", "CANCELED", "INVALID")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Source(Part):
    """Who asks. All that is given must fit."""

    principals: tuple[Who, ...] = told("Subjects, with `*` for any run of characters; one must fit.", ())
    groups: tuple[Who, ...] = told("Groups, with `*`; the caller is in one of them.", ())
    kinds: tuple[Kind, ...] = told("What the caller is.", ())
    labels: OwnLabels = told("Labels of the caller, all of them.", default_factory=dict)

    @property
    def rules(self) -> traffic.Source:
        return traffic.Source(self.principals, self.groups, tuple(map(str, self.kinds)), pairs(self.labels))


class Match(Part):
    """Which requests. All that is given must fit; nothing given: every request."""

    route: Names | None = told("The whole route, or what follows the service's name; with `*`.", None)
    interaction: tuple[Interaction, ...] = told("One of these; none named: all.", ())
    source: Annotated[
        tuple[Source, ...],
        Field(max_length=MAX_SOURCES),
        BeforeValidator(
            _listed, json_schema_input_type=Source | Annotated[list[Source], Field(max_length=MAX_SOURCES)]
        ),
    ] = told("Who asks: one of these.", ())

    @property
    def rules(self) -> traffic.Match:
        sources = tuple(each.rules for each in self.source)
        return traffic.Match(self.route or "", frozenset(map(int, frames(self.interaction))), sources)


class Destination(Part):
    """A share of the requests."""

    subset: Name | None = told("One of `subsets`; not named: the whole service.", None)
    weight: Annotated[int, Field(ge=0, le=100, strict=True)] | None = told(
        "Percent of the requests; those of one route sum to 100. One destination alone needs none.", None
    )


class Retries(Part):
    """What is tried again. Only what nobody has processed, or what may be processed twice (`idempotent`)."""

    attempts: Annotated[int, Field(ge=1, le=10, strict=True)] = told("How often beyond the first time.", 2)
    per_try_timeout: Time | None = told("How long each try may take.", None)
    retry_on: tuple[RetryOn, ...] = told(
        "After what.", (RetryOn.CONNECT_FAILURE, RetryOn.REJECTED), min_length=1, max_length=len(RetryOn)
    )
    backoff: TimeOrNone = told("Before the first further try, at random up to this; doubled each time.", 0.025)
    max_backoff: TimeOrNone | None = told("The longest such wait; not said: ten times `backoff`.", None)

    @property
    def longest_backoff(self) -> float:
        return self.backoff * 10 if self.max_backoff is None else max(self.backoff, self.max_backoff)

    @property
    def rules(self) -> traffic.Retries:
        return traffic.Retries(
            self.attempts, frozenset(self.retry_on), self.per_try_timeout, self.backoff, self.longest_backoff
        )


class Delay(Part):
    fixed_delay: Time = told("How long a request is held back.")
    percentage: Percent = told("Of how many of a hundred requests.", 100.0)


class Abort(Part):
    error: Literal["REJECTED", "APPLICATION_ERROR", "CANCELED", "INVALID"] = told("The RSocket error of the answer.")
    percentage: Percent = told("Of how many of a hundred requests.", 100.0)


class Loss(Part):
    percentage: Percent = told("Of how many of a hundred requests.")


class Fault(Part):
    """Injected on purpose, to see how callers take it. Each share is drawn by itself."""

    delay: Delay | None = told("Hold requests back.", None)
    abort: Abort | None = told("Answer with an error, in place of the service.", None)
    drop: Loss | None = told("Swallow requests: no answer comes.", None)
    disconnect: Loss | None = told("Close the caller's connection.", None)

    @property
    def rules(self) -> traffic.Fault:
        delay, abort = self.delay, self.abort
        return traffic.Fault(
            delay_s=0.0 if delay is None else delay.fixed_delay,
            delay_share=0.0 if delay is None else shares(delay.percentage),
            abort_code=0 if abort is None else ErrorCode[abort.error],
            abort_share=0.0 if abort is None else shares(abort.percentage),
            drop_share=0.0 if self.drop is None else shares(self.drop.percentage),
            disconnect_share=0.0 if self.disconnect is None else shares(self.disconnect.percentage),
        )


class Mirror(Part):
    """A copy of requests goes there; what it answers goes nowhere."""

    subset: Name = told("One of `subsets`.")
    percentage: Percent = told("Of how many of a hundred requests.", 100.0)


class Route(Part):
    """How requests are treated that fit one of `match`. The first route that fits holds."""

    name: Name | None = told("As metrics and flows name it; not said: its place, as `routes/0`.", None)
    match: tuple[Match, ...] = told("One of these must fit; none: every request.", (), max_length=32)
    to: tuple[Destination, ...] = told("Where requests go; not said: to the whole service.", (), max_length=16)
    timeout: Time | None = told("How long a request may take, all tries together; told to the next node.", None)
    retries: Retries | None = told("What is tried again.", None)
    fault: Fault | None = told("Faults injected on purpose.", None)
    mirror: Mirror | None = told("Where a copy goes.", None)
    idempotent: Annotated[bool, Field(strict=True)] = told("Whether its requests may be processed twice.", False)
    priority: Annotated[int, Field(ge=0, le=7, strict=True)] = told("Under load 7 is shed first and 0 last.", 4)
    wait_for_route: TimeOrNone = told("How long a request may wait for somebody who serves it.", 0.0)

    def rules(self, number: int) -> traffic.RouteRule:
        alone = len(self.to) == 1
        to = tuple(
            traffic.Destination(each.subset or "", (100 if alone else 0) if each.weight is None else each.weight)
            for each in self.to
        )
        mirror = self.mirror
        return traffic.RouteRule(
            name=self.name or f"routes/{number}",
            matches=tuple(each.rules for each in self.match),
            to=to or (traffic.Destination(),),
            timeout_s=self.timeout,
            retries=None if self.retries is None else self.retries.rules,
            fault=None if self.fault is None else self.fault.rules,
            mirror=None if mirror is None else traffic.Mirror(mirror.subset, shares(mirror.percentage)),
            idempotent=self.idempotent,
            priority=self.priority,
            wait_for_route_s=self.wait_for_route,
        )


class ConsistentHash(Part):
    key: Annotated[str, Field(min_length=1, max_length=255)] = told(
        "Requests with one value of it go to one instance: `principal`, `route`, or the name of a tag of the request."
    )


class LoadBalancer(Part):
    """How an instance is chosen: one of these."""

    simple: Balance | None = told("One of Istio's methods.", None)
    consistent_hash: ConsistentHash | None = told("By a hash of a key.", None)
    lease_credit: Literal[True] | None = told("By the lease credit left, where responders lend.", None)

    @model_validator(mode="after")
    def _one(self) -> LoadBalancer:
        if sum(each is not None for each in (self.simple, self.consistent_hash, self.lease_credit)) != 1:
            raise ValueError("one of simple, consistentHash and leaseCredit")
        return self

    @property
    def rules(self) -> traffic.LoadBalancer:
        hashed = self.consistent_hash
        return traffic.LoadBalancer(self.simple, "" if hashed is None else hashed.key, self.lease_credit is True)


class Locality(Part):
    failover: tuple[Name, ...] = told(
        "Labels that say where somebody is, nearest first, as [edge, site, region].", min_length=1, max_length=8
    )


class Rate(Part):
    """A token bucket. Callers with leases are told in advance; others are refused."""

    tokens: Count = told("Requests that each `fillInterval` allows.")
    fill_interval: Time = told("Of the tokens.", 1.0)
    burst: Count | None = told("Most tokens that gather; not said: `tokens`.", None)
    per: Per = told("Whom it counts apart.", Per.PRINCIPAL)
    dry_run: Annotated[bool, Field(strict=True)] = told("Count what would be refused, and refuse nothing.", False)

    @property
    def rules(self) -> traffic.Rate:
        burst = self.tokens if self.burst is None else self.burst
        return traffic.Rate(self.tokens, self.fill_interval, burst, self.per, self.dry_run)


class Limits(Part):
    """On this node, of the service. What is over it is REJECTED."""

    max_requests: Count = told("Requests open at once.", 1024)
    max_pending_requests: Count = told("Requests that wait: for a route, a lease, another try.", 1024)
    rate: Rate | None = told("Requests in a time.", None)

    @property
    def rules(self) -> traffic.Limits:
        rate = None if self.rate is None else self.rate.rules
        return traffic.Limits(self.max_requests, self.max_pending_requests, rate)


class OutlierDetection(Part):
    """When one instance is left out for a while, by the RSocket errors that it answers with, or by its latency."""

    consecutive_errors: Count = told("Errors one after the other.", 5)
    interval: Time = told("Between two looks at shares and latencies.", 10.0)
    base_ejection_time: Time = told("The first ejection; the n-th lasts n times as long.", 30.0)
    max_ejection_time: Time = told("The longest ejection.", 300.0)
    max_ejection_percent: Percent = told("Of the instances, at once; but one may always be.", 10.0)
    failure_percentage_threshold: Percent = told("Ejected at this share of failures in an interval; 0: never.", 0.0)
    failure_percentage_request_volume: Count = told("With fewer requests in an interval it is not judged.", 10)
    latency_threshold: TimeOrNone = told("Ejected when half of an interval's requests take longer; 0: never.", 0.0)
    minimum_hosts: Count = told("With fewer instances nobody is ejected.", 2)

    @property
    def rules(self) -> traffic.Outliers:
        return traffic.Outliers(
            consecutive_errors=self.consecutive_errors,
            interval_s=self.interval,
            base_ejection_s=self.base_ejection_time,
            max_ejection_s=max(self.max_ejection_time, self.base_ejection_time),
            max_ejection_share=shares(self.max_ejection_percent),
            failure_share=shares(self.failure_percentage_threshold),
            min_requests=self.failure_percentage_request_volume,
            latency_s=self.latency_threshold,
            min_hosts=self.minimum_hosts,
        )


class CircuitBreaker(Part):
    """Hystrix's: the whole service is left alone for a while when too much of it fails."""

    request_volume_threshold: Count = told("With fewer requests in the window it stays closed.", 20)
    error_threshold_percentage: Annotated[float, Field(gt=0, le=100, strict=True)] = told(
        "It opens when this share of them has failed.", 50.0
    )
    rolling_window: Time = told("Over which is counted.", 10.0)
    sleep_window: Time = told("How long it stays open before it tries.", 5.0)
    half_open_requests: Annotated[int, Field(ge=1, le=1000, strict=True)] = told(
        "Requests let through then; all of them must succeed.", 1
    )

    @property
    def rules(self) -> traffic.Breaker:
        return traffic.Breaker(
            self.request_volume_threshold,
            shares(self.error_threshold_percentage),
            self.rolling_window,
            self.sleep_window,
            self.half_open_requests,
        )


class RetryBudget(Part):
    """Envoy's: retries in flight are at most this share of the requests in flight, or so many."""

    percent: Percent = told("Of the requests in flight.", 20.0)
    min_retry_concurrency: Annotated[int, Field(ge=0, le=1000, strict=True)] = told("Always allowed.", 3)

    @property
    def rules(self) -> traffic.RetryBudget:
        return traffic.RetryBudget(shares(self.percent), self.min_retry_concurrency)


class AdaptiveConcurrency(Part):
    """A limit of requests at once that follows latency, as Envoy's gradient controller."""

    min_concurrency: Count = told("It never goes below.", 8)
    max_concurrency_limit: Count = told("It never goes above.", 1024)
    tolerance: Annotated[float, Field(ge=1, le=100, strict=True)] = told(
        "How many times the least latency seen is still well.", 2.0
    )

    @model_validator(mode="after")
    def _in_order(self) -> AdaptiveConcurrency:
        if self.min_concurrency > self.max_concurrency_limit:
            raise ValueError("minConcurrency is above maxConcurrencyLimit")
        return self

    @property
    def rules(self) -> traffic.Adaptive:
        return traffic.Adaptive(self.min_concurrency, self.max_concurrency_limit, self.tolerance)


class Service(Body):
    """How requests to a service are treated. What is not written does nothing."""

    kind: Literal["Service"]
    hosts: tuple[Names, ...] = told(
        "Services that it holds for, with `*`; not said: the document's name.", (), max_length=32
    )
    subsets: Annotated[dict[Name, Labels], Field(max_length=MAX_SUBSETS)] = told(
        "Parts of the service, by the labels that instances registered with.", default_factory=dict
    )
    routes: tuple[Route, ...] = told("The first one that fits a request holds.", (), max_length=MAX_ROUTES)
    load_balancer: LoadBalancer | None = told("How an instance is chosen; not said: as the node does it.", None)
    locality: Locality | None = told("Prefer who is near.", None)
    limits: Limits | None = told("How much at once.", None)
    outlier_detection: OutlierDetection | None = told("Leave single instances out that fail.", None)
    circuit_breaker: CircuitBreaker | None = told("Leave the service alone when it fails.", None)
    retry_budget: RetryBudget = told("How many retries at once.", RetryBudget())
    adaptive_concurrency: AdaptiveConcurrency | None = told("A limit that follows latency.", None)

    @cached_property
    def rules(self) -> traffic.ServiceRules:
        return traffic.ServiceRules(
            name=self.name,
            hosts=self.hosts,
            # By name, because bundles carry maps sorted: equal documents make equal rules, and what counts goes on.
            subsets=tuple(traffic.Subset(name, pairs(labels)) for name, labels in sorted(self.subsets.items())),
            routes=tuple(route.rules(number) for number, route in enumerate(self.routes)),
            balancer=None if self.load_balancer is None else self.load_balancer.rules,
            failover=() if self.locality is None else self.locality.failover,
            limits=traffic.Limits() if self.limits is None else self.limits.rules,
            outliers=None if self.outlier_detection is None else self.outlier_detection.rules,
            breaker=None if self.circuit_breaker is None else self.circuit_breaker.rules,
            retry_budget=self.retry_budget.rules,
            adaptive=None if self.adaptive_concurrency is None else self.adaptive_concurrency.rules,
        )
