"""What is wrong with an `Access` beyond what its own shape can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents import access_conflicts
from gateway.documents.access import Access, Condition, Target
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.policy.access import is_reserved
from gateway.policy.authorization import TOPIC_ACTS, Act, Action, key_problem, value_problem


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Access = document.spec
    if spec.action is Action.AUDIT and spec.dry_run:
        yield Finding("GW0163", "AUDIT refuses nothing, so there is no dry run of it", "/dryRun", fix="leave it out")
    if not spec.rules_ and spec.action is Action.ALLOW:
        text = "without rules it allows nothing, and everything is in its scope: every request is refused"
        yield Finding("GW0164", text, "/rules", warning=True)
    elif not spec.rules_:
        yield Finding("GW0163", f"{spec.action} without rules never fits", "/rules", fix="add a rule")
    for at, rule in enumerate(spec.rules_):
        place = f"/rules/{at}"
        if spec.action is Action.DENY and not rule.sources and not rule.to and not rule.when:
            yield Finding("GW0164", "it refuses everything of everybody", place, warning=True)
        for number, source in enumerate(rule.sources):
            if not any(getattr(source, name) for name in type(source).model_fields):
                yield Finding("GW0163", "it says nothing of who asks", f"{place}/from/{number}", fix="leave it out")
        for number, target in enumerate(rule.to):
            yield from _of_target(target, f"{place}/to/{number}")
        for number, condition in enumerate(rule.when):
            yield from _of_condition(condition, f"{place}/when/{number}")
    yield from access_conflicts.check(document, standing)


def _of_target(target: Target, place: str) -> Iterator[Finding]:
    for number, service in enumerate(target.services):
        if is_reserved(service):
            text = f"{service} is the node's own, and no document keeps anybody from it"
            fix = "what a node offers is narrowed by its settings and by tokens"
            yield Finding("GW0165", text, f"{place}/services/{number}", fix=fix)
    rules = target.rules
    if not rules.acts:
        fix = "requests have the four interactions and register, topics have publish and subscribe"
        yield Finding("GW0163", "none of its interactions is one of what it names", f"{place}/interactions", fix=fix)
    elif (rules.topics or rules.not_topics) and not rules.acts & TOPIC_ACTS:
        text = "its topics never matter: neither publish nor subscribe is among its interactions"
        yield Finding("GW0163", text, f"{place}/topics", fix="name publish or subscribe, or no interactions")
    elif Act.REGISTER in rules.acts and (rules.routes or rules.not_routes):
        yield Finding("GW0163", "a service is registered whole: register has no routes", f"{place}/routes")


def _of_condition(condition: Condition, place: str) -> Iterator[Finding]:
    problem = key_problem(condition.key)
    if problem:
        yield Finding("GW0161", problem, f"{place}/key")
        return
    for field, values in (("values", condition.values), ("notValues", condition.not_values)):
        for number, value in enumerate(values):
            problem = value_problem(condition.key, value)
            if problem:
                yield Finding("GW0162", problem, f"{place}/{field}/{number}")
