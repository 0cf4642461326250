"""`Service` documents: what they mean to the data plane, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from gateway.documents.governing import governance
from gateway.documents.validation import examine, understand
from gateway.policy.principal import Kind
from gateway.policy.traffic import (
    Adaptive,
    Balance,
    Breaker,
    Destination,
    Fault,
    Limits,
    LoadBalancer,
    Match,
    Mirror,
    Outliers,
    Per,
    Rate,
    Retries,
    RetryBudget,
    RetryOn,
    RouteRule,
    ServiceRules,
    Source,
    Subset,
)
from gateway.wire.header import ErrorCode, FrameType

THERMOSTAT = """
kind: Service
name: thermostat
hosts: [thermostat, "thermo-*"]
subsets: {stable: {version: "1"}, canary: {version: "2", site: north}}
routes:
  - name: writes
    match: [{route: "set.*", interaction: [requestResponse], source: {groups: [ops], kinds: [user], labels: {site: a}}}]
    to: [{subset: stable, weight: 95}, {subset: canary, weight: 5}]
    timeout: 5s
    retries: {attempts: 2, perTryTimeout: 2s, retryOn: [connectFailure, rejected], backoff: 25ms}
    fault: {delay: {fixedDelay: 300ms, percentage: 1}, abort: {error: REJECTED, percentage: 0.5},
            drop: {percentage: 2}, disconnect: {percentage: 3}}
    mirror: {subset: canary, percentage: 10}
    idempotent: true
    priority: 1
    waitForRoute: 2s
  - to: [{subset: stable}]
