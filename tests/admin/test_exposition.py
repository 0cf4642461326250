import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.exposition import FAMILIES, Sources, reference, render
from gateway.observe.bridges import BridgeCounters, BridgeState, BridgeStatus
from gateway.observe.guards import GuardFigures
from gateway.observe.links import LinkFigures, TableFigures
from gateway.observe.metrics import Metrics
from gateway.observe.updates import UpdateCounters

PAGE = Path(__file__).parents[2] / "docs/metrics.md"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(metrics: Metrics, *, outbox_bytes: int = 0, routes: int = 0) -> Samples:
    text = await render(metrics, Sources(lambda: outbox_bytes, lambda: routes), "1.2.3")
    samples: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def busy_metrics() -> Metrics:
    """Every counter has a value of its own."""
    metrics = Metrics()
    counters = metrics.counters
    for kind in ("client", "client", "uplink"):
        counters.connection_opened(kind)
    counters.connection_closed("client", "keepalive_timeout")
    counters.close("rejected_setup")
    counters.request_response, counters.fire_and_forget = 11, 12
    counters.request_stream, counters.request_channel = 13, 14
    counters.streams_open = 15
    counters.frames_in, counters.frames_out = 16, 17
    counters.bytes_in, counters.bytes_out = 18, 19
    counters.keepalives, counters.ignored_frames = 20, 21
    counters.refuse("no_route")
    counters.refuse_token("expired")
    counters.sessions_parked, counters.sessions_resumed = 23, 24
    counters.refuse_resume("resume_expired")
    stats = metrics.service_stats("thermo", by_device=False)
    stats.requests, stats.ok, stats.failed, stats.canceled, stats.refused = 40, 22, 5, 6, 4
    for seconds in (10e-6, 100e-6, 0.5, 100.0):
        stats.observe(seconds)
    metrics.loop_lag(0.002)
    metrics.updates = UpdateCounters(25, Counter(complete=26), 27, Counter(idle=28), 29)
    return metrics


async def test_every_counter_is_shown_with_its_value() -> None:
    samples = await scrape(busy_metrics(), outbox_bytes=7000, routes=8)
    expected = {
        key("gateway_info", version="1.2.3"): 1,
        key("gateway_connections", kind="client"): 1,
        key("gateway_connections", kind="uplink"): 1,
        key("gateway_connections_opened_total", kind="client"): 2,
        key("gateway_connections_opened_total", kind="uplink"): 1,
        key("gateway_connections_closed_total", reason="keepalive_timeout"): 1,
        key("gateway_connections_closed_total", reason="rejected_setup"): 1,
        key("gateway_streams_open"): 15,
        key("gateway_streams_total", interaction="request_response"): 11,
        key("gateway_streams_total", interaction="fire_and_forget"): 12,
        key("gateway_streams_total", interaction="request_stream"): 13,
        key("gateway_streams_total", interaction="request_channel"): 14,
        key("gateway_frames_total", direction="received"): 16,
        key("gateway_frames_total", direction="sent"): 17,
        key("gateway_bytes_total", direction="received"): 18,
        key("gateway_bytes_total", direction="sent"): 19,
        key("gateway_keepalives_total"): 20,
        key("gateway_ignored_frames_total"): 21,
        key("gateway_requests_total", service="thermo", outcome="ok"): 22,
        key("gateway_requests_total", service="thermo", outcome="failed"): 5,
        key("gateway_requests_total", service="thermo", outcome="canceled"): 6,
        key("gateway_requests_total", service="thermo", outcome="refused"): 4,
        key("gateway_requests_open", service="thermo"): 3,
        key("gateway_refusals_total", reason="no_route"): 1,
        key("gateway_tokens_refused_total", reason="expired"): 1,
        key("gateway_sessions_parked"): 23,
        key("gateway_sessions_resumed_total"): 24,
        key("gateway_resumes_refused_total", reason="resume_expired"): 1,
        key("gateway_outbox_bytes"): 7000,
        key("gateway_routes"): 8,
        key("gateway_firmware_downloads_open"): 25,
        key("gateway_firmware_downloads_total", outcome="complete"): 26,
        key("gateway_firmware_bytes_total"): 27,
        key("gateway_firmware_reports_total", state="idle"): 28,
        key("gateway_firmware_calls_total"): 29,
        key("gateway_loop_lag_seconds_count"): 1,
        key("gateway_loop_lag_seconds_sum"): 0.002,
        key("gateway_loop_lag_latest_seconds"): 0.002,
    }
    assert {name: samples.get(name) for name in expected} == expected
    rest = {name for name, _ in samples.keys() - expected.keys()}
    assert rest == {
        "gateway_loop_lag_seconds_bucket",
        "gateway_request_duration_seconds_bucket",
        "gateway_request_duration_seconds_count",
        "gateway_request_duration_seconds_sum",
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    }
    assert samples[key("process_resident_memory_bytes")] > 1_000_000


