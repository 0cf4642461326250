"""What two linked nodes show, one of them with a bridge, a spool and a protected service: the declared metrics with the
declared labels, and with nearly everything that rules and dashboards ask for."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import gateway.front
from gateway.control.audit import SYSTEM
from gateway.control.members import CENTRAL
from tests.admin.http_exchange import ask
from tests.deploy.monitoring import dashboards, declared, expressions, rules, settled
from tests.deploy.promql import named
from tests.federation.links.cluster import Cluster, Place, call, until
from tests.local_node import fnf

DOCUMENTS = """
kind: Bridge
name: plant
mqtt: {address: "mqtt://127.0.0.1:9"}
topics: [{pattern: "a/#", direction: in}]
---
kind: Spool
name: jobs
match: [{service: jobs}]
maxBytes: 1MiB
minFree: 0%
---
kind: Service
name: echo
limits: {maxRequests: 20}
circuitBreaker: {errorThresholdPercentage: 50}
outlierDetection: {consecutiveErrors: 5}
"""
#: They are there when something has happened that does not happen to these nodes.
OF_EVENTS = {
    "gateway_access_total",
    "gateway_alarm",
    "gateway_bundle_state",
    "gateway_device_configs_total",
    "gateway_ejections_total",
    "gateway_fault_injected_total",
    "gateway_firmware_downloads_total",
    "gateway_firmware_reports_total",
    "gateway_memory_limit_bytes",
    "gateway_mqtt_dropped_total",
    "gateway_mqtt_last_ack_age_seconds",
    "gateway_mqtt_loops_total",
    "gateway_mqtt_published_total",
    "gateway_mqtt_received_total",
    "gateway_mqtt_refused_total",
    "gateway_resumes_refused_total",
    "gateway_retries_total",
    "gateway_route_requests_total",
    "gateway_service_refusals_total",
    "gateway_spans_total",
    "gateway_spool_drain_eta_seconds",
    "gateway_spool_lost_total",
    "gateway_spool_refused_total",
    "gateway_tokens_refused_total",
    # Of nodes with TLS; tests/admin/test_upkeep.py has one.
    "gateway_certificate_expiry_timestamp_seconds",
    # Of central nodes with NATS.
    "gateway_table_dirty_keys",
    "gateway_table_devices",
    "gateway_table_edges",
    "gateway_table_fresh",
    "gateway_table_invalid_total",
    "gateway_table_nodes",
}

#: Values that are there when something has happened.
ABSENT = {
    ("gateway_requests_total", "failed"),
    ("gateway_connections_closed_total", "internal_error"),
    ("gateway_link_up", "peer"),
}


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    cluster = Cluster(tmp_path / "nodes", tmp_path / "identities")
    yield cluster
    await cluster.close()
    shutil.rmtree(tmp_path / "nodes")


async def scrape(place: Place) -> dict[str, set[frozenset[tuple[str, str]]]]:
    """Label sets by series."""
    found: dict[str, set[frozenset[tuple[str, str]]]] = {}
    text = (await ask(place.running.telemetry_port, "/metrics")).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(frozenset(sample.labels.items()))
    return found


async def test_what_is_asked_for_is_what_nodes_show(cluster: Cluster) -> None:
    open_port: dict[str, object] = {"telemetry.listen": "127.0.0.1:0"}
    await cluster.add("central", CENTRAL, more=open_port)
    await cluster.add("edge-a", parents=("central",), more=open_port)
    await cluster.linked("edge-a")
    control = cluster["edge-a"].running.control
    depot = cluster["edge-a"].running.depot
    assert control is not None
    assert depot is not None
    await control.documents.apply(DOCUMENTS, by=SYSTEM)
    await control.backups.create(by=SYSTEM)
    await cluster.servant("edge-a")
    phone = await cluster.client("edge-a")
    await call(phone, "echo.it")
    phone.send(fnf(phone, "jobs.do", b"waits"))
    await until(lambda: any(spool.messages for spool in depot.spools().values()))
    refused = await cluster.client("edge-a", subject="lost")
    refused.request("nobody.there")
    await until(lambda: cluster["edge-a"].running.metrics.counters.refusals)
    await refused.close()

    shown: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for place in cluster.places.values():
        for name, labels in (await scrape(place)).items():
            shown.setdefault(name, set()).update(labels)
    labels_of = declared()
    for name, sets in shown.items():
        for labels in sets:
            assert {label for label, _ in labels} <= labels_of[name], name
            assert {label for label, _ in labels} == labels_of[name] - {"instance", "job", "worker"}, name

    every = [rule["expr"] for rule in rules()]
    every += [each for dashboard in dashboards().values() for each in expressions(dashboard)]
    asked = {metric for each in every for metric in named(settled(each)).metrics if metric.startswith("gateway_")}
    assert asked - set(shown) <= OF_EVENTS
    # What is matched by one value is a value that there is, where the series are.
    for each in every:
        for metric, label, operator, value in named(settled(each)).matchers:
            if operator == "=" and metric in shown and label not in ("job", "instance"):
                values = {dict(labels).get(label) for labels in shown[metric]}
                assert value in values or (metric, value) in ABSENT, (metric, label, value)
