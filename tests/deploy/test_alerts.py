"""When each alert of deploy/prometheus/rules.yml fires, and when it does not; promtool runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gateway.cli.catalogue import COMMANDS, load
from tests.deploy.conftest import Promtool
from tests.deploy.monitoring import PROMETHEUS, ROOT, alerts, rules, unknown

PAGE = (ROOT / "docs" / "alerts.md").read_text()
HOUR = 60


@dataclass(frozen=True)
class Case:
    """`fires` and `calm`: series of which the alert fires, and does not, after so many minutes; a value a minute, in
    promtool's notation. What they share is in `both`."""

    fires: dict[str, str]
    calm: dict[str, str]
    minutes: int = 30
    both: dict[str, str] | None = None

    def series(self, node: str, own: dict[str, str]) -> list[dict[str, str]]:
        labels = f'instance="{node}:9879", job="gateway"'
        found = []
        for name, values in {**(self.both or {}), **own}.items():
            metric, _, more = name.partition("{")
            found.append(
                {"series": f"{metric}{{{labels}, {more}" if more else f"{metric}{{{labels}}}", "values": values}
            )
        return found


UP, DOWN = "1x90", "0x90"
MIB = 1 << 20
GONE = '{reason="internal_error"}'
LINK = 'kind="uplink", node="central"'
PEER = 'kind="peer", node="central-2"'
SPOOL = '{spool="jobs"}'
BRIDGE = 'bridge="plant"'
THERMO = 'service="thermo"'
BUCKETS = "gateway_loop_lag_seconds_bucket"
REFUSED = 'gateway_refusals_total{reason="no_route"}'
OK = f'gateway_requests_total{{{THERMO}, outcome="ok"}}'
FAILED = f'gateway_requests_total{{{THERMO}, outcome="failed"}}'

