"""Who may send what to whom, as `Access` documents say: compiled, frozen, in Istio's shape of from, to and when.

What these mean for one request or topic is in `judgement`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.policy.principal import Kind


class Action(StrEnum):
    DENY = "DENY"
    ALLOW = "ALLOW"
    AUDIT = "AUDIT"


class Act(StrEnum):
    """What somebody does. A rule is about `REGISTER` only where it names it: who may call a service says nothing of who
    may be it. `PUBLISH` is what goes to an MQTT broker, `SUBSCRIBE` what comes from one."""

    REQUEST_RESPONSE = "requestResponse"
    FIRE_AND_FORGET = "fireAndForget"
    REQUEST_STREAM = "requestStream"
    REQUEST_CHANNEL = "requestChannel"
    REGISTER = "register"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


REQUESTS: Final = frozenset({Act.REQUEST_RESPONSE, Act.FIRE_AND_FORGET, Act.REQUEST_STREAM, Act.REQUEST_CHANNEL})
TOPIC_ACTS: Final = frozenset({Act.PUBLISH, Act.SUBSCRIBE})

TLS, TRANSPORT, IP = "connection.tls", "connection.transport", "source.ip"
SOURCE_KIND, SOURCE_NODE = "source.kind", "source.node"
NODE_NAME, NODE_ROLE = "node.name", "node.role"
#: What only the node knows that the caller is connected to.
OF_CONNECTION: Final = frozenset({TLS, TRANSPORT, IP})
#: Keys of conditions, and what begins one that names a label or a tag, as in `source.labels[site]`.
CONDITIONS: Final = (TLS, TRANSPORT, IP, SOURCE_KIND, SOURCE_NODE, NODE_NAME, NODE_ROLE)
SOURCE_LABELS, REQUEST_TAGS, NODE_LABELS = "source.labels", "request.tags", "node.labels"
NAMED_CONDITIONS: Final = (SOURCE_LABELS, REQUEST_TAGS, NODE_LABELS)
#: How a connection is carried; `internal` is what has no socket: bridges, the console of the admin API.
TRANSPORTS: Final = ("websocket", "tcp", "internal")
_VALUES: Final = {
    TLS: ("true", "false"),
    TRANSPORT: TRANSPORTS,
    SOURCE_KIND: tuple(str(kind) for kind in Kind),
    NODE_ROLE: ("edge", "central"),
}


@dataclass(frozen=True, slots=True)
class From:
    """Who asks: of each tuple that is not empty one must fit, of `labels` all, of the `not_` ones none. Principals,
    groups and values of labels are patterns with `*`."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    not_principals: tuple[str, ...] = ()
    not_groups: tuple[str, ...] = ()
    not_kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class To:
    """What is asked for. `services` and `routes`: patterns; a route is that of the whole, or what follows the service's
    name. `topics`: MQTT filters. In all of them `{sub}` is the caller's subject. One that names topics and neither
    services nor routes is about topics alone, one that names these and no topics about requests alone."""

    services: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    interactions: frozenset[Act] = frozenset()
    not_services: tuple[str, ...] = ()
    not_routes: tuple[str, ...] = ()
    not_topics: tuple[str, ...] = ()
    not_interactions: frozenset[Act] = frozenset()

    @property
    def acts(self) -> frozenset[Act]:
        """What it is about."""
        acts = self.interactions or (REQUESTS | TOPIC_ACTS)
        requests = bool(self.services or self.routes or self.not_services or self.not_routes)
        topics = bool(self.topics or self.not_topics)
        if requests and not topics:
            acts -= TOPIC_ACTS
        elif topics and not requests:
            acts &= TOPIC_ACTS
        return acts - self.not_interactions


@dataclass(frozen=True, slots=True)
class When:
    """A condition: the value under `key` fits one of `values`, where there are any, and none of `not_values`.
    Patterns, or networks for `source.ip`; what has no value under the key has the value ""."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Fits where one of `sources`, one of `targets` and all of `conditions` do; an empty tuple fits everything."""

    sources: tuple[From, ...] = ()
    targets: tuple[To, ...] = ()
    conditions: tuple[When, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """One `Access` document. One of its rules must fit; without rules none does, as in Istio."""

    name: str
    action: Action
    rules: tuple[AccessRule, ...] = ()
    dry_run: bool = False


def name_in(key: str) -> tuple[str, str]:
    """`source.labels[site]` is `source.labels` and `site`; any other key stands for itself."""
    before, bracket, rest = key.partition("[")
    return (before, rest[:-1]) if bracket and rest.endswith("]") else (key, "")


def key_problem(key: str) -> str:
    """Why a condition cannot have this key; empty where it can."""
    before, name = name_in(key)
    if (before in CONDITIONS and before == key) or (before in NAMED_CONDITIONS and name):
        return ""
    known = ", ".join((*CONDITIONS, *(f"{each}[…]" for each in NAMED_CONDITIONS)))
    return f"{key!r} is no key of a condition; there are {known}"


def value_problem(key: str, value: str) -> str:
    """Why the value under a key can never be this; empty where it can."""
    if key == IP:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            return f"{value!r} is no address and no network, such as 10.0.0.0/8"
    known = _VALUES.get(key)
    if known is not None and value not in known:
        return f"{value!r} is not one of {', '.join(known)}"
    return ""
