"""`Access` documents that allow what was seen, and nothing else of the services and topics that were seen.

For each service one ALLOW, for all topics another. Groups go before principals: who has any is let in by it. Where many
routes share what stands before their last separator, a pattern stands for them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.documents.access import MAX_LISTED, MAX_RULES
from gateway.policy.access import SUBJECT, full_route, is_pattern, is_reserved
from gateway.policy.authorization import REQUESTS, TOPIC_ACTS
from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR, is_topic

#: So many routes that share a beginning are one pattern, and topics that share all but their last level one filter.
MANY: Final = 5
_REFUSED: Final = frozenset({"DROPPED", "LOST", "LOOP"})
_ACTS: Final = frozenset(str(act) for act in REQUESTS | TOPIC_ACTS)
_NAME: Final = 63


class Flow(NamedTuple):
    """What somebody did, once or often. `topic`: of what went to a broker or came from one, which has no service."""

    subject: str
    groups: tuple[str, ...] = ()
    service: str = ""
    route: str = ""
    interaction: str = "requestResponse"
    topic: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Flow | None:
        """Of a record of the flow log; None for what was refused, or says too little."""
        source, destination = record.get("source") or {}, record.get("destination") or {}
        subject, interaction = str(source.get("id") or ""), str(record.get("interaction") or "")
        if record.get("verdict") in _REFUSED or not subject or interaction not in _ACTS:
            return None
        topic = str(record.get("topic") or "") if interaction in TOPIC_ACTS else ""
        service = str(destination.get("service") or destination.get("id") or "")
        groups = tuple(map(str, source.get("groups") or ()))
        return cls(subject, groups, "" if topic else service, str(record.get("route") or ""), interaction, topic)


def draft(flows: Iterable[Flow]) -> list[dict[str, Any]]:
    """Documents, which the validator takes. What is under `gateway` is left out: nobody can be kept from it."""
    services: dict[str, dict[tuple[str, str], set[Flow]]] = defaultdict(lambda: defaultdict(set))
    topics: dict[tuple[str, str], set[Flow]] = defaultdict(set)
    for flow in flows:
        if not flow.subject.isprintable() or len(flow.subject) > 255 or flow.interaction not in _ACTS:
            continue
        if flow.interaction in TOPIC_ACTS:
            if is_topic(flow.topic):
                topics[flow.topic, flow.interaction].add(flow)
        elif flow.service and not is_reserved(full_route(flow.service, flow.route)):
            services[flow.service][full_route(flow.service, flow.route), flow.interaction].add(flow)
    documents = []
    names: set[str] = set()
    for service, operations in sorted(services.items()):
        rules = _rules(operations, service)
        documents.append(_document(_unique(f"allow-{service}", names), rules))
    if topics:
        documents.append(_document(_unique("allow-topics", names), _rules(topics, "")))
    return documents


def _document(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "Access", "name": name, "action": "ALLOW", "rules": rules}


def _unique(text: str, names: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[: _NAME - 4].strip("-")
    name, number = slug, 1
    while name in names:
        number += 1
        name = f"{slug}-{number}"
    names.add(name)
    return name


def _rules(operations: Mapping[tuple[str, str], set[Flow]], service: str) -> list[dict[str, Any]]:
    """One rule for all operations that the same have done by the same interactions."""
    acts: dict[tuple[tuple[str, ...], tuple[str, ...], str], set[str]] = defaultdict(set)
    for (what, act), flows in operations.items():
        acts[(*_sources(flows), what)].add(act)
    together: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (groups, principals, what), done in acts.items():
        together[groups, principals, tuple(sorted(done))].append(what)
    rules = []
    for (groups, principals, done_by), found in sorted(together.items()):
        targets = list(_targets(sorted(found), list(done_by), service))
        for some in _batches(targets, MAX_LISTED):
            rules.append({"from": list(_from(groups, principals)), "to": list(some)})
    return rules if len(rules) <= MAX_RULES else [_widened(rules, service)]


def _widened(rules: list[dict[str, Any]], service: str) -> dict[str, Any]:
    """All that any of them is about, to all of them together, where there are more rules than a document has; to
    everybody, where there are more than that has room for."""
    principals = sorted({each for rule in rules for part in rule["from"] for each in part.get("principals", ())})
    groups = sorted({each for rule in rules for part in rule["from"] for each in part.get("groups", ())})
    acts = sorted({act for rule in rules for target in rule["to"] for act in target["interactions"]})
    what: dict[str, Any] = {"services": [_pattern(service)]} if service else {"topics": [REST, "$SYS/#"]}
    sources = list(_from(tuple(groups), tuple(principals)))
    if len(sources) > MAX_LISTED:
        return {"to": [{**what, "interactions": acts}]}
    return {"from": sources, "to": [{**what, "interactions": acts}]}


def _sources(flows: set[Flow]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Groups that take in all who have any, as few as can be found, and the subjects of the others."""
    missing = {flow.subject: {group for group in flow.groups if _is_word(group)} for flow in flows}
    principals = tuple(sorted(subject for subject, groups in missing.items() if not groups))
    left = {subject: groups for subject, groups in missing.items() if groups}
    chosen = []
    while left:
        counts: dict[str, int] = defaultdict(int)
        for groups in left.values():
            for group in groups:
                counts[group] += 1
        best = min(counts, key=lambda group: (-counts[group], group))
        chosen.append(best)
        left = {subject: groups for subject, groups in left.items() if best not in groups}
    return tuple(sorted(chosen)), principals


def _from(groups: tuple[str, ...], principals: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for key, values in (("groups", groups), ("principals", principals)):
        yield from ({key: list(some)} for some in _batches(values, MAX_LISTED))


def _targets(found: list[str], acts: list[str], service: str) -> Iterator[dict[str, Any]]:
    key, values = ("routes", _routes(found)) if service else ("topics", _topics(found))
    for some in _batches(values, MAX_LISTED):
        target: dict[str, Any] = {"services": [_pattern(service)]} if service else {}
        yield {**target, key: list(some), "interactions": acts}


def _routes(found: list[str]) -> list[str]:
    """Whole routes, and a pattern where many share a beginning."""
    below: dict[str, list[str]] = defaultdict(list)
    for route in found:
        at = max(route.rfind("."), route.rfind("/"))
        below[route[: at + 1]].append(route)
    patterns: dict[str, None] = {}
    for head, routes in below.items():
        if head and len(routes) >= MANY:
            patterns[_pattern(head + "*")] = None
        else:
            patterns |= dict.fromkeys(map(_pattern, routes))
    return sorted(patterns)


def _topics(found: list[str]) -> list[str]:
    below: dict[str, list[str]] = defaultdict(list)
    for topic in found:
        below[topic.rpartition(SEPARATOR)[0]].append(topic)
    filters: dict[str, None] = {}
    for head, topics in below.items():
        if head and len(topics) >= MANY:
            filters[_filter(f"{head}/{ONE}")] = None
        else:
            filters |= dict.fromkeys(map(_filter, topics))
    return sorted(filters)


def _pattern(text: str) -> str:
    """A pattern that takes a name, whatever is in it."""
    if SUBJECT in text or not is_pattern(text):
        text = re.sub(r"[{}]", "*", text)
    return text if is_pattern(text) else "*"


def _filter(topic: str) -> str:
    return SEPARATOR.join(ONE if SUBJECT in level else level for level in topic.split(SEPARATOR))


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isprintable()


def _batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[at : at + size] for at in range(0, len(values), size))
