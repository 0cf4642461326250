"""Which rule of a `Service` document holds for a request: the first whose matches fit it. Asked once a decision."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.access import Pattern, full_route
from gateway.policy.asking import Caller
from gateway.policy.traffic import Match, RouteRule, ServiceRules, Source


def rule_for(rules: ServiceRules, interaction: int, service: str, route: str, caller: Caller) -> RouteRule | None:
    """`interaction`: the request's frame type. `route` as the request names it, "" where it names tags alone. None: no
    rule fits, and the request goes to the whole service."""
    full = full_route(service, route)
    tail = full[len(service) + 1 :] if full.startswith(service) else full
    for rule in rules.routes:
        if not rule.matches or any(_fits(match, interaction, full, tail, caller) for match in rule.matches):
            return rule
    return None


def _fits(match: Match, interaction: int, full: str, tail: str, caller: Caller) -> bool:
    if match.interactions and interaction not in match.interactions:
        return False
    if match.route:
        pattern = Pattern(match.route, "")
        if not pattern.matches(full) and not (tail and pattern.matches(tail)):
            return False
    return not match.sources or any(_is(source, caller) for source in match.sources)


def _is(source: Source, caller: Caller) -> bool:
    """Of principals, groups and kinds one each, of labels all."""
    if source.principals and not _any(source.principals, (caller.subject,)):
        return False
    if source.groups and not _any(source.groups, caller.groups):
        return False
    if source.kinds and caller.kind not in source.kinds:
        return False
    return set(source.labels) <= set(caller.labels)


def _any(patterns: Iterable[str], names: Iterable[str]) -> bool:
    held = tuple(names)
    return any(Pattern(text, "").matches(name) for text in patterns for name in held)
