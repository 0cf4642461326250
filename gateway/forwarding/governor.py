"""What documents say on one node: the rules, and what is remembered of each service while they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding.admitting import Guard, Rated, guards
from gateway.forwarding.governed import ServiceState
from gateway.forwarding.judging import caller_of
from gateway.policy.access import is_reserved
from gateway.policy.matching import rule_for
from gateway.routing.locator import longest_name
from gateway.routing.tags import SERVICE_NAME, canonical_key

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.policy.governance import Governance
    from gateway.policy.traffic import RouteRule
    from gateway.routing.address import Address
    from gateway.routing.table import RoutingTable

#: Services of which something is remembered; one document with a pattern may speak of any number.
MAX_STATES = 4096


class Governor:
    """`before`: the one whose place it takes; what it remembers by equal rules stays. `rated`: documents whose rates
    refuse."""

    def __init__(self, plane: Plane, governance: Governance, before: Governor | None) -> None:
        self._plane = plane
        self.governance = governance
        self.states: dict[str, ServiceState] = {}
        self.rated = [
            Rated(rules, rules.limits.rate)
            for rules in governance.services
            if rules.limits.rate is not None and not rules.limits.rate.dry_run
        ]
        if before is not None:
            for name, state in before.states.items():
                if governance.service(name) == state.rules:
                    self.states[name] = state
                    self._rate(state)

    def state(self, service: str) -> ServiceState | None:
        """What is remembered of a service; None where no document governs it. The node's own never are."""
        found = self.states.get(service)
        if found is None and not is_reserved(service):
            rules = self.governance.service(service)
            if rules is not None:
                if len(self.states) >= MAX_STATES:
                    self.states.clear()
                    for rated in self.rated:
                        rated.in_use.clear()
                found = self.states[service] = ServiceState(service, rules)
                self._guard(found)
        return found

    def _guard(self, state: ServiceState) -> None:
        plane, rules = self._plane, state.rules
        if any(route.mirror is not None for route in rules.routes):
            state.mirrors = plane.metrics.guard_figures(self._label(state)).mirrors
        if any(route.retries is not None for route in rules.routes):
            state.retries = plane.metrics.guard_figures(self._label(state)).retries
        protected = guards(rules)
        if protected or any(route.fault is not None for route in rules.routes):
            figures = plane.metrics.guard_figures(self._label(state))
            state.faults = figures.faults
            if protected:
                state.guard = Guard(rules, plane.now, figures, state.leave_out)
                self._rate(state)

    def _rate(self, state: ServiceState) -> None:
        if state.guard is not None and state.guard.rates is not None:
            for rated in self.rated:
                if rated.rules == state.rules:
                    rated.in_use.append((state.name, state.guard.rates))

    @staticmethod
    def _label(state: ServiceState) -> str:
        """What metrics call it: a document with a pattern may speak of services whose names hold devices' ids."""
        rules = state.rules
        return state.name if state.name in (rules.hosts or (rules.name,)) else rules.name

    @property
    def labels(self) -> set[str]:
        """What metrics call those that are guarded."""
        return {self._label(state) for state in self.states.values() if state.guard is not None}

    def measure(self) -> None:
        """Bring the figures of this moment up to date."""
        now = self._plane.monotonic()
        for state in self.states.values():
            if state.guard is not None:
                state.guard.measure(now, alone=self._label(state) == state.name)

    def rule(self, state: ServiceState, requester: Endpoint, decision: Decision) -> RouteRule | None:
        """The first route rule that fits the requests of a decision."""
        caller = caller_of(requester, decision.identity)
        return rule_for(state.rules, decision.interaction, state.name, decision.address.route, caller)

    def keyed(self, table: RoutingTable, address: Address) -> tuple[Address, str | None]:
        """Where a service is balanced by a tag of the request, that says which instance, and not what it must have:
        the address without it, and its value."""
        if not address.tags:
            return address, None
        service = address.tag(SERVICE_NAME) or longest_name(table.by_service, address.route) or ""
        state = self.state(service)
        balancer = None if state is None else state.rules.balancer
        if balancer is None or not balancer.hash_key:
            return address, None
        key = canonical_key(balancer.hash_key)
        value = None if key == SERVICE_NAME else address.tag(key)
        return (address, None) if value is None else (address.without(key), value)
