"""`Telemetry` documents: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from gateway.documents.model import Site
from gateway.documents.validation import examine, understand
from gateway.policy.telemetry import FlowFile, FlowLog, TelemetryRules, Tracing

BOTH = """
kind: Telemetry
name: seen
tracing: {endpoint: "http://collector:4318", randomSamplingPercentage: 10, customTags: {site: "7"}}
flowLog: {capacity: 1024, filter: 'verdict != "FORWARDED" || latency_ms > 500', redact: [route], file: {keep: 3}}
"""


def telemetry(more: str) -> str:
    return f"kind: Telemetry\nname: a\n{more}\n"


def test_a_telemetry_means_what_it_says() -> None:
    examined = examine(BOTH)
    assert examined.findings == ()
    (document,) = examined.documents
    assert document.spec.rules == TelemetryRules(
        Tracing("http://collector:4318/v1/traces", 0.1, (("site", "7"),)),
        FlowLog(1024, 'verdict != "FORWARDED" || latency_ms > 500', ("route",), FlowFile(8 << 20, 3)),
    )
    assert understand(document.body) == document


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (telemetry("flowLog: {}\n---\nkind: Telemetry\nname: b\nflowLog: {}"), "GW0181", 7),
        (telemetry("tracing: {randomSamplingPercentage: 1}"), "GW0103", 3),
        (telemetry("tracing: {endpoint: 'collector:4318'}"), "GW0103", 3),
        (telemetry("tracing: {endpoint: 'http://c', services: [{service: 'a b*?'}]}"), "GW0103", 3),
        (telemetry("tracing: {endpoint: 'http://me:secret@collector'}"), "GW0103", 3),
        (telemetry("tracing: {endpoint: 'http://collector:x'}"), "GW0103", 3),
        (telemetry("tracing: {endpoint: 'http://c', randomSamplingPercentage: 101}"), "GW0103", 3),
        (telemetry("flowLog: {capacity: 0}"), "GW0103", 3),
        (
            telemetry(
                "tracing:\n  endpoint: http://c\n  services:\n"
                "    - {service: 'a*', randomSamplingPercentage: 1}\n    - {service: ab, randomSamplingPercentage: 9}"
            ),
            "GW0185",
            7,
        ),
        (telemetry("flowLog: {filter: 'verdict ='}"), "GW0183", 3),
        (telemetry("flowLog: {filter: 'colour == 1'}"), "GW0183", 3),
        (telemetry("flowLog: {redact: [routes]}"), "GW0184", 3),
        (telemetry("flowLog: {redact: [verdict]}"), "GW0184", 3),
        (telemetry("flowLog: {file: {fields: [payload]}}"), "GW0184", 3),
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert (code, line) in [(finding.code, finding.line) for finding in findings], findings


def test_shares_by_service() -> None:
    more = "services: [{service: 'lab.*', randomSamplingPercentage: 100}, {service: '*', randomSamplingPercentage: 5}]"
    (document,) = examine(telemetry(f"tracing: {{endpoint: 'https://c/otlp', respectCaller: false, {more}}}")).documents
    tracing = document.spec.rules.tracing
    assert (tracing.endpoint, tracing.parent_based) == ("https://c/otlp", False)
    assert (tracing.share("lab.x"), tracing.share("thermo")) == (1.0, 0.05)
    (document,) = examine(telemetry("tracing: {endpoint: 'https://c'}")).documents
    assert document.spec.rules.tracing.share("thermo") == 0.01


def test_a_node_that_cannot_deliver_spans_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.observe.spans.find_spec", lambda name: None)
    text = telemetry("tracing: {endpoint: 'http://c'}")
    assert examine(text).findings == ()
    (finding,) = examine(text, site=Site(1, 1)).findings
    assert (finding.code, finding.warning) == ("GW0182", True)
    assert "rsocket-edge-gateway[otlp]" in finding.text
