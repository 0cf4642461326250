"""What one part of an access rule fits, and why it does not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from gateway.policy.access import SUBJECT, Pattern
from gateway.policy.asking import Ask, Caller, Here
from gateway.policy.authorization import (
    IP,
    NAMED_CONDITIONS,
    NODE_LABELS,
    NODE_NAME,
    NODE_ROLE,
    OF_CONNECTION,
    REQUEST_TAGS,
    REQUESTS,
    SOURCE_KIND,
    SOURCE_LABELS,
    SOURCE_NODE,
    TLS,
    TOPIC_ACTS,
    TRANSPORT,
    Act,
    From,
    To,
    When,
    name_in,
)
from gateway.policy.mqtt_filters import common, covers

_WELL_KNOWN: Final = "io.rsocket.broker."


class Names:
    """Patterns of one field, as far as they can be compiled without knowing who asks. `asked`: of what is asked for,
    where `{sub}` stands for whoever asks."""

    __slots__ = ("_exact", "_given", "_own", "_patterns", "text")

    def __init__(self, texts: Iterable[str], *, asked: bool = False) -> None:
        texts = tuple(texts)
        self._given = bool(texts)
        self.text = ", ".join(texts)
        self._own = tuple(text for text in texts if asked and SUBJECT in text)
        rest = [text for text in texts if text not in self._own]
        self._exact = frozenset(text for text in rest if "*" not in text)
        self._patterns = tuple(Pattern(text, SUBJECT) for text in rest if "*" in text)

    def __bool__(self) -> bool:
        return self._given

    def fits(self, name: str, subject: str = "") -> bool:
        return (
            name in self._exact
            or any(pattern.matches(name) for pattern in self._patterns)
            or any(Pattern(text, subject).matches(name) for text in self._own)
        )


class Source:
    """Whose requests one `From` is about."""

    __slots__ = ("_groups", "_kinds", "_labels", "_not_groups", "_not_kinds", "_not_principals", "_principals")

    def __init__(self, source: From) -> None:
        self._principals = Names(source.principals)
        self._groups = Names(source.groups)
        self._kinds = frozenset(source.kinds)
        self._labels = tuple((key, Names((value,))) for key, value in source.labels)
        self._not_principals = Names(source.not_principals)
        self._not_groups = Names(source.not_groups)
        self._not_kinds = frozenset(source.not_kinds)

    def why_not(self, caller: Caller) -> str:
        subject, groups = caller.subject, caller.groups
        if self._principals and not self._principals.fits(subject):
            return f"the principal {subject} is not {self._principals.text}"
        if self._groups and not any(self._groups.fits(group) for group in groups):
            return f"{subject} is in none of the groups {self._groups.text}"
        if self._kinds and caller.kind not in self._kinds:
            return f"{subject} is of the kind {caller.kind}, not {', '.join(sorted(self._kinds))}"
        for key, names in self._labels:
            if not any(name == key and names.fits(value) for name, value in caller.labels):
                return f"{subject} has no label {key}={names.text}"
        if self._not_principals and self._not_principals.fits(subject):
            return f"the principal {subject} is one of notPrincipals"
        if self._not_groups and any(self._not_groups.fits(group) for group in groups):
            return f"{subject} is in one of notGroups {self._not_groups.text}"
        if caller.kind in self._not_kinds:
            return f"{subject} is of the kind {caller.kind}, one of notKinds"
        return ""


class Target:
    """What one `To` is about. `allows`: it is part of an ALLOW."""

    __slots__ = ("_allows", "_not_routes", "_not_services", "_not_topics", "_routes", "_services", "_topics", "acts")

    def __init__(self, target: To, allows: bool) -> None:
        self.acts = target.acts
        self._allows = allows
        self._services = Names(target.services, asked=True)
        self._routes = Names(target.routes, asked=True)
        self._topics = target.topics
        self._not_services = Names(target.not_services, asked=True)
        self._not_routes = Names(target.not_routes, asked=True)
        self._not_topics = target.not_topics

    def in_scope(self, caller: Caller, ask: Ask) -> bool:
        if ask.act in TOPIC_ACTS:
            return bool(self.acts & TOPIC_ACTS) and self._has_topic(caller.subject, ask, some=False)
        if ask.act is Act.REGISTER:
            if Act.REGISTER not in self.acts:
                return False
        elif not self.acts - TOPIC_ACTS - {Act.REGISTER}:
            return False
        return any(self._has_service(service, caller.subject) for service, _ in ask.places)

    def why_not(self, caller: Caller, ask: Ask) -> str:
        subject = caller.subject
        if not self._has_act(ask):
            return f"it is not about {ask.act}"
        if ask.act in TOPIC_ACTS:
            return "" if self._has_topic(subject, ask, some=self._allows) else f"it is not about the topic {ask.topic}"
        places = [rest for service, rest in ask.places if self._has_service(service, subject)]
        if not places:
            return f"it is not about the service {ask.service or ask.full}"
        if any(self._has_route(ask, rest, subject) for rest in places):
            return ""
        return f"it is not about the route {ask.full}"

    def _has_act(self, ask: Ask) -> bool:
        if not ask.wide or ask.act in TOPIC_ACTS or ask.act is Act.REGISTER:
            return ask.act in self.acts
        requests = self.acts - TOPIC_ACTS - {Act.REGISTER}
        return bool(requests) if self._allows else requests == REQUESTS

    def _has_service(self, service: str, subject: str) -> bool:
        if self._services and not self._services.fits(service, subject):
            return False
        return not (self._not_services and self._not_services.fits(service, subject))

    def _has_route(self, ask: Ask, rest: str, subject: str) -> bool:
        if ask.wide:
            return self._allows or not (self._routes or self._not_routes)
        if self._routes and not (self._routes.fits(ask.full, subject) or self._routes.fits(rest, subject)):
            return False
        return not (
            self._not_routes and (self._not_routes.fits(ask.full, subject) or self._not_routes.fits(rest, subject))
        )

    def _has_topic(self, subject: str, ask: Ask, *, some: bool) -> bool:
        """Of a filter: all of it for what refuses, some of it for what allows."""
        topic = ask.topic
        has, lacks = (_meets, _covers) if ask.wide and some else (_covers, _meets)
        if self._topics and not any(has(each, topic, subject) for each in self._topics):
            return False
        return not any(lacks(each, topic, subject) for each in self._not_topics)


def _covers(pattern: str, topic: str, subject: str) -> bool:
    mine = _mine(pattern, subject)
    return mine is not None and covers(mine, topic)


def _meets(pattern: str, topic: str, subject: str) -> bool:
    mine = _mine(pattern, subject)
    return mine is not None and common(mine, topic) is not None


def _mine(pattern: str, subject: str) -> str | None:
    """The filter with the caller's subject in it, which is a level or a part of one and never a wildcard (fault 65)."""
    if SUBJECT not in pattern:
        return pattern
    if not subject or any(letter in subject for letter in "/+#"):
        return None
    return pattern.replace(SUBJECT, subject)


