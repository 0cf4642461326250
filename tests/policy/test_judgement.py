"""Access rules against an oracle that follows the words of `docs/governance.md` one by one (fault 66)."""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.access import full_route
from gateway.policy.asking import Ask, Caller, Here
from gateway.policy.authorization import (
    REQUESTS,
    TOPIC_ACTS,
    AccessPolicy,
    AccessRule,
    Act,
    Action,
    From,
    To,
    When,
    key_problem,
    value_problem,
)
from gateway.policy.judgement import YES, Judgement, Verdict
from gateway.policy.mqtt_filters import matches

HERE = Here("edge-1", "edge", (("site", "7"),))
_SUBJECTS = ("d1", "d2", "op", "d/1", "+")
_TOPICS = ("cmd/d1", "cmd/d2", "state", "cmd", "$SYS/x")


# The oracle: no compiling, no shortcuts.


def _text(patterns: tuple[str, ...], name: str, subject: str = "{sub}") -> bool:
    for pattern in patterns:
        parts = [re.escape(part.replace("{sub}", subject)) for part in pattern.split("*")]
        whole = ".*".join(parts)
        if pattern.endswith((".*", "/*")):
            whole = f"(?:{whole}|{'.*'.join(parts[:-1])[:-2]})"
        if re.fullmatch(whole, name, re.DOTALL):
            return True
    return False


def _topic(filters: tuple[str, ...], topic: str, subject: str) -> bool:
    for each in filters:
        if "{sub}" in each and (not subject or set("/+#") & set(subject)):
            continue
        if matches(each.replace("{sub}", subject), topic):
            return True
    return False


def _source(source: From, caller: Caller) -> bool:
    return (
        (not source.principals or _text(source.principals, caller.subject))
        and (not source.groups or any(_text(source.groups, group) for group in caller.groups))
        and (not source.kinds or caller.kind in source.kinds)
        and all(any(key == k and _text((value,), v) for k, v in caller.labels) for key, value in source.labels)
        and not _text(source.not_principals, caller.subject)
        and not any(_text(source.not_groups, group) for group in caller.groups)
        and caller.kind not in source.not_kinds
    )


def _about(target: To) -> set[Act]:
    acts = set(target.interactions) or set(Act) - {Act.REGISTER}
    says_requests = target.services or target.routes or target.not_services or target.not_routes
    says_topics = target.topics or target.not_topics
    if says_requests and not says_topics:
        acts -= TOPIC_ACTS
    if says_topics and not says_requests:
        acts &= TOPIC_ACTS
    return acts - target.not_interactions


def _service(target: To, service: str, subject: str) -> bool:
    return (not target.services or _text(target.services, service, subject)) and not _text(
        target.not_services, service, subject
    )


def _splits(ask: Ask) -> list[tuple[str, str]]:
    if ask.service:
        return [(ask.service, full_route(ask.service, ask.route)[len(ask.service) + 1 :])]
    return [(ask.route, ""), *((ask.route[:n], ask.route[n + 1 :]) for n, c in enumerate(ask.route) if c in "./")]


def _target(target: To, caller: Caller, ask: Ask) -> bool:
    subject = caller.subject
    if ask.act not in _about(target):
        return False
    if ask.act in TOPIC_ACTS:
        return (not target.topics or _topic(target.topics, ask.topic, subject)) and not _topic(
            target.not_topics, ask.topic, subject
        )
    full = full_route(ask.service, ask.route)
    return any(
        _service(target, service, subject)
        and (not target.routes or _text(target.routes, full, subject) or _text(target.routes, rest, subject))
        and not _text(target.not_routes, full, subject)
        and not _text(target.not_routes, rest, subject)
        for service, rest in _splits(ask)
    )


def _condition(when: When, caller: Caller, ask: Ask, allows: bool) -> bool:
    match when.key:
        case "connection.tls":
            found = None if caller.tls is None else ["true" if caller.tls else "false"]
        case "source.ip":
            found = None if caller.ip is None else [caller.ip]
        case "source.kind":
            found = [caller.kind]
        case "node.role":
            found = [HERE.role]
        case "request.tags[color]":
            found = [value for key, value in ask.tags if key == "color"] or [""]
        case _:
            raise AssertionError(when.key)
    if found is None:
        return allows != (ask.act in TOPIC_ACTS)

    def one(value: str) -> bool:
        if when.key == "source.ip":
            inside = [ipaddress.ip_address(value) in ipaddress.ip_network(n) for n in when.values] if value else []
            outside = [ipaddress.ip_address(value) in ipaddress.ip_network(n) for n in when.not_values] if value else []
            return (not when.values or any(inside)) and not any(outside)
        return (not when.values or _text(when.values, value)) and not _text(when.not_values, value)

    return all(map(one, found)) if allows else any(map(one, found))


