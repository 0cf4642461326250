"""`Access` documents: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from gateway.documents.validation import examine, understand
from gateway.policy.authorization import AccessPolicy, AccessRule, Act, Action, From, To, When

OPS_ONLY = """
kind: Access
name: ops-only-writes
action: DENY
rules:
  - from: [{notGroups: [ops]}]
    to:   [{services: [thermostat], routes: ["set.*"], interactions: [fireAndForget, publish], topics: ["cmd/{sub}/#"]}]
    when: [{key: "connection.tls", values: ["false"]}, {key: "source.labels[site]", notValues: ["lab-*"]}]
"""


def access(rules: str, action: str = "DENY") -> str:
    return f"kind: Access\nname: a\naction: {action}\nrules:\n  {rules}\n"


def test_an_access_means_what_it_says() -> None:
    examined = examine(OPS_ONLY)
    assert examined.findings == ()
    (document,) = examined.documents
    rule = AccessRule(
        (From(not_groups=("ops",)),),
        (To(("thermostat",), ("set.*",), ("cmd/{sub}/#",), frozenset({Act.FIRE_AND_FORGET, Act.PUBLISH})),),
        (When("connection.tls", ("false",)), When("source.labels[site]", (), ("lab-*",))),
    )
    assert document.spec.rules == AccessPolicy("ops-only-writes", Action.DENY, (rule,))
    assert understand(document.body) == document


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (access("- when: [{key: connection.colour, values: [red]}]"), "GW0161", 5),
        (access("- when: [{key: 'source.labels[]', values: [red]}]"), "GW0161", 5),
        (access("- when: [{key: connection.tls}]"), "GW0103", 5),
        (access("- when: [{key: connection.tls, values: [true]}]"), "GW0103", 5),
        (access("- to: [{topics: ['a/#/b']}]"), "GW0103", 5),
        (access("- {}", "MAYBE"), "GW0103", 3),
        (access("- when: [{key: source.ip, values: [10.0.0.0/8, 10.*]}]"), "GW0162", 5),
        (access("- when: [{key: connection.transport, notValues: [udp]}]"), "GW0162", 5),
        (access("- from: [{}]"), "GW0163", 5),
        (access("- to: [{topics: ['a/#'], interactions: [requestResponse]}]"), "GW0163", 5),
        (access("- to: [{services: [a], topics: ['a/#'], interactions: [requestResponse]}]"), "GW0163", 5),
        (access("- to: [{services: [a], routes: [b], interactions: [register]}]"), "GW0163", 5),
        (access("- to: [{services: [a], interactions: [call]}]"), "GW0103", 5),
        (access("- to: [{services: [gateway.renew]}]"), "GW0165", 5),
        (access("- to: [{services: ['{me}']}]"), "GW0103", 5),
        (access("- from: [{groups: [ops], notGroups: ['o*']}]"), "GW0166", 5),
        (access("- from: [{principals: [a, b], notPrincipals: ['*']}]"), "GW0166", 5),
        (access("- from: [{kinds: [user], notKinds: [user, device]}]"), "GW0166", 5),
        (access("- to: [{services: [a], notServices: [a]}]"), "GW0166", 5),
        (access("- to: [{services: [a], routes: ['set.*', set], notRoutes: ['set.*']}]"), "GW0166", 5),
        (access("- to: [{topics: [a/b, a/c], notTopics: [a/+]}]"), "GW0166", 5),
        (access("- when: [{key: source.kind, values: [user], notValues: [user]}]"), "GW0166", 5),
        (access("- when: [{key: source.kind, values: [user]}, {key: source.kind, values: [device]}]"), "GW0166", 5),
        (access("- {from: [{kinds: [device]}], when: [{key: source.kind, values: [user]}]}"), "GW0166", 5),
        (access("- {}"), "GW0164", 5),
        ("kind: Access\nname: a\naction: ALLOW\n", "GW0164", 1),
        ("kind: Access\nname: a\naction: DENY\n", "GW0163", 1),
        ("kind: Access\nname: a\naction: AUDIT\ndryRun: true\nrules: [{}]\n", "GW0163", 4),
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert (code, line) in [(finding.code, finding.line) for finding in findings], findings


BRIDGE = (
    "kind: Bridge\nname: b\nmqtt: {address: 'mqtt://localhost'}\n"
    "topics: [{pattern: 'cmd/#', direction: in, local: plant/}]\n---\n"
)
EVERYBODY = "kind: Access\nname: b\naction: DENY\nrules: [{to: [{services: ['thermo*']}]}]\n---\n"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (access("- to: [{services: [a]}]\n  - to: [{services: [a]}]"), "GW0167", 6),
        (access("- {}\n  - to: [{services: [a]}]", "AUDIT"), "GW0167", 6),
        (BRIDGE + access("- to: [{topics: ['state/#']}]"), "GW0168", 10),
        (EVERYBODY + access("- to: [{services: [thermostat], routes: [get]}]", "ALLOW"), "GW0169", 10),
    ],
)
def test_what_is_doubtful_is_said_and_taken(text: str, code: str, line: int) -> None:
    examined = examine(text)
    assert examined.good, examined.findings
    assert [(finding.code, finding.line) for finding in examined.findings] == [(code, line)]


@pytest.mark.parametrize(
    "text",
    [
        access("- from: [{groups: [ops], notGroups: [guests]}]"),
        access("- from: [{principals: ['a*'], notPrincipals: [ab]}]"),
        access("- to: [{services: ['{sub}.*'], notServices: ['a.*']}]"),
        access("- when: [{key: source.node, values: ['a*']}, {key: source.node, values: [ab]}]"),
        access("- when: [{key: source.ip, values: [10.0.0.0/8]}, {key: source.ip, values: [10.1.0.0/16]}]"),
        BRIDGE + access("- to: [{topics: ['cmd/{sub}/#', plant/cmd/a]}]"),
        EVERYBODY.replace("DENY", "DENY\ndryRun: true") + access("- to: [{services: [thermostat]}]", "ALLOW"),
        EVERYBODY.replace("'thermo*'", "thermostat, other") + access("- to: [{services: ['thermo*']}]", "ALLOW"),
    ],
)
def test_what_is_right_is_not_said_to_be_wrong(text: str) -> None:
    assert examine(text).findings == ()
