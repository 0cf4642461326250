"""Whatever the validator takes can be acted by, and comes back the same from JSON and YAML; and no text is its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from gateway.documents.governing import governance
from gateway.documents.kinds import KINDS
from gateway.documents.schema import schema_of_all
from gateway.documents.validation import examine, examine_value, understand
from gateway.policy.governance import Governance
from tests.examples import examples

ROOT = Path(__file__).parents[2]
SCHEMA = jsonschema_rs.validator_for(schema_of_all())
QUIET = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))

names = some.sampled_from(["a", "b", "stable", "canary", "thermostat"])
patterns = some.sampled_from(["*", "a", "set.*", "set", "thermo-*", "thermostat.get", "**"])
times = some.sampled_from(["1ms", "250ms", "1s", "5 s", "2m", "1h"])
percents = some.sampled_from([0, 0.5, 1, 10, 50, 99.9, 100])
counts = some.integers(1, 2000)
labels = some.dictionaries(
    some.sampled_from(["version", "site", "Region"]), some.sampled_from(["1", "x", ""]), max_size=2
)
interactions = some.lists(
    some.sampled_from(["fireAndForget", "requestResponse", "requestStream", "requestChannel"]), max_size=2
)


def part(**fields: some.SearchStrategy[Any]) -> some.SearchStrategy[dict[str, Any]]:
    """Any of these fields, or none."""
    return some.fixed_dictionaries({}, optional=fields)


sources = part(
    principals=some.lists(patterns, max_size=2),
    groups=some.lists(patterns, max_size=2),
    kinds=some.lists(some.sampled_from(["device", "user", "service"]), max_size=2),
    labels=labels,
)
faults = part(
    delay=some.fixed_dictionaries({"fixedDelay": times}, optional={"percentage": percents}),
    abort=some.fixed_dictionaries(
        {"error": some.sampled_from(["REJECTED", "INVALID"])}, optional={"percentage": percents}
    ),
    drop=some.fixed_dictionaries({"percentage": percents}),
    disconnect=some.fixed_dictionaries({"percentage": percents}),
)
retries = part(
    attempts=some.integers(1, 5),
    perTryTimeout=times,
    retryOn=some.lists(
        some.sampled_from(["connectFailure", "rejected", "applicationError", "timeout"]), min_size=1, max_size=4
    ),
    backoff=times,
    maxBackoff=times,
)
routes = part(
    name=names,
    match=some.lists(part(route=patterns, interaction=interactions, source=sources | some.lists(sources)), max_size=3),
    to=some.just([{"subset": "canary", "weight": 5}, {"subset": "stable", "weight": 95}])
    | some.lists(part(subset=names, weight=some.sampled_from([5, 50, 95, 100])), max_size=2),
    timeout=times,
    retries=retries,
    fault=faults,
    mirror=some.fixed_dictionaries({"subset": names}, optional={"percentage": percents}),
    idempotent=some.booleans(),
    priority=some.integers(0, 7),
    waitForRoute=times | some.just(0),
)
rates = some.fixed_dictionaries(
    {"tokens": counts},
    optional={
        "fillInterval": times,
        "burst": counts,
        "per": some.sampled_from(["principal", "service", "route"]),
        "dryRun": some.booleans(),
    },
)
services = some.fixed_dictionaries(
    {"kind": some.just("Service"), "name": names},
    optional={
        "hosts": some.lists(patterns, max_size=2),
        "subsets": some.just({"stable": {"version": "1"}, "canary": {"version": "2"}})
        | some.dictionaries(names, labels, max_size=2),
        "routes": some.lists(routes, max_size=3),
        "loadBalancer": part(
            simple=some.sampled_from(["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]),
            consistentHash=some.fixed_dictionaries({"key": names}),
        ),
        "locality": some.fixed_dictionaries({"failover": some.lists(names, min_size=1, max_size=3)}),
        "limits": part(maxRequests=counts, maxPendingRequests=counts, rate=rates),
        "outlierDetection": part(consecutiveErrors=counts, interval=times, maxEjectionPercent=percents),
        "circuitBreaker": part(requestVolumeThreshold=counts, errorThresholdPercentage=percents, sleepWindow=times),
        "retryBudget": part(percent=percents, minRetryConcurrency=some.integers(0, 10)),
        "adaptiveConcurrency": part(minConcurrency=counts, maxConcurrencyLimit=counts, tolerance=some.floats(0, 10)),
    },
)
conditions = some.fixed_dictionaries(
    {"key": some.sampled_from(["connection.tls", "source.labels[site]", "source.kind", "request.tags[x]", "colour"])},
    optional={"values": some.lists(some.sampled_from(["true", "device", "*", "lab-*"]), max_size=2)},
)
accesses = some.fixed_dictionaries(
    {"kind": some.just("Access"), "name": names, "action": some.sampled_from(["DENY", "ALLOW", "AUDIT"])},
    optional={
        "dryRun": some.booleans(),
        "rules": some.lists(
            part(
                **{"from": some.lists(part(groups=some.lists(patterns), notGroups=some.lists(patterns)), max_size=2)},
                to=some.lists(
                    part(
                        services=some.lists(patterns, max_size=2),
                        routes=some.lists(patterns, max_size=2),
                        topics=some.lists(some.sampled_from(["#", "cmd/+", "cmd/#", "a/b"]), max_size=2),
                        interactions=interactions,
                    ),
                    max_size=2,
                ),
                when=some.lists(conditions, max_size=2),
            ),
            max_size=3,
        ),
    },
)
telemetries = some.fixed_dictionaries(
    {"kind": some.just("Telemetry"), "name": names},
    optional={
        "tracing": some.fixed_dictionaries(
            {"endpoint": some.sampled_from(["http://collector:4318", "https://[::1]:1/v1/traces", "collector"])},
            optional={"randomSamplingPercentage": percents, "customTags": some.dictionaries(names, names, max_size=2)},
        ),
        "flowLog": part(
            capacity=some.sampled_from([0, 16, 256, 4096]),
            filter=some.sampled_from(["", 'verdict == "DROPPED"', "latency_ms > 500", "(("]),
            redact=some.lists(some.sampled_from(["route", "source.id", "payload", "colour"]), max_size=2),
        ),
    },
)


@QUIET
@given(some.lists(services | accesses | telemetries, min_size=1, max_size=3))
def test_what_is_taken_can_be_acted_by_and_comes_back_the_same(values: list[dict[str, Any]]) -> None:
    examined = examine(json.dumps(values[0]) + "".join(f"\n---\n{json.dumps(each)}" for each in values[1:]))
    # Through JSON, because YAML writes what is there twice as an anchor, which documents may not have.
    again = examine(yaml.safe_dump_all(json.loads(json.dumps(values))))
    assert sorted(each.code for each in again.findings) == sorted(each.code for each in examined.findings)
    if not examined.good:
        assert all(finding.text and finding.line for finding in examined.findings)
        return
    compiled = governance(examined.documents)
    assert isinstance(compiled, Governance)
    assert compiled == governance(again.documents) == governance(understand(each.body) for each in examined.documents)
    for value in values:
        SCHEMA.validate(value)


GOOD = (ROOT / "docs" / "governance.md").read_text()
anything: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.floats() | some.integers() | some.text(max_size=8) | patterns | times,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8) | names, inner, max_size=3),
    max_leaves=8,
)


@QUIET
@given(some.sampled_from(["Service", "Access", "Telemetry", "Spool", "Bridge"]), anything, some.data())
def test_no_value_is_its_end(kind: str, value: Any, data: some.DataObject) -> None:
    model = KINDS[kind].model
    fields = [field.alias or name for name, field in model.model_fields.items() if name not in ("kind", "name")]
    body = {name: data.draw(anything) for name in data.draw(some.lists(some.sampled_from(fields), max_size=3))}
    for document in ({"kind": kind, "name": "a", **body}, {"kind": kind, "name": value}, value):
        examined = examine_value(document)
        assert examined.documents or examined.findings
        "".join(map(str, examined.findings)).encode()


@QUIET
@given(some.text(max_size=40), some.integers(0, len(GOOD)), some.integers(0, 60))
def test_no_text_is_its_end(noise: str, at: int, length: int) -> None:
    start = GOOD.index("kind: Service")
    block = GOOD[start : GOOD.index("```", start)]
    at %= len(block)
    for text in (noise, block[:at] + noise + block[at + length :]):
        examined = examine(text)
        assert examined.documents or examined.findings