def _fits(policy: AccessPolicy, caller: Caller, ask: Ask) -> list[int]:
    allows = policy.action is Action.ALLOW
    return [
        number
        for number, rule in enumerate(policy.rules)
        if (not rule.sources or any(_source(each, caller) for each in rule.sources))
        and (any(_target(each, caller, ask) for each in rule.targets) or (not rule.targets and ask.act != "register"))
        and all(_condition(each, caller, ask, allows) for each in rule.conditions)
    ]


def _scope(policy: AccessPolicy, caller: Caller, ask: Ask) -> bool:
    if not policy.rules:
        return ask.act is not Act.REGISTER
    for rule in policy.rules:
        for target in rule.targets or (To(),):
            about = _about(target)
            if ask.act in TOPIC_ACTS:
                if about & TOPIC_ACTS and (
                    (not target.topics or _topic(target.topics, ask.topic, caller.subject))
                    and not _topic(target.not_topics, ask.topic, caller.subject)
                ):
                    return True
            elif (Act.REGISTER in about if ask.act is Act.REGISTER else about & REQUESTS) and any(
                _service(target, service, caller.subject) for service, _ in _splits(ask)
            ):
                return True
    return False


def _oracle(policies: tuple[AccessPolicy, ...], caller: Caller, ask: Ask) -> bool:
    enforced = [policy for policy in policies if not policy.dry_run]
    if any(each.action is Action.DENY and _fits(each, caller, ask) for each in enforced):
        return False
    allows = [each for each in enforced if each.action is Action.ALLOW and _scope(each, caller, ask)]
    return not allows or any(_fits(each, caller, ask) for each in allows)


# What is drawn: few names, so that rules often meet what is asked for.

_some = st.lists
_names = ("thermo", "pump", "thermo.a", "*", "th*", "thermo.*", "{sub}")
_routes = ("set.*", "get", "*", "thermo.set.x", "*.x")
_filters = ("cmd/#", "cmd/+", "cmd/{sub}", "#", "state")


