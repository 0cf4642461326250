"""`Access` documents: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from gateway.documents.validation import examine, understand
from gateway.policy.authorization import AccessPolicy, AccessRule, Action, From, To, When
from gateway.wire.header import FrameType

OPS_ONLY = """
kind: Access
name: ops-only-writes
action: DENY
rules:
  - from: [{notGroups: [ops]}]
    to:   [{services: [thermostat], routes: ["set.*"], interactions: [fireAndForget], topics: ["cmd/#"]}]
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
        (To(("thermostat",), ("set.*",), frozenset({FrameType.REQUEST_FNF}), ("cmd/#",)),),
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
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert (code, line) in [(finding.code, finding.line) for finding in findings], findings