CASES = {
    "GatewayNodeDown": Case({"up": DOWN}, {"up": UP}),
    "GatewayNodeRestarts": Case(
        {"process_start_time_seconds": "1x5 300x5 600x5 900x40"}, {"process_start_time_seconds": "1x5 300x40"}
    ),
    "GatewayNotReady": Case({'gateway_ready{check="websocket"}': DOWN}, {'gateway_ready{check="draining"}': DOWN}),
    "GatewayDrainsLong": Case({'gateway_ready{check="draining"}': DOWN}, {'gateway_ready{check="draining"}': UP}),
    "GatewayNoConnections": Case(
        {'gateway_connections{kind="client"}': "7x30 0x60"}, {'gateway_connections{kind="client"}': "0x90"}, 60
    ),
    "GatewayConnectionsDropped": Case(
        {'gateway_connections{kind="client"}': "100x30 20x60"},
        {'gateway_connections{kind="client"}': "100x30 60x60"},
        40,
    ),
    "GatewayRefusals": Case({REFUSED: "0+120x60"}, {REFUSED: "0+40x60"}, both={OK: "0+1200x60"}),
    "GatewayTokensRefused": Case(
        {'gateway_tokens_refused_total{reason="token_expired"}': "0+60x60"},
        {'gateway_tokens_refused_total{reason="token_expired"}': "0+2x60"},
        60,
    ),
    "GatewayRequestsFail": Case({FAILED: "0+300x60"}, {FAILED: "0+10x60"}, both={OK: "0+900x60"}),
    "GatewayInternalErrors": Case(
        {f"gateway_connections_closed_total{GONE}": "_x20 1x20"}, {f"gateway_connections_closed_total{GONE}": "1x60"}
    ),
    "GatewayOutboxLarge": Case({"gateway_outbox_bytes": f"{70 * MIB}x60"}, {"gateway_outbox_bytes": f"{60 * MIB}x60"}),
    "GatewayLoopLag": Case(
        {f'{BUCKETS}{{le="0.032768"}}': "0+60x60"},
        {f'{BUCKETS}{{le="0.032768"}}': "0+119x60"},
        both={f'{BUCKETS}{{le="0.262144"}}': "0+119x60", f'{BUCKETS}{{le="+Inf"}}': "0+119x60"},
    ),
    "GatewayMemory": Case(
        {"process_resident_memory_bytes": "90x60"},
        {"process_resident_memory_bytes": "80x60"},
        both={"gateway_memory_limit_bytes": "100x60"},
    ),
    "GatewayFileDescriptors": Case(
        {"process_open_fds": "90x60"}, {"process_open_fds": "80x60"}, both={"process_max_fds": "100x60"}
    ),
    "GatewayAlarm": Case({'gateway_alarm{alarm="wal_large"}': UP}, {'gateway_alarm{alarm="wal_large"}': "1x20 _x60"}),
    # Time begins at 0 in these tests, and ends after the minutes given.
    "GatewayCertificateExpires": Case(
        {"gateway_certificate_expiry_timestamp_seconds": f"{20 * 86400}x90"},
        {"gateway_certificate_expiry_timestamp_seconds": f"{23 * 86400}x90"},
        90,
    ),
    "GatewayCertificateExpired": Case(
        {"gateway_certificate_expiry_timestamp_seconds": "60x90"},
        {"gateway_certificate_expiry_timestamp_seconds": f"{20 * 86400}x90"},
    ),
    "GatewayBackupOld": Case(
        {"gateway_backup_latest_timestamp_seconds": f"{-8 * 86400}x90"},
        {"gateway_backup_latest_timestamp_seconds": f"{-6 * 86400}x90"},
        90,
    ),
    "GatewayNoBackup": Case({"gateway_backups": "0x500"}, {"gateway_backups": "0x10 1x500"}, 7 * HOUR),
    "GatewayDiskLow": Case(
        {"gateway_disk_free_bytes": "900000000x90"},
        {"gateway_disk_free_bytes": "1100000000x90"},
        both={"gateway_disk_size_bytes": "10000000000x90"},
    ),
    "GatewayDiskFull": Case({"gateway_disk_free_bytes": "16000000x90"}, {"gateway_disk_free_bytes": "17000000x90"}),
    "GatewayDiskFills": Case(
        {"gateway_disk_free_bytes": "4000000000-3000000x500"},
        {"gateway_disk_free_bytes": "4000000000-2000x500"},
        7 * HOUR,
        both={"gateway_disk_size_bytes": "10000000000x500"},
    ),
    "GatewayFlowRecordsLost": Case(
        {'gateway_flow_records_lost_total{reader="files"}': "0+1x60"},
        {'gateway_flow_records_lost_total{reader="viewers"}': "0+1x60"},
    ),
    "GatewaySpansLost": Case(
        {'gateway_spans_total{outcome="dropped"}': "0+1x60"},
        {'gateway_spans_total{outcome="delivered"}': "0+1x60"},
        60,
    ),
    "GatewayDeviceConfigsRejected": Case(
        {'gateway_device_configs_total{event="rejected"}': "0x10 1x60"},
        {'gateway_device_configs_total{event="applied"}': "0x10 1x60"},
    ),
    "GatewayFirmwareFails": Case(
        {'gateway_firmware_reports_total{state="failed"}': "0+1x60"},
        {'gateway_firmware_reports_total{state="confirmed"}': "0+1x60"},
    ),
    "GatewayUplinkDown": Case(
        {f"gateway_link_up{{{LINK}}}": DOWN},
        {f"gateway_link_up{{{LINK}}}": DOWN, 'gateway_link_up{kind="uplink", node="central-2"}': UP},
    ),
    "GatewayPeerLinkDown": Case({f"gateway_link_up{{{PEER}}}": DOWN}, {f"gateway_link_up{{{PEER}}}": UP}),
    "GatewayLinkLag": Case(
        {f"gateway_link_lag_seconds{{{LINK}}}": "31x60"}, {f"gateway_link_lag_seconds{{{LINK}}}": "29x60"}
    ),
    "GatewayLinkSlow": Case(
        {f"gateway_link_rtt_seconds{{{LINK}}}": "1.1x60"}, {f"gateway_link_rtt_seconds{{{LINK}}}": "0.9x60"}
    ),
    "GatewayRoutesDiffer": Case(
        {f"gateway_link_digest_mismatches_total{{{LINK}}}": "0+1x60"},
        {f"gateway_link_digest_mismatches_total{{{LINK}}}": "0x10 1x60"},
    ),
    "GatewayTableStale": Case({"gateway_table_fresh": DOWN}, {"gateway_table_fresh": UP}),
    "GatewayTableNotWritten": Case(
        {"gateway_table_dirty_keys": "5x60"}, {"gateway_table_dirty_keys": "5 0 5 5 0 5 5 0 5 0x60"}
    ),
    "GatewayTableInvalid": Case({"gateway_table_invalid_total": "0x20 1x40"}, {"gateway_table_invalid_total": "1x60"}),
    "GatewayBundleFailed": Case(
        {'gateway_bundle_state{state="rolled_back"}': UP}, {'gateway_bundle_state{state="active"}': UP}
    ),
    "GatewayBundleNotTaken": Case(
        {'gateway_bundle_nodes{outcome="waiting"}': "2x60"},
        {'gateway_bundle_nodes{outcome="waiting"}': "2x10 0x60", 'gateway_bundle_nodes{outcome="active"}': "3x60"},
        45,
    ),
    "GatewayBridgeDown": Case(
        {f"gateway_mqtt_connected{{{BRIDGE}}}": DOWN}, {f"gateway_mqtt_connected{{{BRIDGE}}}": UP}
    ),
    "GatewayBridgeSilent": Case(
        {f'gateway_mqtt_in_flight{{{BRIDGE}, direction="sent"}}': "3x60"},
        {f'gateway_mqtt_in_flight{{{BRIDGE}, direction="sent"}}': "0x60"},
        both={f"gateway_mqtt_last_ack_age_seconds{{{BRIDGE}}}": "0+60x60"},
    ),
    "GatewayBridgeQueue": Case(
        {f"gateway_mqtt_queued{{{BRIDGE}}}": "600x60"}, {f"gateway_mqtt_queued{{{BRIDGE}}}": "600x24 0x60"}
    ),
    "GatewayBridgeDrops": Case(
        {f'gateway_mqtt_dropped_total{{{BRIDGE}, reason="expired"}}': "0+1x60"},
        {f'gateway_mqtt_dropped_total{{{BRIDGE}, reason="expired"}}': "5x60"},
    ),
    "GatewayBridgeLoops": Case(
        {f'gateway_mqtt_loops_total{{{BRIDGE}, reason="via"}}': "0+1x60"},
        {f'gateway_mqtt_loops_total{{{BRIDGE}, reason="via"}}': "5x60"},
    ),
    "GatewayBridgeReconnects": Case(
        {f"gateway_mqtt_connects_total{{{BRIDGE}}}": "0+1x60"},
        {f"gateway_mqtt_connects_total{{{BRIDGE}}}": "0x20 1x60"},
    ),
    "GatewaySpoolOld": Case(
        {f"gateway_spool_oldest_age_seconds{SPOOL}": "3700x60"}, {f"gateway_spool_oldest_age_seconds{SPOOL}": "3500x60"}
    ),
    "GatewaySpoolGrows": Case(
        {f"gateway_spool_messages{SPOOL}": "1001+10x200"}, {f"gateway_spool_messages{SPOOL}": "5000-10x200"}, 120
    ),
    "GatewaySpoolRefuses": Case(
        {f'gateway_spool_refused_total{{{SPOOL[1:-1]}, reason="spool_full"}}': "0x20 1x60"},
        {f'gateway_spool_refused_total{{{SPOOL[1:-1]}, reason="spool_full"}}': "1x60"},
    ),
    "GatewaySpoolLoses": Case(
        {f'gateway_spool_lost_total{{{SPOOL[1:-1]}, reason="expired"}}': "0x22 9x60"},
        {f'gateway_spool_lost_total{{{SPOOL[1:-1]}, reason="expired"}}': "0x5 9x60"},
    ),
    "GatewayBreakerOpen": Case(
        {f"gateway_breaker_state{{{THERMO}}}": "2x60"}, {f"gateway_breaker_state{{{THERMO}}}": "1x60"}
    ),
    "GatewayInstancesEjected": Case(
        {f"gateway_ejected_instances{{{THERMO}}}": "2x60"}, {f"gateway_ejected_instances{{{THERMO}}}": "0x60"}
    ),
    "GatewayServiceKeepsBack": Case(
        {f'gateway_service_refusals_total{{{THERMO}, reason="rate"}}': "0+1x60"},
        {f'gateway_service_refusals_total{{{THERMO}, reason="breaker_open"}}': "0+1x60"},
    ),
    "GatewayFaultsInjected": Case(
        {f'gateway_fault_injected_total{{{THERMO}, fault="delay"}}': "0+1x90"},
        {f'gateway_fault_injected_total{{{THERMO}, fault="delay"}}': "0+1x40 40x60"},
        80,
    ),
}


