"""What documents say of requests, compiled: the part of a snapshot that `Service`, `Access` and `Telemetry` make."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.policy.access import Pattern
from gateway.policy.authorization import AccessPolicy
from gateway.policy.telemetry import TelemetryRules
from gateway.policy.traffic import ServiceRules


@dataclass(frozen=True, slots=True)
class Governance:
    """`services` in the order of their names; a service's own name goes before patterns. Equal when the documents
    are."""

    services: tuple[ServiceRules, ...] = ()
    access: tuple[AccessPolicy, ...] = ()
    telemetry: TelemetryRules = field(default_factory=TelemetryRules)
    _named: dict[str, ServiceRules] = field(init=False, repr=False, compare=False)
    _patterns: tuple[tuple[Pattern, ServiceRules], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named: dict[str, ServiceRules] = {}
        patterns = []
        for rules in self.services:
            for host in rules.hosts or (rules.name,):
                if "*" in host:
                    patterns.append((Pattern(host, ""), rules))
                else:
                    named.setdefault(host, rules)
        object.__setattr__(self, "_named", named)
        object.__setattr__(self, "_patterns", tuple(patterns))

    def service(self, name: str) -> ServiceRules | None:
        """The rules for requests to a service; None where no document speaks of it."""
        found = self._named.get(name)
        if found is None and self._patterns:
            found = next((rules for pattern, rules in self._patterns if pattern.matches(name)), None)
        return found

    def by_interaction(self, service: str) -> bool:
        """Whether it makes a difference by which interaction a service is asked."""
        rules = self.service(service)
        return rules is not None and any(match.interactions for rule in rules.routes for match in rule.matches)
