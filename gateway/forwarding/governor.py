"""What documents say on one node: the rules, and what is remembered of each service while they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding.governed import ServiceState
from gateway.policy.access import is_reserved

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.policy.governance import Governance
    from gateway.policy.traffic import RouteRule, ServiceRules

#: Services of which something is remembered; one document with a pattern may speak of any number.
MAX_STATES = 4096


class Governor:
    """`before`: the one whose place it takes; what it remembers by equal rules stays."""

    def __init__(self, governance: Governance, before: Governor | None) -> None:
        self.governance = governance
        self.states: dict[str, ServiceState] = {}
        if before is not None:
            for name, state in before.states.items():
                if governance.service(name) == state.rules:
                    self.states[name] = state

    def state(self, service: str) -> ServiceState | None:
        """What is remembered of a service; None where no document governs it. The node's own never are."""
        found = self.states.get(service)
        if found is None and not is_reserved(service):
            rules = self.governance.service(service)
            if rules is not None:
                if len(self.states) >= MAX_STATES:
                    self.states.clear()
                found = self.states[service] = ServiceState(service, rules)
        return found

    def rule(self, rules: ServiceRules, requester: Endpoint, decision: Decision) -> RouteRule | None:
        """The first route rule that fits the requests of a decision."""
        # Matches are read where rules are chosen; a rule without any fits everything.
        return next((rule for rule in rules.routes if not rule.matches), None)
