"""Which rule of a `Service` document holds for a request: the first whose matches fit it. Asked once a decision."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.access import Pattern, full_route
from gateway.policy.principal import Principal
from gateway.policy.traffic import Match, RouteRule, ServiceRules, Source

#: For requests that no rule fits, and for documents without rules: the whole service, and nothing else about it.
DEFAULT = RouteRule("")


def rule_for(rules: ServiceRules, interaction: int, service: str, route: str, principal: Principal) -> RouteRule:
    """`interaction`: the request's frame type. `route` as the request names it, "" where it names tags alone."""
    full = full_route(service, route)
    tail = full[len(service) + 1 :] if full.startswith(service) else full
    for rule in rules.routes:
        if not rule.matches or any(_fits(match, interaction, full, tail, principal) for match in rule.matches):
            return rule
    return DEFAULT


def depends_on_interaction(rules: ServiceRules) -> bool:
    """Whether requests of different frame types may meet different rules."""
    return any(match.interactions for rule in rules.routes for match in rule.matches)


def _fits(match: Match, interaction: int, full: str, tail: str, principal: Principal) -> bool:
    if match.interactions and interaction not in match.interactions:
        return False
    if match.route:
        pattern = Pattern(match.route, "")
        if not pattern.matches(full) and not (tail and pattern.matches(tail)):
            return False
    return not match.sources or any(_is(source, principal) for source in match.sources)


def _is(source: Source, principal: Principal) -> bool:
    """Of principals, groups and kinds one each, of labels all."""
    if source.principals and not _any(source.principals, (principal.subject,)):
        return False
    if source.groups and not _any(source.groups, principal.groups):
        return False
    if source.kinds and principal.kind not in source.kinds:
        return False
    return set(source.labels) <= set(principal.labels)


def _any(patterns: Iterable[str], names: Iterable[str]) -> bool:
    held = tuple(names)
    return any(Pattern(text, "").matches(name) for text in patterns for name in held)
