"""Whether messages could go round: by one bridge, or by several of a node.

A bridge receives what it publishes where a filter of its in rules and the range of an out rule have something in common
that no exclusion takes away. Several form a ring where what one takes in reaches a service that another puts out, to a
broker from which one of them takes it in again. What cannot be known before a message comes (what a name stands for) is
taken to be anything: what is found here may be a loop, and where nothing is found there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.policy.mqtt_filters import common, covers
from gateway.topics.rules import InRule, Inward, OutRule, Rules
from gateway.topics.tree import FilterTree


class Echo(NamedTuple):
    """What `out` publishes to `shared`, a filter, comes back by `back`."""

    out: OutRule
    back: Inward
    shared: str


@dataclass(frozen=True, slots=True)
class Bridged:
    """A bridge as the proof sees it. `brokers`: where it connects to."""

    name: str
    brokers: frozenset[str]
    rules: Rules


class Ring(NamedTuple):
    """`bridges` in the order in which a message passes them, from where `rule` takes it in to there again."""

    rule: Inward
    bridges: tuple[str, ...]
    shared: str


def echoes(rules: Rules) -> Iterator[Echo]:
    """The pairs of rules of one bridge of which one receives what the other publishes.

    Two rules that go both ways are none: a broker does not send back what it was sent (No Local), and for one that
    cannot help it there is the guard of repetitions.
    """
    inward: FilterTree[Inward] = FilterTree()
    for rule in (*rules.inbound, *rules.rpc):
        inward.add(rule.filter, rule)
    for out in rules.outbound:
        for back in sorted(inward.near(out.range), key=_number):
            if not (out.both and isinstance(back, InRule) and back.both):
                shared = _shared(out, back)
                if shared is not None:
                    yield Echo(out, back, shared)


def rings(bridges: Sequence[Bridged], through: str) -> Iterator[Ring]:
    """For each in rule of the bridge `through`: the shortest ring of several bridges by which it gets its own messages
    again."""
    backs: Backs = {}
    for publisher in bridges:
        for out in publisher.rules.outbound:
            backs[publisher.name, out.number] = tuple(_backs(out, publisher, bridges))
    start = next(each for each in bridges if each.name == through)
    fed = {(where.name, back.number) for each in backs.values() for back, where, _ in each}
    for rule in start.rules.inbound:
        ring = _ring(rule, start, bridges, backs) if (start.name, rule.number) in fed else None
        if ring is not None:
            yield ring


#: By bridge and number of an out rule: who takes in what it publishes, and what of it.
Backs = dict[tuple[str, int], tuple[tuple[InRule, Bridged, str], ...]]


def _ring(rule: InRule, start: Bridged, bridges: Sequence[Bridged], backs: Backs) -> Ring | None:
    waiting: list[tuple[InRule, Bridged, tuple[str, ...]]] = [(rule, start, (start.name,))]
    seen: set[tuple[str, int]] = set()
    for taker, here, path in waiting:
        for other in bridges:
            if other is here:
                continue  # what comes in by a bridge does not go out by it
            for out in other.rules.outbound:
                following = backs[other.name, out.number]
                if not following or not _leads(taker, out):
                    continue
                for back, where, shared in following:
                    if (where.name, back.number) == (start.name, rule.number):
                        return Ring(rule, (*path, other.name, start.name), shared)
                    if (where.name, back.number) not in seen:
                        seen.add((where.name, back.number))
                        waiting.append((back, where, (*path, other.name)))
    return None


def _backs(out: OutRule, publisher: Bridged, bridges: Sequence[Bridged]) -> Iterator[tuple[InRule, Bridged, str]]:
    """Who takes in what a rule publishes."""
    for taker in bridges:
        if publisher.brokers.isdisjoint(taker.brokers):
            continue
        for back in taker.rules.near(out.range):
            if taker is publisher and out.both and back.both:
                continue
            shared = _shared(out, back)
            if shared is not None:
                yield back, taker, shared


def _leads(taker: Inward, out: OutRule) -> bool:
    """Whether what a rule takes in can reach the service of another."""
    if out.topic is None and taker.is_whole:
        return common(taker.local_filter, out.routes.filter) is not None
    head, star, _ = taker.reach.partition("*")
    below = (f"{out.service}.", f"{out.service}/")
    return head == out.service or head.startswith(below) or bool(star and out.service.startswith(head))


def _shared(out: OutRule, back: Inward) -> str | None:
    shared = common(out.range, back.filter)
    if shared is None or any(covers(each, shared) for each in (*out.excludes, *back.excludes)):
        return None
    return shared


def _number(rule: Inward) -> int:
    return rule.number
