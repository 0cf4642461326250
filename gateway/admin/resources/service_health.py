"""What protects a service, as it stands now: its breaker, ejected instances, limits and rates; and beginning anew."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import Field

from gateway.admin import guard_rows
from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.problem import Problem
from gateway.admin.shapes import Shown, Taken
from gateway.control.roles import Action

operations = Operations("services", "routing")

Name = Annotated[str, Path(max_length=255, description="The service's name.")]


class BreakerView(Shown):
    """`requests`, `failures`: those that ended within the window. `tries_in_s`: when it lets one through again."""

    state: Literal["closed", "open", "half-open"]
    since_s: float
    tries_in_s: float
    requests: int
    failures: int
    opened: int


class EjectedView(Shown):
    """An instance that is passed over. `instance`: its route's id; `subject` is null where it is not connected here."""

    instance: str
    subject: str | None
    cause: str | None
    back_in_s: float
    times: int


class RateView(Shown):
    """`counted_apart`: buckets that are not full; `least_left`: tokens of the emptiest, below 0 those owed."""

    per: Literal["principal", "service", "route"]
    dry_run: bool
    limited: int
    counted_apart: int
    least_left: float
    least_left_of: str | None


class AdaptiveView(Shown):
    limit: int
    least_latency_s: float
    latest_latency_s: float
    measuring: bool


class GuardView(Shown):
    """What one process of the node knows. `limit`: requests that may be open at once. `refused`, `ejections`, `faults`,
    `retries`: by reason, since the start."""

    worker: int
    document: str
    faults: dict[str, int]
    retries: dict[str, int]
    limit: int | None = None
    open: int = 0
    waiting: int = 0
    refused: dict[str, int] = Field({})
    breaker: BreakerView | None = None
    ejected: list[EjectedView] = Field([])
    ejections: dict[str, int] = Field({})
    rate: RateView | None = None
    adaptive: AdaptiveView | None = None


class ServiceHealth(Shown):
    """`processes`: each process of the node counts by itself; none where no document governs the service."""

    name: str
    processes: list[GuardView]


class Reset(Taken):
    instance: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="The route id of one ejected instance; not given: everything."
    )


class WasReset(Shown):
    """`returned`: instances that were passed over, and are not any more."""

    returned: int


@operations.get("/services/{name}/health", response_model=ServiceHealth)
async def get_service_health(here: Here, name: Name) -> Any:
    """What protects a service here, and how that stands: breaker, ejected instances, limits, rates."""
    _must_be_known(here, name)
    rows = [(0, guard_rows.row(here.plane, name))]
    if here.node.workers is not None:
        rows += await here.node.workers.ask("guard", service=name)
    return ServiceHealth(
        name=name, processes=[GuardView(worker=index, **row) for index, row in rows if row is not None]
    )


@operations.post("/services/{name}:reset", Action.OPERATE, response_model=WasReset)
async def reset_service(here: Here, by: By, name: Name, reset: Reset) -> Any:
    """Let one ejected instance come back now; or everything: close the breaker, fill the buckets, bring all back."""
    _must_be_known(here, name)
    await here.control.audit.record(
        by, "service.reset", f"service:{name[:128]}", details={"instance": reset.instance or ""}
    )
    returned = guard_rows.reset(here.plane, name, reset.instance)
    if here.node.workers is not None:
        returned += sum(n for _, n in await here.node.workers.ask("reset", service=name, instance=reset.instance))
    return WasReset(returned=returned)


def _must_be_known(here: Context, name: str) -> None:
    if not guard_rows.is_known(here.plane, name):
        raise Problem("not-found", f"nobody serves {name}, and no document speaks of it")
