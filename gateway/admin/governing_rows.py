"""What documents say of a request that nobody sends: the rule of a `Service` document, and spools that it waits in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admin.shapes import Shown
from gateway.policy.asking import Caller
from gateway.policy.matching import rule_for
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.admin.context import Context
    from gateway.policy.principal import Principal
    from gateway.routing.address import Address

INTERACTIONS = {
    "requestResponse": FrameType.REQUEST_RESPONSE,
    "fireAndForget": FrameType.REQUEST_FNF,
    "requestStream": FrameType.REQUEST_STREAM,
    "requestChannel": FrameType.REQUEST_CHANNEL,
}


class Part(Shown):
    """So many percent of the requests go to a subset; `subset` "" is the whole service."""

    subset: str
    weight: int


class Governing(Shown):
    """`rule`: the route rule of the document that holds; "" where none fits and the request goes to the whole service.
    `attempts`: tries beyond the first."""

    document: str
    rule: str
    to: list[Part]
    timeout_s: float | None
    attempts: int
    priority: int | None
    faults: bool
    breaker: str | None


def governing(
    here: Context, principal: Principal, service: str | None, route: str, interaction: str
) -> Governing | None:
    """None: no document governs the service."""
    governor = here.plane.governor
    state = None if governor is None or not service else governor.state(service)
    if state is None or service is None:
        return None
    caller = Caller.of(principal, here.plane.node)
    rule = rule_for(state.rules, INTERACTIONS[interaction], service, route, caller)
    breaker = None if state.guard is None else state.guard.breaker
    return Governing(
        document=state.document,
        rule="" if rule is None else rule.name,
        to=[] if rule is None else [Part(subset=each.subset, weight=each.weight) for each in rule.to],
        timeout_s=None if rule is None else rule.timeout_s,
        attempts=0 if rule is None or rule.retries is None else rule.retries.attempts,
        priority=None if rule is None else rule.priority,
        faults=rule is not None and rule.fault is not None,
        breaker=None if breaker is None else breaker.state.value,
    )


def spools_of(here: Context, address: Address, interaction: str) -> list[str]:
    """Where it would wait while nobody serves it, by name (`document/service`): one at most takes it."""
    return [] if here.node.depot is None else list(here.node.depot.destinations(address, interaction))