loadBalancer: {simple: LEAST_REQUEST}
locality: {failover: [edge, site, region]}
limits: {maxRequests: 1024, rate: {tokens: 100, fillInterval: 1s, burst: 200, per: principal}}
outlierDetection: {consecutiveErrors: 7}
circuitBreaker: {sleepWindow: 3s, halfOpenRequests: 2}
retryBudget: {percent: 50}
adaptiveConcurrency: {minConcurrency: 4}
"""


def service(more: str) -> str:
    return f"kind: Service\nname: thermostat\nsubsets: {{a: {{v: '1'}}, b: {{v: '2'}}}}\n{more}\n"


def test_a_service_means_what_it_says() -> None:
    examined = examine(THERMOSTAT)
    assert examined.findings == ()
    writes = RouteRule(
        name="writes",
        matches=(
            Match(
                "set.*",
                frozenset({FrameType.REQUEST_RESPONSE}),
                (Source(groups=("ops",), kinds=(Kind.USER,), labels=(("site", "a"),)),),
            ),
        ),
        to=(Destination("stable", 95), Destination("canary", 5)),
        timeout_s=5.0,
        retries=Retries(2, frozenset({RetryOn.CONNECT_FAILURE, RetryOn.REJECTED}), 2.0, 0.025, 0.25),
        fault=Fault(0.3, 0.01, ErrorCode.REJECTED, 0.005, 0.02, 0.03),
        mirror=Mirror("canary", 0.1),
        idempotent=True,
        priority=1,
        wait_for_route_s=2.0,
    )
    assert examined.documents[0].spec.rules == ServiceRules(
        name="thermostat",
        hosts=("thermostat", "thermo-*"),
        subsets=(Subset("canary", (("site", "north"), ("version", "2"))), Subset("stable", (("version", "1"),))),
        routes=(writes, RouteRule("routes/1", to=(Destination("stable", 100),))),
        balancer=LoadBalancer(Balance.LEAST_REQUEST),
        failover=("edge", "site", "region"),
        limits=Limits(1024, 1024, Rate(100, 1.0, 200, Per.PRINCIPAL)),
        outliers=Outliers(consecutive_errors=7),
        breaker=Breaker(sleep_s=3.0, probes=2),
        retry_budget=RetryBudget(0.5, 3),
        adaptive=Adaptive(min_limit=4),
    )
    assert understand(examined.documents[0].body) == examined.documents[0]


def test_what_is_not_written_does_nothing() -> None:
    (document,) = examine("{kind: Service, name: a}").documents
    assert document.spec.rules == ServiceRules("a")


def test_the_defaults_of_what_is_written_are_those_that_users_know() -> None:
    text = "{kind: Service, name: a, limits: {rate: {tokens: 9}}, outlierDetection: {}, circuitBreaker: {}}"
    (document,) = examine(text).documents
    rules = document.spec.rules
    assert rules.limits == Limits(1024, 1024, Rate(9, 1.0, 9, Per.PRINCIPAL, dry_run=False))
    assert (rules.outliers, rules.breaker) == (Outliers(5, 10.0, 30.0, 300.0, 0.1), Breaker(20, 0.5, 10.0, 5.0, 1))


def test_documents_become_one_governance() -> None:
    text = (
        "{kind: Service, name: b}\n---\n{kind: Service, name: a, hosts: ['b*']}\n---\n"
        "{kind: Access, name: all, action: AUDIT, rules: [{}]}\n---\n"
        "{kind: Telemetry, name: t, flowLog: {}}\n---\n"
        "{kind: Telemetry, name: s, tracing: {endpoint: 'http://collector:4318'}}"
    )
    documents = examine(text).documents
    found = governance(documents)
    assert [rules.name for rules in found.services] == ["a", "b"]
    assert [policy.name for policy in found.access] == ["all"]
    assert found.telemetry.flow_log is not None
    assert found.telemetry.tracing is not None
    assert found == governance(reversed(documents))
    names = {name: rules.name for name in ("b", "bb", "c") if (rules := found.service(name)) is not None}
    assert names == {"b": "b", "bb": "a"}


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (service("routes: [{to: [{subset: c}]}]"), "GW0131", 4),
        (service("routes: [{mirror: {subset: c}}]"), "GW0131", 4),
        (service("routes: [{to: [{subset: a, weight: 50}, {subset: b, weight: 40}]}]"), "GW0132", 4),
        (service("routes: [{to: [{subset: a, weight: 50}]}]"), "GW0132", 4),
        (service("routes: [{to: [{subset: a}, {subset: b}]}]"), "GW0133", 4),
        (service("---\nkind: Service\nname: b\nhosts: [c, thermostat]"), "GW0134", 7),
        (
            service(
                "---\nkind: Service\nname: u\nhosts: ['thermo*']\n---\nkind: Service\nname: v\nhosts: ['thermos-*']"
            ),
            "GW0134",
            11,
        ),
        (service("routes: [{}, {timeout: 1s}]"), "GW0135", 4),
        (service("routes:\n- match: [{route: 'set.*'}]\n- match: [{route: get},\n  {route: set.all}]"), "GW0135", 7),
        (service("routes:\n- match: [{source: {groups: ['o*']}}]\n- match: [{source: {groups: [ops]}}]"), "GW0135", 6),
        (service("routes: [{retries: {retryOn: [applicationError]}}]"), "GW0136", 4),
        (service("routes: [{idempotent: true, retries: {retryOn: [timeout]}}]"), "GW0137", 4),
        (service("routes: [{timeout: 1s, retries: {perTryTimeout: 1s}}]"), "GW0137", 4),
        (service("routes: [{to: [{subset: a}], mirror: {subset: a}}]"), "GW0138", 4),
        (service("limits: {rate: {tokens: 1, per: service}}\ncircuitBreaker: {}"), "GW0142", 5),
        (service("outlierDetection: {maxEjectionPercent: 0}"), "GW0143", 4),
        (service("hosts: [gateway.config]"), "GW0144", 4),
        (service("routes: [{retries: {}}]\nretryBudget: {percent: 0, minRetryConcurrency: 0}"), "GW0145", 5),
        (service("limits: {rate: {tokens: 10, burst: 9}}"), "GW0147", 4),
        (service("limits: {maxRequests: 4}\nadaptiveConcurrency: {minConcurrency: 8}"), "GW0148", 5),
        (service("loadBalancer: {}"), "GW0103", 4),
        (service("loadBalancer: {simple: RANDOM, leaseCredit: true}"), "GW0103", 4),
        (service("limits: {rate: {tokens: 0}}"), "GW0103", 4),
        (service("routes: [{timeout: 5}]"), "GW0103", 4),
        (service("routes: [{timeout: 0s}]"), "GW0103", 4),
        (service("outlierDetection: {maxEjectionPercent: 101}"), "GW0103", 4),
        (service("adaptiveConcurrency: {minConcurrency: 5, maxConcurrencyLimit: 4}"), "GW0103", 4),
        ("kind: Service\nname: a\nsubsets: {a: {version: 1}}", "GW0103", 3),
        ("kind: Service\nname: a\nsubsets: {a: {LBMethod: x}}", "GW0103", 3),
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert (code, line) in [(finding.code, finding.line) for finding in findings], findings


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (
            service("routes: [{timeout: 2s, idempotent: true, retries: {retryOn: [timeout], perTryTimeout: 1s}}]"),
            "GW0137",
            4,
        ),
        (service("routes: [{fault: {abort: {error: REJECTED}}}]"), "GW0139", 4),
        (service("routes: [{timeout: 1s, fault: {delay: {fixedDelay: 2s, percentage: 1}}}]"), "GW0139", 4),
        (service("routes: [{timeout: 1s}]\noutlierDetection: {latencyThreshold: 2s}"), "GW0143", 5),
        ("kind: Service\nname: a\nsubsets:\n  x: {}", "GW0146", 4),
        ("kind: Service\nname: a\nsubsets:\n  x: {v: '1'}\n  y: {v: '1'}", "GW0146", 5),
        (service("limits: {maxRequests: 64}\nadaptiveConcurrency: {maxConcurrencyLimit: 99}"), "GW0148", 5),
        (service("routes: [{match: [{interaction: [fireAndForget]}], timeout: 1s}]"), "GW0149", 4),
        (service("routes: [{timeout: 1s, waitForRoute: 1s}]"), "GW0150", 4),
    ],
)
def test_what_is_doubtful_is_said_and_taken(text: str, code: str, line: int) -> None:
    examined = examine(text)
    assert examined.good
    assert [(finding.code, finding.line) for finding in examined.findings] == [(code, line)]


@pytest.mark.parametrize(
    "text",
    [
        service("routes: [{match: [{route: 'set.*'}]}, {match: [{route: 'set*'}]}, {}]"),
        service("routes: [{match: [{route: 'set.*', interaction: [requestStream]}]}, {match: [{route: 'set.*'}]}]"),
        service("routes: [{match: [{source: {groups: [a], kinds: [user]}}]}, {match: [{source: {groups: [a]}}]}]"),
        service("routes: [{match: [{source: {labels: {a: b}}}]}, {match: [{source: {labels: {a: c}}}]}]"),
        service("routes: [{to: [{subset: a, weight: 95}, {subset: b, weight: 5}], mirror: {subset: b}}]"),
        service("---\nkind: Service\nname: zz\nhosts: ['thermo*']"),
        service("routes: [{match: [{interaction: [fireAndForget]}], retries: {retryOn: [connectFailure]}}]"),
    ],
)
def test_what_is_right_is_not_said_to_be_wrong(text: str) -> None:
    assert examine(text).findings == ()


def test_what_waits_must_outlive_the_time_in_which_its_service_is_left_alone() -> None:
    spool = (
        "kind: Spool\nname: s\nmatch: [{service: 'thermo*', interaction: [requestResponse]}]\n"
        "queueWhileOffline: {ttl: 4s}\n---\n"
    )
    text = service("circuitBreaker: {}\nroutes: [{waitForRoute: 1s, retries: {perTryTimeout: 3s}}]")
    found = [(finding.code, finding.line, finding.warning) for finding in examine(spool + text).findings]
    assert found == [("GW0140", 9, True), ("GW0140", 10, True), ("GW0141", 10, True)]
    assert examine(spool.replace("thermo*", "other") + text).findings == ()