async def test_latencies_are_a_cumulative_histogram_in_seconds() -> None:
    samples = await scrape(busy_metrics())
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in samples.items()
        if name == "gateway_request_duration_seconds_bucket"
    )
    assert [bound for bound, _ in buckets] == [2**power / 1e6 for power in range(5, 26)] + [float("inf")]
    counts = dict(buckets)
    assert [counts[bound] for bound in (32e-6, 64e-6, 128e-6, 0.262144, 0.524288, 33.554432)] == [1, 1, 2, 2, 3, 3]
    assert counts[float("inf")] == 4
    assert samples[key("gateway_request_duration_seconds_count", service="thermo")] == 4
    assert samples[key("gateway_request_duration_seconds_sum", service="thermo")] == pytest.approx(100.50011)


async def test_what_protects_services() -> None:
    metrics = Metrics()
    metrics.guards["lamp"] = GuardFigures(
        Counter(rate=1, shed=2), 3, Counter(abort=4), Counter(latency=5), 2, 6, 7, 8, 9, 10
    )
    metrics.guards["rated"] = GuardFigures(Counter(rate=11))
    samples = await scrape(metrics)
    lamp = {name: value for (name, labels), value in samples.items() if ("service", "lamp") in labels}
    assert lamp.pop("gateway_service_refusals_total") in (1, 2)
    assert lamp == {
        "gateway_rate_limited_total": 1,
        "gateway_rate_dry_run_total": 3,
        "gateway_fault_injected_total": 4,
        "gateway_ejections_total": 5,
        "gateway_breaker_state": 2,
        "gateway_breaker_opened_total": 6,
        "gateway_ejected_instances": 7,
        "gateway_concurrency_limit": 8,
        "gateway_concurrency_open": 9,
        "gateway_requests_waiting": 10,
    }
    assert samples[key("gateway_service_refusals_total", service="lamp", reason="shed")] == 2
    assert samples[key("gateway_rate_limited_total", service="rated")] == 11
    assert key("gateway_breaker_state", service="rated") not in samples
    assert key("gateway_concurrency_limit", service="rated") not in samples


async def test_bridges() -> None:
    counters = BridgeCounters(
        forwarded=1, acknowledged=2, confirmed=3, duplicates=4, copies=12, unmatched=5, rpc=6, rpc_failed=7
    )
    counters.received.update({0: 10, 2: 11})
    counters.published[1] = 12
    counters.dropped["expired"] = 13
    counters.refused["no_route"] = 14
    counters.loops["hops"] = 15
    counters.connects, counters.failed_connects = 16, 17
    up = BridgeStatus("plant", BridgeState.CONNECTED, counters, last_ack_age_s=1.5, in_flight_in=18, in_flight_out=19)
    down = BridgeStatus("other", BridgeState.WAITING, BridgeCounters(), queued=20)

    class Bridges:
        def statuses(self) -> list[BridgeStatus]:
            return [down, up]

    text = await render(Metrics(), Sources(lambda: 0, lambda: 0, bridges=Bridges()), "1")
    samples = {
        line.rpartition(" ")[0].removeprefix("gateway_mqtt_"): float(line.rpartition(" ")[2])
        for line in text.decode().splitlines()
        if line.startswith("gateway_mqtt_")
    }
    plant = {name: value for name, value in samples.items() if 'bridge="plant"' in name}
    assert plant == {
        'connected{bridge="plant"}': 1,
        'last_ack_age_seconds{bridge="plant"}': 1.5,
        'received_total{bridge="plant",qos="0"}': 10,
        'received_total{bridge="plant",qos="2"}': 11,
        'forwarded_total{bridge="plant"}': 1,
        'acknowledged_total{bridge="plant"}': 2,
        'duplicates_total{bridge="plant"}': 4,
        'copies_total{bridge="plant"}': 12,
        'unmatched_total{bridge="plant"}': 5,
        'dropped_total{bridge="plant",reason="expired"}': 13,
        'refused_total{bridge="plant",reason="no_route"}': 14,
        'loops_total{bridge="plant",reason="hops"}': 15,
        'published_total{bridge="plant",qos="1"}': 12,
        'confirmed_total{bridge="plant"}': 3,
        'in_flight{bridge="plant",direction="received"}': 18,
        'in_flight{bridge="plant",direction="sent"}': 19,
        'queued{bridge="plant"}': 0,
        'connects_total{bridge="plant"}': 16,
        'failed_connects_total{bridge="plant"}': 17,
        'rpc_total{bridge="plant"}': 6,
        'rpc_failed_total{bridge="plant"}': 7,
    }
    assert samples['connected{bridge="other"}'] == 0
    assert samples['queued{bridge="other"}'] == 20
    assert 'last_ack_age_seconds{bridge="other"}' not in samples