class Condition:
    """One `When`. `allows`: it is part of an ALLOW."""

    __slots__ = ("_allows", "_before", "_here", "_key", "_name", "_networks", "_not_networks", "_not_values", "_values")

    def __init__(self, when: When, here: Here, allows: bool) -> None:
        self._key = when.key
        self._before, self._name = name_in(when.key)
        self._here = here
        self._allows = allows
        networks = when.key == IP
        self._values, self._not_values = Names(when.values), Names(when.not_values)
        self._networks = [ipaddress.ip_network(each, strict=False) for each in when.values if networks]
        self._not_networks = [ipaddress.ip_network(each, strict=False) for each in when.not_values if networks]

    def why_not(self, caller: Caller, ask: Ask) -> str:
        if ask.wide and self._before == REQUEST_TAGS:
            return "" if self._allows else f"it depends on {self._key}"
        values = self._found(caller, ask)
        if values is None:
            if self._allows is (ask.act not in TOPIC_ACTS):
                return ""
            return f"{self._key} is not known at this node"
        fitting = map(self._fits, values)
        # A name that is there twice is what is worse.
        if all(fitting) if self._allows else any(fitting):
            return ""
        return f"{self._key} is {' and '.join(repr(value) for value in values)}"

    def _fits(self, value: str) -> bool:
        if self._key == IP:
            address = _address(value)
            if address is None:
                return not self._networks
            inside = not self._networks or any(address in network for network in self._networks)
            return inside and not any(address in network for network in self._not_networks)
        return not (self._values and not self._values.fits(value)) and not self._not_values.fits(value)

    def _found(self, caller: Caller, ask: Ask) -> tuple[str, ...] | None:
        """What stands under the key; None where it is not known here."""
        key = self._before
        if key in OF_CONNECTION:
            found = {TLS: caller.tls, TRANSPORT: caller.transport, IP: caller.ip}[key]
            return None if found is None else (str(found).lower(),)
        if key in NAMED_CONDITIONS:
            tags = {SOURCE_LABELS: caller.labels, REQUEST_TAGS: ask.tags, NODE_LABELS: self._here.labels}[key]
            names = (self._name, _WELL_KNOWN + self._name) if key == REQUEST_TAGS else (self._name,)
            return tuple(value for name, value in tags if name in names) or ("",)
        single = {
            SOURCE_KIND: caller.kind,
            SOURCE_NODE: caller.node,
            NODE_NAME: self._here.name,
            NODE_ROLE: self._here.role,
        }
        return (single[key],)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
