"""The part of a decision that a `Service` document makes, chosen once a decision: which rule holds, and what is
remembered of the service.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gateway.forwarding.admitting import ORDINARY
from gateway.forwarding.choosing import WHOLE_SERVICE, Choices, Chooser
from gateway.forwarding.links import LOCAL
from gateway.policy.retry_budget import RetryAccount

if TYPE_CHECKING:
    from gateway.forwarding.admitting import Guard
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.policy.traffic import RouteRule, ServiceRules
    from gateway.routing.group import Group


class ServiceState:
    """What this node remembers of one service that a document governs. It outlives new documents that say the same of
    it. `guard`: what protects it, where the document asks for anything of the kind. `choices`: what choosing its
    instances remembers. `faults`: how many were injected, by kind; `mirrors`: what became of copies. `account`: its
    budget of retries; `retries`: what became of the wish for one."""

    __slots__ = ("account", "choices", "faults", "guard", "mirrors", "name", "retries", "rules")

    def __init__(self, name: str, rules: ServiceRules) -> None:
        self.name = name
        self.rules = rules
        self.choices = Choices()
        self.guard: Guard | None = None
        self.faults: Counter[str] = Counter()
        self.mirrors: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.account = RetryAccount(rules.retry_budget)

    @property
    def document(self) -> str:
        return f"Service/{self.rules.name}"

    def leave_out(self, instances: frozenset[bytes]) -> None:
        """Pass these over from now on, while there are others."""
        self.choices.leave_out(instances)


class Governed:
    """`rule`: the one that holds for the requests of a decision; None: the document has none for them. `here`: their
    caller is connected to this node, so what is done once a request is done here. `priority`, `fault`, `retries`: the
    rule's; `timeout_s`, too, where they are from here; 0.0: none; `try_s`: of each attempt."""

    __slots__ = ("candidates", "chooser", "fault", "here", "priority", "retries", "rule", "state", "timeout_s", "try_s")

    def __init__(
        self, state: ServiceState, rule: RouteRule | None, candidates: Group, chooser: Chooser, *, here: bool
    ) -> None:
        self.state = state
        self.rule = rule
        self.candidates = candidates
        self.chooser = chooser
        self.here = here
        self.fault = None if rule is None else rule.fault
        self.retries = None if rule is None else rule.retries
        self.try_s = 0.0 if self.retries is None else self.retries.per_try_timeout_s or 0.0
        self.priority = ORDINARY if rule is None else rule.priority
        self.timeout_s = (rule.timeout_s or 0.0) if here and rule is not None else 0.0


def govern(plane: Plane, requester: Endpoint, decision: Decision, candidates: Group) -> Governed | None:
    """What documents say of the requests of a decision; None: nothing."""
    governor = plane.governor
    if governor is None or decision.multicast or decision.told:
        return None
    name = candidates.routes[0].service
    if not name or any(route.service != name for route in candidates.routes):
        return None
    state = governor.state(name)
    if state is None:
        return None
    rule = governor.rule(state, requester, decision)
    chooser = Chooser(plane, requester, decision, state.rules, state.choices, rule or WHOLE_SERVICE, candidates.routes)
    return Governed(state, rule, candidates, chooser, here=requester.side == LOCAL)
