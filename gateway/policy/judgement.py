"""Whether somebody may do what they ask for, by all `Access` documents together.

1. A DENY that fits refuses it.
2. Else, where some ALLOW has what is asked for in its scope, one of them must fit. The scope of a document is what its
   `to` names by services or by topics, as Istio's is the workload that it selects: routes, interactions, sources and
   conditions do not narrow it. A rule without services and topics has everything in its scope.
3. Else it is allowed. AUDIT decides nothing and is told.

A document in dry run decides nothing; what it would have refused is told. What the token grants is asked besides, by
`access`, and before: documents only narrow it.

What the caller's connection is like (TLS, transport, address) is known at the node that it is connected to. Elsewhere a
condition on it has been judged there: it refuses nothing, and keeps nobody out. Topics are judged where the broker is,
by nobody before, so there such a condition counts against the caller.

Names under `gateway` are not judged: devices must reach what renews their rights. No clock, no connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.policy.access import is_reserved
from gateway.policy.access_matching import Condition, Source, Target
from gateway.policy.asking import Ask, Caller, Here
from gateway.policy.authorization import REQUESTS, TOPIC_ACTS, AccessPolicy, AccessRule, Act, Action


class Step(NamedTuple):
    """What one rule says. `rule`: its place in its document. `why`: why it does not fit; empty where it does."""

    policy: str
    action: Action
    dry_run: bool
    rule: int
    why: str


class Verdict(NamedTuple):
    """`policy`, `rule`: what decided, by its name and the place of the rule; "" and -1 where no document has anything
    to say; of what no ALLOW fits, one that has it in its scope, and -1. `audits`: documents that are told of it.
    `dry_run_denied`: the document in dry run that would have refused it."""

    allowed: bool
    policy: str = ""
    rule: int = -1
    audits: tuple[str, ...] = ()
    dry_run_denied: str = ""


YES: Final = Verdict(True)


class Judgement:
    """All documents of one snapshot, ready to be asked. False where there are none."""

    __slots__ = ("_allow", "_audit", "_deny", "by_interaction", "here", "policies", "topics")

    def __init__(self, policies: Iterable[AccessPolicy] = (), here: Here | None = None) -> None:
        self.policies = tuple(policies)
        self.here = here or Here()
        compiled = [_Policy(policy, self.here) for policy in self.policies]
        self._deny = tuple(each for each in compiled if each.action is Action.DENY)
        self._allow = tuple(each for each in compiled if each.action is Action.ALLOW)
        self._audit = tuple(each for each in compiled if each.action is Action.AUDIT)
        #: Whether any of them speaks of topics.
        self.topics = any(each.about_topics for each in compiled)
        #: Whether it makes a difference by which interaction a service is asked, if only to whoever is told.
        self.by_interaction = any(policy.dry_run or policy.action is Action.AUDIT for policy in self.policies) or any(
            target.acts & REQUESTS not in (frozenset(), REQUESTS)
            for policy in self.policies
            for rule in policy.rules
            for target in rule.targets
        )

    def __bool__(self) -> bool:
        return bool(self.policies)

    def judge(self, caller: Caller, ask: Ask) -> Verdict:
        if not self.policies or (not ask.topic and is_reserved(ask.full)):
            return YES
        audits = tuple(each.name for each in self._audit if each.fitting(caller, ask) >= 0) if self._audit else ()
        dry_run = ""
        for policy in self._deny:
            rule = policy.fitting(caller, ask)
            if rule < 0:
                continue
            if not policy.dry_run:
                return Verdict(False, policy.name, rule, audits, dry_run)
            dry_run = dry_run or policy.name
        allowed, scoped, in_scope_dry, by_dry = YES, "", "", False
        for policy in self._allow:
            if not policy.in_scope(caller, ask):
                continue
            rule = policy.fitting(caller, ask)
            if policy.dry_run:
                in_scope_dry = in_scope_dry or policy.name
                by_dry = by_dry or rule >= 0
            elif rule >= 0:
                allowed = allowed if allowed.policy else Verdict(True, policy.name, rule)
            else:
                scoped = scoped or policy.name
        if scoped and not allowed.policy:
            return Verdict(False, scoped, -1, audits, dry_run)
        if in_scope_dry and not by_dry and not allowed.policy:
            dry_run = dry_run or in_scope_dry
        if not audits and not dry_run:
            return allowed
        return allowed._replace(audits=audits, dry_run_denied=dry_run)

    def explain(self, caller: Caller, ask: Ask) -> list[Step]:
        """What each rule says, in the order in which they count."""
        steps = []
        for policy in (*self._deny, *self._allow, *self._audit):
            if policy.action is Action.ALLOW and not policy.in_scope(caller, ask):
                steps.append(policy.step(-1, "what is asked for is not in its scope"))
                continue
            if not policy.rules:
                steps.append(policy.step(-1, "it has no rules"))
            steps += [policy.step(number, rule.why_not(caller, ask)) for number, rule in enumerate(policy.rules)]
        return steps


class _Policy:
    __slots__ = ("about_topics", "action", "dry_run", "name", "rules")

    def __init__(self, policy: AccessPolicy, here: Here) -> None:
        self.name = policy.name
        self.action = policy.action
        self.dry_run = policy.dry_run
        self.rules = [_Rule(rule, here, policy.action is Action.ALLOW) for rule in policy.rules]
        self.about_topics = not self.rules or any(rule.about_topics for rule in self.rules)

    def fitting(self, caller: Caller, ask: Ask) -> int:
        """The first rule that fits; -1: none does."""
        for number, rule in enumerate(self.rules):
            if not rule.why_not(caller, ask):
                return number
        return -1

    def in_scope(self, caller: Caller, ask: Ask) -> bool:
        if not self.rules:
            return ask.act is not Act.REGISTER
        return any(rule.in_scope(caller, ask) for rule in self.rules)

    def step(self, rule: int, why: str) -> Step:
        return Step(self.name, self.action, self.dry_run, rule, why)


class _Rule:
    __slots__ = ("_conditions", "_sources", "_targets")

    def __init__(self, rule: AccessRule, here: Here, allows: bool) -> None:
        self._sources = [Source(each) for each in rule.sources]
        self._targets = [Target(each, allows) for each in rule.targets]
        self._conditions = [Condition(each, here, allows) for each in rule.conditions]

    @property
    def about_topics(self) -> bool:
        return not self._targets or any(target.acts & TOPIC_ACTS for target in self._targets)

    def in_scope(self, caller: Caller, ask: Ask) -> bool:
        if not self._targets:
            return ask.act is not Act.REGISTER
        return any(target.in_scope(caller, ask) for target in self._targets)

    def why_not(self, caller: Caller, ask: Ask) -> str:
        why = _first_why([source.why_not(caller) for source in self._sources]) if self._sources else ""
        if why:
            return why
        if self._targets:
            why = _first_why([target.why_not(caller, ask) for target in self._targets])
        elif ask.act is Act.REGISTER:
            why = "it does not name register"
        if why:
            return why
        for condition in self._conditions:
            why = condition.why_not(caller, ask)
            if why:
                return why
        return ""


def _first_why(whys: list[str]) -> str:
    """Empty where one of them fits."""
    return "" if "" in whys else whys[0]
