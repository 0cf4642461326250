"""`kind: Access`: who may send what to whom, over routes and MQTT topics alike, in the shape of Istio's
AuthorizationPolicy. What `.rules` makes of it is `policy.authorization`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.documents.model import Body, Part
from gateway.documents.topic_rules import Filter
from gateway.documents.words import Interaction, Names, Value, Who, frames, told
from gateway.policy import authorization
from gateway.policy.authorization import Action

MAX_RULES = 64
MAX_LISTED = 64


class Source(Part):
    """Who asks. All that is given must fit."""

    principals: tuple[Who, ...] = told("Subjects, with `*`; one must fit.", (), max_length=MAX_LISTED)
    groups: tuple[Who, ...] = told("Groups, with `*`; the caller is in one of them.", (), max_length=MAX_LISTED)
    not_principals: tuple[Who, ...] = told("None of these.", (), max_length=MAX_LISTED)
    not_groups: tuple[Who, ...] = told("In none of these.", (), max_length=MAX_LISTED)

    @property
    def rules(self) -> authorization.From:
        return authorization.From(self.principals, self.groups, self.not_principals, self.not_groups)


class Target(Part):
    """What is asked for. All that is given must fit."""

    services: tuple[Names, ...] = told("Names of services, with `*`.", (), max_length=MAX_LISTED)
    routes: tuple[Names, ...] = told(
        "Whole routes, or what follows the service's name, with `*`.", (), max_length=MAX_LISTED
    )
    interactions: tuple[Interaction, ...] = told("One of these; none named: all.", ())
    topics: tuple[Filter, ...] = told(
        "MQTT topic filters. Fits no request that has no topic.", (), max_length=MAX_LISTED
    )

    @property
    def rules(self) -> authorization.To:
        return authorization.To(self.services, self.routes, frames(self.interactions), self.topics)


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
    """Who may send what to whom. DENY goes before ALLOW; where there is any ALLOW, what none allows is refused."""

    kind: Literal["Access"]
    action: Action = told("What happens to requests that fit. AUDIT refuses nothing.")
    dry_run: Annotated[bool, Field(strict=True)] = told("Tell what would be refused, and refuse nothing.", False)
    rules_: tuple[Rule, ...] = told("One must fit.", (), alias="rules", max_length=MAX_RULES)

    @cached_property
    def rules(self) -> authorization.AccessPolicy:
        return authorization.AccessPolicy(
            self.name, self.action, tuple(rule.rules for rule in self.rules_), self.dry_run
        )
