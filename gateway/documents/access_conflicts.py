"""Where rules of `Access` documents contradict themselves, one another, or the bridges that stand beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents.access import Access, Condition, Rule, Source, Target
from gateway.documents.bridge import Bridge
from gateway.documents.covering import covered
from gateway.documents.findings import Finding
from gateway.documents.model import Document
from gateway.policy.authorization import SOURCE_KIND, Action
from gateway.policy.mqtt_filters import common, covers


def check(document: Document, standing: Sequence[Document]) -> Iterator[Finding]:
    spec: Access = document.spec
    bridges = [each.spec for each in standing if each.kind == "Bridge"]
    denials = [
        each
        for each in standing
        if each.kind == document.kind and each.spec.action is Action.DENY and not each.spec.dry_run
    ]
    for at, rule in enumerate(spec.rules_):
        place = f"/rules/{at}"
        yield from _check_itself(rule, place)
        yield from _check_earlier(spec.rules_[:at], rule, place)
        if bridges:
            yield from _check_topics(rule, bridges, place)
        if spec.action is Action.ALLOW:
            yield from _check_denied(rule, denials, place)


def _check_itself(rule: Rule, place: str) -> Iterator[Finding]:
    text, fix = "asks for nothing that it does not rule out", "what is asked for and what is ruled out differ"
    for number, source in enumerate(rule.sources):
        if _contradicts(source):
            yield Finding("GW0166", text, f"{place}/from/{number}", fix=fix)
    for number, target in enumerate(rule.to):
        if _cannot_be(target):
            yield Finding("GW0166", text, f"{place}/to/{number}", fix=fix)
    for number, condition in enumerate(rule.when):
        if condition.values and covered(condition.values, condition.not_values):
            yield Finding("GW0166", text, f"{place}/when/{number}", fix=fix)
        for earlier in rule.when[:number]:
            if _apart(earlier, condition):
                text = f"another condition on {condition.key} takes other values, and both must fit"
                yield Finding("GW0166", text, f"{place}/when/{number}", fix="one condition with all values")
    kinds = [set(each.values) for each in rule.when if each.key == SOURCE_KIND and each.values]
    asked = [set(map(str, each.kinds)) for each in rule.sources]
    if kinds and asked and all(each and each.isdisjoint(kinds[0]) for each in asked):
        text = "from asks for other kinds than the condition on source.kind"
        yield Finding("GW0166", text, f"{place}/when", fix="one of the two")


def _contradicts(source: Source) -> bool:
    return (
        (bool(source.principals) and covered(source.principals, source.not_principals))
        or (bool(source.groups) and covered(source.groups, source.not_groups))
        or (bool(source.kinds) and set(source.kinds) <= set(source.not_kinds))
    )


def _cannot_be(target: Target) -> bool:
    return (
        (bool(target.services) and covered(target.services, target.not_services))
        or (bool(target.routes) and covered(target.routes, target.not_routes))
        or (bool(target.topics) and all(any(covers(no, yes) for no in target.not_topics) for yes in target.topics))
    )


def _apart(one: Condition, other: Condition) -> bool:
    """Whether no value fits both; patterns may."""
    values = (*one.values, *other.values)
    return (
        one.key == other.key
        and one.key != "source.ip"
        and bool(one.values)
        and bool(other.values)
        and not any("*" in value for value in values)
        and set(one.values).isdisjoint(other.values)
    )


def _check_earlier(earlier: Sequence[Rule], rule: Rule, place: str) -> Iterator[Finding]:
    for at, other in enumerate(earlier):
        if other == rule or not (other.sources or other.to or other.when):
            text = f"/rules/{at}, before it, fits wherever it does"
            yield Finding("GW0167", text, place, fix="leave it out", warning=True)
            return


def _check_topics(rule: Rule, bridges: Sequence[Bridge], place: str) -> Iterator[Finding]:
    carried = [each for bridge in bridges for each in _carried(bridge)]
    for number, target in enumerate(rule.to):
        for at, topic in enumerate(target.topics):
            # {sub} is any one level.
            wanted = "/".join("+" if "{sub}" in level else level for level in topic.split("/"))
            if not any(common(wanted, each) for each in carried):
                text = "no rule of any Bridge has these topics"
                yield Finding("GW0168", text, f"{place}/to/{number}/topics/{at}", warning=True)


def _carried(bridge: Bridge) -> Iterator[str]:
    for rule in bridge.topics:
        yield rule.remote_pattern.filter
        yield rule.local_pattern.filter
    for inward in bridge.rules.rpc:
        yield inward.filter
    for call in bridge.rules.calls:
        yield call.topic.filter


def _check_denied(rule: Rule, denials: Sequence[Document], place: str) -> Iterator[Finding]:
    """An ALLOW of services that a DENY keeps from everybody."""
    for denial in denials:
        for number, other in enumerate(denial.spec.rules_):
            if other.sources or other.when or not other.to:
                continue
            if rule.to and all(any(_within(wide, target) for wide in other.to) for target in rule.to):
                text = f"{denial.id}/rules/{number} refuses all of it to everybody, and DENY goes first"
                yield Finding("GW0169", text, f"{place}/to", fix="narrow one of the two", warning=True)
                return


def _within(wide: Target, narrow: Target) -> bool:
    plain = not (wide.routes or wide.topics or wide.interactions or wide.not_services or wide.not_routes)
    plain = plain and not (wide.not_topics or wide.not_interactions)
    return (
        plain
        and bool(wide.services and narrow.services and not narrow.topics)
        and covered(narrow.services, wide.services)
    )
