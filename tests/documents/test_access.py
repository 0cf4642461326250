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
        (access("- {}"), "GW0164", 5),
        ("kind: Access\nname: a\naction: ALLOW\n", "GW0164", 1),
        ("kind: Access\nname: a\naction: DENY\n", "GW0163", 1),
        ("kind: Access\nname: a\naction: AUDIT\ndryRun: true\nrules: [{}]\n", "GW0163", 4),
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert (code, line) in [(finding.code, finding.line) for finding in findings], findings
