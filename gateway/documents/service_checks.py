"""What is wrong with a `Service` beyond what its own shape can say: what the data plane would do with it, and the other
documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents.covering import match_covers, overlap, pattern_covers
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.route_checks import check_route
from gateway.documents.service import Match, Route, Service
from gateway.documents.spool import Spool
from gateway.policy.access import is_reserved
from gateway.policy.traffic import Per


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Service = document.spec
    yield from _check_hosts(document, [each for each in standing if each.kind == document.kind])
    yield from _check_subsets(spec)
    for at, route in enumerate(spec.routes):
        yield from check_route(spec, route, f"/routes/{at}")
        yield from _check_shadow(spec.routes[:at], route, f"/routes/{at}")
    yield from _check_limits(spec)
    yield from _check_breaker(spec)
    yield from _check_budget(spec)
    for other in standing:
        if other.kind == "Spool":
            yield from _check_spool(spec, other)


def _check_hosts(document: Document, services: Sequence[Document]) -> Iterator[Finding]:
    spec: Service = document.spec
    for at, host in enumerate(spec.rules.hosts or (spec.name,)):
        pointer = f"/hosts/{at}" if spec.hosts else "/name"
        if is_reserved(host):
            text = f"{host} is served by the node, and treated as the node does it"
            yield Finding("GW0144", text, pointer, fix="another service")
        for other in services:
            if other.name == document.name:
                continue
            names = other.spec.hosts or (other.name,)
            # A name goes before patterns, and among patterns the document whose name comes first.
            hidden = host in names or (
                "*" in host
                and other.name < document.name
                and any("*" in each and pattern_covers(each, host) for each in names)
            )
            if hidden:
                yield Finding("GW0134", f"{other.id} holds for {host}", pointer, fix="one document of the two")
                break


def _check_subsets(spec: Service) -> Iterator[Finding]:
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for subset in spec.rules.subsets:
        pointer = f"/subsets/{subset.name}"
        if not subset.labels:
            yield Finding(
                "GW0146", "without labels it is the whole service", pointer, fix="{version: '2'}", warning=True
            )
        elif subset.labels in seen:
            yield Finding("GW0146", f"has the labels of {seen[subset.labels]}", pointer, warning=True)
        seen.setdefault(subset.labels, subset.name)


def _check_shadow(earlier: Sequence[Route], route: Route, pointer: str) -> Iterator[Finding]:
    hidden = [_taken(earlier, match) for match in route.match or (Match(),)]
    if all(hidden):
        text = f"{hidden[0]}, before it, takes every request that would fit"
        yield Finding("GW0135", text, pointer, fix="put it first, or leave it out")
        return
    for at, name in enumerate(hidden):
        if name:
            text = f"{name}, before it, takes every request that would fit"
            yield Finding("GW0135", text, f"{pointer}/match/{at}", fix="put the route first, or leave the match out")


def _taken(earlier: Sequence[Route], match: Match) -> str:
    for at, route in enumerate(earlier):
        if not route.match or any(match_covers(each, match) for each in route.match):
            return f"/routes/{at}"
    return ""


def _check_limits(spec: Service) -> Iterator[Finding]:
    limits, adaptive = spec.limits, spec.adaptive_concurrency
    if limits is not None and limits.rate is not None:
        rate = limits.rate
        if rate.burst is not None and rate.burst < rate.tokens:
            text = f"of {rate.tokens} tokens an interval only {rate.burst} are ever there"
            yield Finding("GW0147", text, "/limits/rate/burst", fix=f"burst: {rate.tokens}, or more")
    if limits is None or adaptive is None:
        return
    if adaptive.min_concurrency > limits.max_requests:
        text = f"minConcurrency is above maxRequests, {limits.max_requests}: nothing is left to adapt"
        yield Finding("GW0148", text, "/adaptiveConcurrency/minConcurrency", fix="a smaller one")
    elif "max_concurrency_limit" in adaptive.model_fields_set and adaptive.max_concurrency_limit > limits.max_requests:
        text = f"maxConcurrencyLimit is above maxRequests, {limits.max_requests}, and is never reached"
        yield Finding("GW0148", text, "/adaptiveConcurrency/maxConcurrencyLimit", warning=True)


def _check_breaker(spec: Service) -> Iterator[Finding]:
    outliers, breaker = spec.outlier_detection, spec.circuit_breaker
    if outliers is not None:
        if outliers.max_ejection_percent == 0:
            text = "of the instances none may ever be left out"
            yield Finding("GW0143", text, "/outlierDetection/maxEjectionPercent", fix="maxEjectionPercent: 10")
        whole = [route.timeout for route in spec.routes]
        slowest = max((each for each in whole if each is not None), default=0.0)
        if spec.routes and None not in whole and outliers.latency_threshold > slowest:
            text = "no request takes so long: each ends by the timeout of its route"
            yield Finding(
                "GW0143", text, "/outlierDetection/latencyThreshold", fix="less than the timeouts", warning=True
            )
    rate = None if spec.limits is None else spec.limits.rate
    if breaker is None or rate is None or rate.per is not Per.SERVICE or rate.dry_run:
        return
    most = (rate.burst or rate.tokens) + rate.tokens * breaker.rolling_window / rate.fill_interval
    if most < breaker.request_volume_threshold:
        text = f"limits.rate lets {int(most)} requests through in rollingWindow, so that it never opens"
        yield Finding("GW0142", text, "/circuitBreaker/requestVolumeThreshold", fix=f"{max(1, int(most))}, or less")


def _check_budget(spec: Service) -> Iterator[Finding]:
    budget = spec.retry_budget
    retried = [at for at, route in enumerate(spec.routes) if route.retries is not None]
    if retried and budget.percent == 0 and budget.min_retry_concurrency == 0:
        text = f"allows no retry at all, and /routes/{retried[0]} says some"
        yield Finding("GW0145", text, "/retryBudget", fix="percent: 20")


def _check_spool(spec: Service, spool: Document) -> Iterator[Finding]:
    """A message must live longer than the node may keep away from the service, or it dies while it waits."""
    waits: Spool = spool.spec
    hosts = spec.hosts or (spec.name,)
    if not any(overlap(host, match.service) for host in hosts for match in waits.match):
        return
    offline = waits.queue_while_offline
    life = waits.max_age if offline is None else min(waits.max_age, offline.ttl)
    name = "maxAge" if offline is None or waits.max_age <= offline.ttl else "ttl"
    if spec.circuit_breaker is not None and spec.circuit_breaker.sleep_window >= life:
        text = f"what waits by {spool.id} dies first: its {name} is {life:g}s"
        yield Finding("GW0140", text, "/circuitBreaker/sleepWindow", fix=f"a longer {name} there", warning=True)
    for at, route in enumerate(spec.routes):
        retries = route.retries
        window = (
            0.0 if retries is None else retries.attempts * ((retries.per_try_timeout or 0) + retries.longest_backoff)
        )
        if retries is not None and window >= life:
            text = f"all tries may take {window:g}s, and what waits by {spool.id} dies first: its {name} is {life:g}s"
            yield Finding("GW0140", text, f"/routes/{at}/retries", fix=f"a longer {name} there", warning=True)
        if route.wait_for_route > 0:
            text = f"{spool.id} takes requests that nobody serves, so that not all of them wait by this"
            yield Finding("GW0141", text, f"/routes/{at}/waitForRoute", warning=True)