async def test_a_node_that_has_seen_nothing_shows_every_metric() -> None:
    text = (await render(Metrics(), Sources(lambda: 0, lambda: 0), "1")).decode()
    assert re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE) == [(f.name, f.kind) for f in FAMILIES]
    assert re.findall(r"^# HELP (\S+) ", text, re.MULTILINE) == [family.name for family in FAMILIES]


@pytest.mark.parametrize("services", [1, 4, 5, 100])
async def test_each_metric_is_announced_once_however_many_services_there_are(services: int) -> None:
    metrics = Metrics()
    for number in range(services):
        metrics.service_stats(f"service-{number}", by_device=False).observe(0.001)
    text = (await render(metrics, Sources(lambda: 0, lambda: 0), "1")).decode()
    assert len(re.findall(r"^# TYPE ", text, re.MULTILINE)) == len(FAMILIES)
    shown = re.findall(r'^gateway_request_duration_seconds_count\{service="(\S+)"\} 1\.0$', text, re.MULTILINE)
    assert shown == [f"service-{number}" for number in range(services)]
    assert len(re.findall(r"^gateway_requests_total\{", text, re.MULTILINE)) == 4 * services


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "größe", "plant/7/thermo"])
async def test_whatever_a_service_is_called_the_text_parses(name: str) -> None:
    metrics = Metrics()
    metrics.service_stats(name, by_device=False).ok += 1
    samples = await scrape(metrics)
    assert samples[key("gateway_requests_total", service=name, outcome="ok")] == 1


async def test_a_large_scrape_gives_the_loop_away_and_survives_changes_meanwhile() -> None:
    metrics = Metrics()
    for number in range(300):
        metrics.service_stats(f"service-{number}", by_device=False).observe(0.001)
    turns = 0

    async def data_plane() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1
            metrics.service_stats(f"newcomer-{turns}", by_device=False).observe(0.001)

    busy = asyncio.create_task(data_plane())
    samples = await scrape(metrics)
    busy.cancel()
    assert turns > 10
    assert samples[key("gateway_request_duration_seconds_count", service="service-299")] == 1


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"(gateway|process)_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.help.endswith(".")
        assert family.kind != "histogram" or family.name.endswith("_seconds")


def test_the_page_lists_every_metric_and_no_other() -> None:
    """`python tools/metrics_page.py` writes that part of docs/metrics.md."""
    assert PAGE.read_text().partition("## Every metric\n\n")[2] == reference()


class Links:
    def __init__(self, figures: list[LinkFigures]) -> None:
        self._figures = figures

    def figures(self) -> list[LinkFigures]:
        return self._figures

    def table(self) -> TableFigures:
        return TableFigures(True, "", 2, 3, 4, 5, 6)


async def test_links_are_shown_by_node_and_kind() -> None:
    of_links = [
        LinkFigures("uplink", "central-1", 1, 1, 0.25, 3, 4, 5, 0.5, 6, 7, 8, 9),
        LinkFigures("downlink", "(edges)"),
    ]
    text = (await render(Metrics(), Sources(lambda: 0, lambda: 0, links=Links(of_links)), "1")).decode()
    found = dict(re.findall(r'^gateway_link_(\w+)\{kind="uplink",node="central-1"\} (\S+)$', text, re.MULTILINE))
    assert found == {
        "up": "1.0",
        "active": "1.0",
        "rtt_seconds": "0.25",
        "lag_routes": "5.0",
        "lag_seconds": "0.5",
        "restarts_total": "6.0",
        "digest_mismatches_total": "7.0",
    }
    for name, received, sent in (("routes", 3, 4), ("bytes_total", 8, 9)):
        labels = 'direction="{}",kind="uplink",node="central-1"'
        assert f"gateway_link_{name}{{{labels.format('received')}}} {received}.0" in text
        assert f"gateway_link_{name}{{{labels.format('sent')}}} {sent}.0" in text
    assert 'gateway_link_up{kind="downlink",node="(edges)"} 0.0' in text
    assert dict(re.findall(r"^gateway_table_(\w+) (\S+)$", text, re.MULTILINE)) == {
        "fresh": "1.0",
        "devices": "2.0",
        "edges": "3.0",
        "nodes": "4.0",
        "dirty_keys": "5.0",
        "invalid_total": "6.0",
    }
