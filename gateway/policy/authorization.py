"""Who may send what to whom, as `Access` documents say: compiled, frozen, in Istio's shape of from, to and when.

A request is judged by all policies together: one DENY that fits refuses it; else, where there is any ALLOW, one of them
must fit; AUDIT decides nothing and is told. A policy in dry run decides nothing and is told what it would have decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.wire.header import FrameType

#: Keys of conditions, and what begins one that names a label or a tag, as in `source.labels[site]`.
CONDITIONS = ("connection.tls", "connection.transport", "source.kind", "source.node")
NAMED_CONDITIONS = ("source.labels", "request.tags")


class Action(StrEnum):
    DENY = "DENY"
    ALLOW = "ALLOW"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True)
class From:
    """Who asks: of each tuple that is not empty one must fit, of the `not_` ones none. All are patterns with `*`."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    not_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class To:
    """What is asked for. `services` and `routes`: patterns; a route is that of the whole, or what follows the service's
    name. `interactions`: request frame types. `topics`: MQTT filters; one that names topics fits nothing that has
    none."""

    services: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    interactions: frozenset[FrameType] = frozenset()
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class When:
    """A condition: the value under `key` fits one of `values`, where there are any, and none of `not_values`.
    Patterns; what has no value under the key has the value ""."""

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
