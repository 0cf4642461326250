"""What protects services, as the admin API shows it, in any process of a node.

A row is what JSON can say; times are seconds from now, or since then. Known to workers too, which have nothing of HTTP.
"""

from __future__ import annotations

from typing import Any

from gateway.forwarding.admitting import Guard
from gateway.forwarding.governed import ServiceState
from gateway.forwarding.plane import Plane

Row = dict[str, Any]


def row(plane: Plane, service: str) -> Row | None:
    """One service on this process; None where no document governs it. Nothing is known of one without requests."""
    state = _state(plane, service)
    if state is None:
        return None
    found: Row = {"document": state.document, "faults": dict(state.faults), "retries": dict(state.retries)}
    if state.guard is not None:
        found |= _guard(plane, service, state.guard)
    return found


def reset(plane: Plane, service: str, instance: str | None) -> int:
    """Let an instance, or everything, begin anew. Returns how many instances were out and are not any more."""
    state = _state(plane, service)
    if state is None or state.guard is None:
        return 0
    if instance is not None:
        return int(state.guard.restore(bytes.fromhex(instance)))
    return state.guard.reset(plane.monotonic())


def is_known(plane: Plane, service: str) -> bool:
    """Whether somebody serves it, or a document speaks of it."""
    return _state(plane, service) is not None or _is_served(plane, service)


def _state(plane: Plane, service: str) -> ServiceState | None:
    governor = plane.governor
    if governor is None:
        return None
    # Who asks for names that nobody has must not have them remembered.
    return governor.state(service) if _is_served(plane, service) else governor.states.get(service)


def _is_served(plane: Plane, service: str) -> bool:
    return bool(service) and plane.table.service(service) is not None


def _guard(plane: Plane, service: str, guard: Guard) -> Row:
    now = plane.monotonic()
    guard.measure(now, alone=False)
    return {
        "limit": guard.limit or None,
        "open": guard.shedder.open,
        "waiting": guard.waiting,
        "refused": dict(guard.figures.refused),
        "breaker": _breaker(guard, now),
        "ejected": _ejected(plane, service, guard, now),
        "ejections": dict(guard.figures.ejections),
        "rate": _rate(guard, now),
        "adaptive": _adaptive(guard),
    }


def _breaker(guard: Guard, now: float) -> Row | None:
    breaker = guard.breaker
    if breaker is None:
        return None
    return {
        "state": breaker.state.value,
        "since_s": round(now - breaker.since, 3),
        "tries_in_s": round(breaker.retry_after_s(now), 3),
        "requests": breaker.requests,
        "failures": breaker.failures,
        "opened": breaker.opened,
    }


def _ejected(plane: Plane, service: str, guard: Guard, now: float) -> list[Row]:
    if guard.outliers is None:
        return []
    subjects = {route.route_id: route.subject for route in plane.table if route.service == service}
    return [
        {
            "instance": key.hex(),
            "subject": subjects.get(key),
            "cause": None if each.cause is None else each.cause.value,
            "back_in_s": round(max(0.0, each.until - now), 3),
            "times": each.ejections,
        }
        for key, each in guard.outliers.out.items()
    ]


def _rate(guard: Guard, now: float) -> Row | None:
    rates = guard.rates
    if rates is None:
        return None
    least = rates.least(now)
    return {
        "per": rates.rule.per.value,
        "dry_run": rates.rule.dry_run,
        "limited": rates.limited,
        "counted_apart": len(rates),
        "least_left": rates.rule.burst if least is None else round(least[1], 3),
        "least_left_of": None if least is None else least[0],
    }


def _adaptive(guard: Guard) -> Row | None:
    adaptive = guard.adaptive
    if adaptive is None:
        return None
    return {
        "limit": adaptive.limit,
        "least_latency_s": round(adaptive.least_s, 6),
        "latest_latency_s": round(adaptive.latest_s, 6),
        "measuring": adaptive.measuring,
    }