def _few(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


_acts = st.frozensets(st.sampled_from(list(Act)), max_size=2)
_sources = st.builds(
    From,
    principals=_few(("d1", "d*", "op")),
    groups=_few(("ops", "o*", "guests")),
    kinds=_few(("device", "user")),
    labels=st.lists(st.sampled_from([("site", "7"), ("site", "*")]), max_size=1).map(tuple),
    not_principals=_few(("d1",)),
    not_groups=_few(("ops",)),
    not_kinds=_few(("user",)),
)
_targets = st.builds(
    To,
    services=_few(_names),
    routes=_few(_routes),
    topics=_few(_filters),
    interactions=_acts,
    not_services=_few(("pump",)),
    not_routes=_few(("get",)),
    not_topics=_few(("cmd/d1",)),
    not_interactions=_acts,
)
_whens = st.one_of(
    st.builds(When, st.just("connection.tls"), _few(("true", "false")), _few(("false",))),
    st.builds(When, st.just("source.ip"), _few(("10.0.0.0/8", "::1/128")), _few(("10.1.0.0/16",))),
    st.builds(When, st.just("source.kind"), _few(("device",)), _few(("user",))),
    st.builds(When, st.just("node.role"), _few(("edge", "central")), st.just(())),
    st.builds(When, st.just("request.tags[color]"), _few(("red", "b*", "")), _few(("blue",))),
)
_rules = st.builds(
    AccessRule,
    sources=st.lists(_sources, max_size=2).map(tuple),
    targets=st.lists(_targets, max_size=2).map(tuple),
    conditions=st.lists(_whens, max_size=1).map(tuple),
)
_policies = st.lists(
    st.builds(
        AccessPolicy,
        name=st.just("p"),
        action=st.sampled_from(list(Action)),
        rules=st.lists(_rules, max_size=2).map(tuple),
        dry_run=st.booleans(),
    ),
    max_size=4,
).map(lambda many: tuple(replace(each, name=f"p{number}") for number, each in enumerate(many)))
_callers = st.builds(
    Caller,
    subject=st.sampled_from(_SUBJECTS),
    kind=st.sampled_from(["device", "user"]),
    groups=_few(("ops", "guests")),
    labels=st.sampled_from([(), (("site", "7"),)]),
    tls=st.sampled_from([None, True, False]),
    ip=st.sampled_from([None, "", "10.1.2.3", "192.168.0.1", "::1"]),
)
_asks = st.one_of(
    st.builds(
        Ask,
        act=st.sampled_from([*sorted(REQUESTS), Act.REGISTER]),
        service=st.sampled_from(["", "thermo", "pump", "thermo.a", "d1"]),
        route=st.sampled_from(["thermo.set.x", "set.x", "get", "thermo", "thermo.a.get"]),
        tags=st.sampled_from([(), (("color", "red"),), (("color", "red"), ("color", "blue"))]),
    ),
    st.builds(Ask, act=st.sampled_from(sorted(TOPIC_ACTS)), topic=st.sampled_from(_TOPICS)),
)


@given(_policies, _callers, _asks)
@settings(max_examples=60, deadline=None)
def test_the_judgement_is_that_of_the_words(policies: tuple[AccessPolicy, ...], caller: Caller, ask: Ask) -> None:
    judgement = Judgement(policies, HERE)
    verdict = judgement.judge(caller, ask)
    assert verdict.allowed == _oracle(policies, caller, ask)
    audits = tuple(p.name for p in policies if p.action is Action.AUDIT and _fits(p, caller, ask))
    assert set(verdict.audits) == set(audits)
    if verdict.allowed:
        as_if = tuple(replace(policy, dry_run=False) for policy in policies)
        assert bool(verdict.dry_run_denied) == (not _oracle(as_if, caller, ask))
    if verdict.rule >= 0:
        decided = next(policy for policy in policies if policy.name == verdict.policy)
        assert verdict.rule == _fits(decided, caller, ask)[0]
    fitting = {(step.policy, step.rule) for step in judgement.explain(caller, ask) if not step.why}
    for policy in policies:
        if policy.action is not Action.ALLOW or _scope(policy, caller, ask):
            assert {(policy.name, number) for number in _fits(policy, caller, ask)} == {
                each for each in fitting if each[0] == policy.name
            }


@given(_policies, _callers, st.sampled_from(["cmd/#", "cmd/+", "#", "state", "cmd/d1"]))
@settings(max_examples=25, deadline=None)
def test_a_filter_is_refused_only_when_no_topic_in_it_is_allowed(
    policies: tuple[AccessPolicy, ...], caller: Caller, pattern: str
) -> None:
    judgement = Judgement(policies, HERE)
    if not judgement.judge(caller, Ask(Act.SUBSCRIBE, topic=pattern, wide=True)).allowed:
        for topic in _TOPICS:
            if matches(pattern, topic):
                assert not judgement.judge(caller, Ask(Act.SUBSCRIBE, topic=topic)).allowed


@given(_policies, _callers, st.sampled_from(["thermo", "pump"]))
@settings(max_examples=25, deadline=None)
def test_a_service_is_hidden_only_from_who_may_ask_it_nothing(
    policies: tuple[AccessPolicy, ...], caller: Caller, service: str
) -> None:
    judgement = Judgement(policies, HERE)
    if not judgement.judge(caller, Ask(Act.REQUEST_RESPONSE, service, wide=True)).allowed:
        for act, route in itertools.product(REQUESTS, ("set.x", "get", "")):
            assert not judgement.judge(caller, Ask(act, service, route)).allowed


def test_what_is_under_gateway_is_never_judged() -> None:
    nobody = Judgement((AccessPolicy("none", Action.ALLOW), AccessPolicy("no", Action.DENY, (AccessRule(),))))
    caller = Caller("d1", "device")
    for name in ("gateway", "gateway.renew", "gateway/enroll"):
        assert nobody.judge(caller, Ask(Act.REQUEST_RESPONSE, "gateway", name)) == YES
    assert nobody.judge(caller, Ask(Act.REQUEST_RESPONSE, "thermo", "x")) == Verdict(False, "no", 0)


def test_a_mapped_address_is_the_one_that_it_stands_for() -> None:
    rule = AccessRule(conditions=(When("source.ip", ("10.0.0.0/8",)),))
    judgement = Judgement((AccessPolicy("lan", Action.DENY, (rule,)),))
    ask = Ask(Act.REQUEST_RESPONSE, "thermo")
    assert not judgement.judge(Caller("d", "device", ip="::ffff:10.2.3.4"), ask).allowed
    assert judgement.judge(Caller("d", "device", ip="fe80::1%eth0"), ask).allowed


def test_a_key_or_value_that_can_never_hold_is_named() -> None:
    assert key_problem("source.labels[site]") == key_problem("connection.tls") == ""
    for wrong in ("source.labels", "source.labels[]", "request.headers[x]", "connection.tls[x]", ""):
        assert "is no key" in key_problem(wrong)
    assert value_problem("source.ip", "10.0.0.0/8") == value_problem("node.role", "edge") == ""
    assert value_problem("node.labels[x]", "any*") == ""
    for key, value in (("source.ip", "10.*"), ("connection.tls", "yes"), ("connection.transport", "udp")):
        assert value_problem(key, value)
