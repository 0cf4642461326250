"""What is wrong with a `Bridge` beyond what its own shape can say: loops, rules that hide others, what its protocol or
the other documents do not give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gateway.documents.bridge import Bridge
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.spool import Spool
from gateway.documents.topic_rules import Direction
from gateway.policy.mqtt_filters import common, covers, example
from gateway.topics.loops import Bridged, echoes, rings
from gateway.topics.rules import Inward, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

#: On one node.
MAX_BRIDGES = 16
#: Findings of one sort about one document: the first ones are enough to go on.
MAX_ALIKE = 8


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Bridge = document.spec
    bridges = [each for each in standing if each.kind == document.kind]
    if len(bridges) > MAX_BRIDGES:
        yield Finding("GW0130", f"{len(bridges)} bridges; a node has at most {MAX_BRIDGES}")
        return
    yield from _first(_check_echoes(spec.rules))
    yield from _first(_check_rings(spec, bridges))
    twice = "; under version 4 the broker may send it twice" if spec.mqtt.version == 4 else ""
    yield from _first(_check_order("topics", spec.rules.inbound, twice))
    yield from _first(_check_order("rpc", spec.rules.rpc, twice))
    yield from _first(_check_spools(spec, standing))
    yield from _check_version(spec)
    yield from _check_broker(spec)


def _first(findings: Iterable[Finding]) -> Iterator[Finding]:
    for count, finding in enumerate(findings):
        if count == MAX_ALIKE:
            return
        yield finding


def _check_echoes(rules: Rules) -> Iterator[Finding]:
    for out, back, shared in echoes(rules):
        section = "topics" if back in rules.inbound else "rpc"
        yield Finding(
            "GW0121",
            f"what {out.label!r} publishes to {example(shared)!r} comes back by {back.label!r}",
            f"/topics/{out.number}",
            fix=f"exclude it in /{section}/{back.number}, give one of them another remote prefix, or make one rule of "
            "direction both of them",
        )


def _check_rings(spec: Bridge, bridges: Sequence[Document]) -> Iterator[Finding]:
    if not any(each.name == spec.name for each in bridges):
        return
    bridged = [
        Bridged(each.name, frozenset(map(str, each.spec.mqtt.endpoints)), each.spec.rules)
        for each in bridges
        if each.spec.enabled or each.name == spec.name
    ]
    for rule, names, shared in rings(bridged, spec.name):
        yield Finding(
            "GW0122",
            f"what {rule.label!r} takes in comes back to it on {example(shared)!r}, by {' → '.join(names)}",
            f"/topics/{rule.number}",
            fix="exclude it in one of them, or give them prefixes of their own",
        )


def _check_order(section: str, rules: Sequence[Inward], twice: str) -> Iterator[Finding]:
    for at, rule in enumerate(rules):
        pointer = f"/{section}/{rule.number}"
        for earlier in rules[:at]:
            shared = common(earlier.filter, rule.filter)
            if shared is None or any(covers(each, shared) for each in (*earlier.excludes, *rule.excludes)):
                continue
            if covers(earlier.filter, rule.filter) and not earlier.excludes:
                text = f"{earlier.label!r}, before it, takes all of its topics"
                yield Finding("GW0123", text, pointer, fix="put it first", warning=True)
                break
            text = f"{earlier.label!r}, before it, takes {example(shared)!r}, too: the first one has it{twice}"
            yield Finding("GW0124", text, pointer, warning=True)


def _check_spools(spec: Bridge, standing: Sequence[Document]) -> Iterator[Finding]:
    spools = {each.name: each.spec for each in standing if each.kind == "Spool"}
    for rule in spec.rules.inbound:
        if rule.spool is None:
            continue
        pointer = f"/topics/{rule.number}/spool"
        found: Spool | None = spools.get(rule.spool)
        if found is None:
            text = f"there is no document Spool/{rule.spool}"
            yield Finding("GW0125", text, pointer, fix="apply it first, or in the same file")
        elif "*" not in rule.reach and found.target("", rule.reach) is None:
            text = f"Spool/{rule.spool} takes nothing for {rule.reach}"
            yield Finding("GW0125", text, pointer, fix=f"a match of it for {rule.reach}")


def _check_version(spec: Bridge) -> Iterator[Finding]:
    two_ways = [at for at, rule in enumerate(spec.topics) if rule.direction is Direction.BOTH]
    if spec.mqtt.version == 5:
        return
    if two_ways and not spec.caches_repetitions:
        text = "version 4 knows no No Local: what goes out by a rule of both directions comes back"
        yield Finding("GW0126", text, f"/topics/{two_ways[0]}/direction", fix="loop: {cache: true}, or version: 5")
    if spec.rpc:
        yield Finding("GW0127", "version 4 has no response topic, so no message asks for an answer", "/rpc")
    for at, rule in enumerate(spec.topics):
        if rule.share is not None:
            yield Finding("GW0127", "version 4 has no shared subscriptions", f"/topics/{at}/share")
        if rule.goes_out and rule.expiry is not None:
            yield Finding("GW0127", "version 4 has no expiry", f"/topics/{at}/expiry", warning=True)
    if "session_expiry" in spec.mqtt.model_fields_set:
        yield Finding("GW0127", "version 4 sets no expiry of the session", "/mqtt/sessionExpiry", warning=True)


def _check_broker(spec: Bridge) -> Iterator[Finding]:
    broker = spec.mqtt
    keeps = not broker.clean_start and (broker.session_expiry > 0 or broker.version == 4)
    if not keeps and any(rule.qos > 0 for rule in spec.rules.inbound):
        where = "/mqtt/cleanStart" if broker.clean_start else "/mqtt/sessionExpiry"
        text = "the broker keeps no session: what it gets while the bridge is away is lost, at any QoS"
        yield Finding("GW0128", text, where, fix="cleanStart: false and sessionExpiry: 7d", warning=True)
    secret = broker.password_file is not None or broker.token is not None
    for at, each in enumerate(broker.endpoints):
        if secret and not each.tls and not _is_here(each.host):
            text = f"the password crosses the network to {each.host} in the clear"
            yield Finding("GW0129", text, f"/mqtt/address/{at}", fix="mqtts or wss", warning=True)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