def test_each_alert_has_a_case() -> None:
    assert list(CASES) == list(alerts())


def test_alerts_fire_when_they_should_and_only_then(promtool: Promtool, tmp_path: Path) -> None:
    """Each by a node of its own with what makes it fire, and another one with what must not. All at once: promtool
    takes longer to begin a test than to run it."""
    series, asked = [], []
    for name, case in CASES.items():
        series += case.series(f"ill-{name}", case.fires) + case.series(f"well-{name}", case.calm)
        which = f'alertname="{name}", alertstate="firing", instance=~"(ill|well)-{name}:9879"'
        expected = {"labels": f'{{instance="ill-{name}:9879"}}', "value": 1}
        asked.append(
            {
                "expr": f"count by (instance) (ALERTS{{{which}}})",
                "eval_time": f"{case.minutes}m",
                "exp_samples": [expected],
            }
        )
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    document = {"rule_files": [str(PROMETHEUS / "rules.yml")], "evaluation_interval": "2m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", tmp_path / "tests.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_an_alert_says_is_put_into_words(promtool: Promtool, tmp_path: Path) -> None:
    rule = alerts()["GatewayCertificateExpires"]
    labels = {"certificate": "listener", "instance": "edge:9879", "job": "gateway", "severity": "warning"}
    said = {
        "summary": "The certificate of edge:9879 expires in 9d 22h 30m 0s",
        "description": rule["annotations"]["description"],
        "runbook": "docs/alerts.md#gatewaycertificateexpires",
    }
    series = 'gateway_certificate_expiry_timestamp_seconds{instance="edge:9879", job="gateway", certificate="listener"}'
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": f"{10 * 86400}x90"}],
        "alert_rule_test": [
            {
                "eval_time": "90m",
                "alertname": "GatewayCertificateExpires",
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": said}],
            }
        ],
    }
    document = {"rule_files": [str(PROMETHEUS / "rules.yml")], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", tmp_path / "tests.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong(promtool: Promtool) -> None:
    for kind, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        done = promtool("check", kind, PROMETHEUS / name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_what_a_node_shows(rule: dict[str, str]) -> None:
    assert unknown(rule["expr"]) == []


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_to_do(name: str) -> None:
    rule = alerts()[name]
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook"}
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(said["summary"]) < 100
    assert said["description"].endswith(".")
    assert said["runbook"] == f"docs/alerts.md#{name.lower()}"
    part = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0].strip()
    assert len(part) > 60, f"docs/alerts.md does not say what {name} means"
    assert len(re.findall(rf"^### {name}$", PAGE, re.MULTILINE)) == 1


def test_the_page_has_no_alert_that_is_none() -> None:
    assert set(re.findall(r"^### (Gateway\w+)$", PAGE, re.MULTILINE)) == set(alerts())


def test_commands_that_alerts_name_are_there() -> None:
    text = "\n".join([*(str(rule["annotations"]) for rule in alerts().values()), *re.findall(r"`([^`]+)`", PAGE)])
    text = re.sub(r"\{\{.*?\}\}", "NAME", text)
    called = set(re.findall(r"\bgateway ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", text))
    assert len(called) > 15
    for words in called:
        name, *more = words.split(" ")
        assert name in COMMANDS, f"gateway {words}"
        command = load(name)
        if hasattr(command, "commands") and more:
            assert more[0] in command.commands, f"gateway {words}"
