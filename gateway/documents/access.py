"""`kind: Access`: who may send what to whom, over routes and MQTT topics alike, in the shape of Istio's
AuthorizationPolicy. What `.rules` makes of it is `policy.authorization`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.documents.model import Body, Part
from gateway.documents.topic_rules import Filter
from gateway.documents.words import Labels, Value, Who, pairs, told
from gateway.policy import authorization
from gateway.policy.access import SUBJECT, is_pattern
from gateway.policy.authorization import Act, Action
from gateway.policy.principal import Kind

MAX_RULES = 64
MAX_LISTED = 64


def _names(text: str) -> str:
    if not is_pattern(text):
        raise ValueError(f"is no name in which only * stands for others, and {SUBJECT} for the caller")
    return text


Names = Annotated[str, AfterValidator(_names)]


class Source(Part):
    """Who asks. All that is given must fit."""

    principals: tuple[Who, ...] = told("Subjects, with `*`; one must fit.", (), max_length=MAX_LISTED)
    groups: tuple[Who, ...] = told("Groups, with `*`; the caller is in one of them.", (), max_length=MAX_LISTED)
    kinds: tuple[Kind, ...] = told("The caller is of one of these kinds.", (), max_length=MAX_LISTED)
    labels: Labels = told("The caller has all of these labels; values with `*`.", {})
    not_principals: tuple[Who, ...] = told("None of these.", (), max_length=MAX_LISTED)
    not_groups: tuple[Who, ...] = told("In none of these.", (), max_length=MAX_LISTED)
    not_kinds: tuple[Kind, ...] = told("Of none of these.", (), max_length=MAX_LISTED)

    @property
    def rules(self) -> authorization.From:
        return authorization.From(
            self.principals,
            self.groups,
            tuple(map(str, self.kinds)),
            pairs(self.labels),
            self.not_principals,
            self.not_groups,
            tuple(map(str, self.not_kinds)),
        )


class Target(Part):
    """What is asked for: services and routes, or topics, or either."""

    services: tuple[Names, ...] = told(
        "Names of services, with `*`; `{sub}` is the caller's subject.", (), max_length=MAX_LISTED
    )
    routes: tuple[Names, ...] = told(
        "Whole routes, or what follows the service's name, with `*`.", (), max_length=MAX_LISTED
    )
    topics: tuple[Filter, ...] = told("MQTT topic filters; `{sub}` is the caller's subject.", (), max_length=MAX_LISTED)
    interactions: tuple[Act, ...] = told(
        "One of these; none named: all but `register`, which is to serve.", (), max_length=MAX_LISTED
    )
    not_services: tuple[Names, ...] = told("None of these.", (), max_length=MAX_LISTED)
    not_routes: tuple[Names, ...] = told("None of these.", (), max_length=MAX_LISTED)
    not_topics: tuple[Filter, ...] = told("None that these match.", (), max_length=MAX_LISTED)
    not_interactions: tuple[Act, ...] = told("None of these.", (), max_length=MAX_LISTED)

    @property
    def rules(self) -> authorization.To:
        return authorization.To(
            self.services,
            self.routes,
            self.topics,
            frozenset(self.interactions),
            self.not_services,
            self.not_routes,
            self.not_topics,
            frozenset(self.not_interactions),
        )


def _key(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


class Condition(Part):
    key: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_key)] = told(
        f"One of {', '.join(authorization.CONDITIONS)}, or "
        f"{', '.join(f'{each}[NAME]' for each in authorization.NAMED_CONDITIONS)}."
    )
    values: tuple[Value, ...] = told("One of these, with `*`.", (), max_length=MAX_LISTED)
    not_values: tuple[Value, ...] = told("None of these, with `*`.", (), max_length=MAX_LISTED)

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if not self.values and not self.not_values:
            raise ValueError("values, or notValues")
        return self

    @property
    def rules(self) -> authorization.When:
        return authorization.When(self.key, self.values, self.not_values)


class Rule(Part):
    """Fits where one of `from`, one of `to` and all of `when` do."""

    sources: tuple[Source, ...] = told("Who asks; not said: everybody.", (), alias="from", max_length=MAX_LISTED)
    to: tuple[Target, ...] = told("What for; not said: anything.", (), max_length=MAX_LISTED)
    when: tuple[Condition, ...] = told("Under which conditions, all of them.", (), max_length=16)

    @property
    def rules(self) -> authorization.AccessRule:
        return authorization.AccessRule(
            tuple(each.rules for each in self.sources),
            tuple(each.rules for each in self.to),
            tuple(each.rules for each in self.when),
        )


class Access(Body):
    """Who may send what to whom. DENY goes before ALLOW; of the services and topics that some ALLOW names, what none
    allows is refused."""

    kind: Literal["Access"]
    action: Action = told("What happens to requests that fit. AUDIT refuses nothing.")
    dry_run: Annotated[bool, Field(strict=True)] = told("Tell what would be refused, and refuse nothing.", False)
    rules_: tuple[Rule, ...] = told("One must fit.", (), alias="rules", max_length=MAX_RULES)

    @cached_property
    def rules(self) -> authorization.AccessPolicy:
        return authorization.AccessPolicy(
            self.name, self.action, tuple(rule.rules for rule in self.rules_), self.dry_run
        )
