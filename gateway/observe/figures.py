"""What one process counts, as another one is told: every counter by its name, as JSON can say it."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

from gateway.observe.guards import GuardFigures
from gateway.observe.metrics import Counters, Durations, Metrics, Path
from gateway.observe.updates import UpdateCounters

_OUTCOMES = ("requests", "ok", "failed", "canceled", "refused")
#: What is counted by words of what protects a service.
_TABLES = ("refused", "faults", "ejections", "mirrors", "waits", "retries")


def told(metrics: Metrics) -> dict[str, Any]:
    metrics.measure()
    counters = metrics.counters
    return {
        "counters": {name: getattr(counters, name) for name in Counters.__slots__},
        "paths": [
            [path, _durations(stats), [getattr(stats, name) for name in _OUTCOMES]]
            for path, stats in metrics.paths.items()
        ],
        "policies": [[*key, count] for key, count in metrics.policies.items()],
        "lag": _durations(metrics.lag),
        "lag_latest": metrics.lag_latest,
        "updates": _fields(metrics.updates),
        "guards": {label: _fields(each) for label, each in metrics.guards.items()},
    }


def heard(figures: dict[str, Any]) -> Metrics:
    """The metrics of the process that has told this."""
    metrics = Metrics()
    for name, value in figures["counters"].items():
        setattr(metrics.counters, name, value)
    for path, durations, outcomes in figures["paths"]:
        stats = metrics.enter(Path(*path))
        _take(stats, durations)
        for name, value in zip(_OUTCOMES, outcomes, strict=True):
            setattr(stats, name, value)
    metrics.policies = {(policy, outcome): count for policy, outcome, count in figures["policies"]}
    _take(metrics.lag, figures["lag"])
    metrics.lag_latest = figures["lag_latest"]
    said = figures["updates"]
    counted = {name: Counter(said[name]) for name in ("downloads", "reports")}
    metrics.updates = UpdateCounters(**said | counted)
    for label, guarded in figures["guards"].items():
        tables = {name: Counter(guarded[name]) for name in _TABLES}
        metrics.guards[label] = GuardFigures(**guarded | tables)
    return metrics


def _fields(counted: UpdateCounters | GuardFigures) -> dict[str, Any]:
    """Field by field; `asdict` counts the rows of a Counter in place of copying them."""
    values = {each.name: getattr(counted, each.name) for each in fields(counted)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def _durations(durations: Durations) -> list[Any]:
    return [durations.sum_seconds, list(durations.buckets)]


def _take(durations: Durations, said: list[Any]) -> None:
    durations.sum_seconds, durations.buckets = said
