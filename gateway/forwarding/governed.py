"""The part of a decision that a `Service` document makes, chosen once a decision: which rule holds, and what is
remembered of the service.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gateway.forwarding.admitting import ORDINARY
from gateway.forwarding.links import LOCAL

if TYPE_CHECKING:
    from gateway.forwarding.admitting import Guard
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.policy.traffic import RouteRule, ServiceRules
    from gateway.routing.group import Group


class ServiceState:
    """What this node remembers of one service that a document governs. It outlives new documents that say the same of
    it. `guard`: what protects it, where the document asks for anything of the kind. `left_out`: route ids of its
    ejected instances. `faults`: how many were injected, by kind."""

    __slots__ = ("faults", "guard", "left_out", "name", "rules")

    def __init__(self, name: str, rules: ServiceRules) -> None:
        self.name = name
        self.rules = rules
        self.guard: Guard | None = None
        self.left_out: frozenset[bytes] = frozenset()
        self.faults: Counter[str] = Counter()

    @property
    def document(self) -> str:
        return f"Service/{self.rules.name}"

    def leave_out(self, instances: frozenset[bytes]) -> None:
        """Pass these over from now on, while there are others."""
        self.left_out = instances


class Governed:
    """`rule`: the one that holds for the requests of a decision; None: the document has none for them. `here`: their
    caller is connected to this node, so what is done once a request is done here. `priority`, `fault`: the rule's."""

    __slots__ = ("candidates", "fault", "here", "priority", "rule", "state")

    def __init__(self, state: ServiceState, rule: RouteRule | None, candidates: Group, *, here: bool) -> None:
        self.state = state
        self.rule = rule
        self.candidates = candidates
        self.here = here
        self.fault = None if rule is None else rule.fault
        self.priority = ORDINARY if rule is None else rule.priority


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
    return Governed(state, rule, candidates, here=requester.side == LOCAL)
