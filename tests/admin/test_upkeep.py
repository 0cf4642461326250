"""What somebody has to look after, as the telemetry port of a real node shows it."""

from __future__ import annotations

import ssl
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.exposition import Sources, render
from gateway.admin.upkeep import Room, UpkeepFigures
from gateway.control.audit import Actor
from gateway.control.bundle_standing import Outcome
from gateway.control.held_bundles import HeldState
from gateway.observe.metrics import Metrics
from tests.admin.http_exchange import ask
from tests.conftest import StartNode
from tests.local_node import LocalNode

OPERATOR = Actor("user", "alice")


def samples(text: str) -> dict[str, float]:
    """By name and labels, as they are written."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def scrape(local: LocalNode) -> dict[str, float]:
    return samples((await ask(local.node.telemetry_port, "/metrics")).text)


async def test_what_a_node_needs_looked_after(start_node: StartNode) -> None:
    local = await start_node({"telemetry.listen": "127.0.0.1:0", "limits.memory_bytes": 1 << 40}, dev=False)
    node = local.node
    assert node.control is not None
    shown = await scrape(local)
    assert {name: value for name, value in shown.items() if name.startswith("gateway_ready")} == {
        'gateway_ready{check="websocket"}': 1,
        'gateway_ready{check="tcp"}': 1,
        'gateway_ready{check="draining"}': 1,
    }
    expiry = shown['gateway_certificate_expiry_timestamp_seconds{certificate="listener"}']
    assert expiry == ssl.cert_time_to_seconds(_ends(node.certificate_path))
    assert shown["gateway_backups"] == 0
    assert "gateway_backup_latest_timestamp_seconds" not in shown
    assert 0 < shown["gateway_disk_free_bytes"] <= shown["gateway_disk_size_bytes"]
    assert shown["gateway_memory_limit_bytes"] == 1 << 40
    assert shown['gateway_bundle_version{bundle="active"}'] == shown['gateway_bundle_version{bundle="given"}'] == 0
    assert shown['gateway_flow_records_lost_total{reader="files"}'] == 0
    assert not [name for name in shown if name.startswith(("gateway_alarm", "gateway_bundle_nodes"))]

    (node.config.node.data / "backups").mkdir()
    (node.config.node.data / "backups" / "20269999T000000.000000Z.tar").touch()
    made = await node.control.backups.create(by=OPERATOR)
    node.control.raise_alarm("wal_large", "a reader holds it up")
    for issuer in ("https://one.example", "https://two.example"):
        node.control.raise_alarm(f"jwks_failed:{issuer}", "no answer")
    node.plane.draining = True
    node.certificate_path.write_bytes(b"no certificate")
    shown = await scrape(local)
    node.plane.draining = False
    assert shown["gateway_backups"] == 1
    assert shown["gateway_backup_latest_timestamp_seconds"] == made.created_at
    assert shown['gateway_alarm{alarm="wal_large"}'] == 1
    assert shown['gateway_alarm{alarm="jwks_failed"}'] == 1
    assert shown['gateway_ready{check="draining"}'] == 0
    assert not [name for name in shown if name.startswith("gateway_certificate")]


def _ends(path: Path) -> str:
    return str(ssl._ssl._test_decode_cert(str(path))["notAfter"])  # type: ignore[attr-defined]


async def test_what_became_of_bundles() -> None:
    async def figures() -> UpkeepFigures:
        return UpkeepFigures(
            checks={},
            alarms=(),
            certificate_ends=None,
            backups=(1.0, 3.0, 2.0),
            room=Room(1, 2),
            bundle=3,
            bundle_given=4,
            bundle_state=HeldState.ROLLED_BACK,
            bundle_nodes={Outcome.WAITING: 5, Outcome.ACTIVE: 6},
            flow_records_lost={"viewers": 7},
            memory_limit=0,
        )

    text = await render(Metrics(), Sources(lambda: 0, lambda: 0, upkeep=figures), "1")
    shown = samples(text.decode())
    assert shown['gateway_bundle_version{bundle="active"}'] == 3
    assert shown['gateway_bundle_version{bundle="given"}'] == 4
    assert shown['gateway_bundle_state{state="rolled_back"}'] == 1
    assert shown['gateway_bundle_nodes{outcome="waiting"}'] == 5
    assert shown['gateway_bundle_nodes{outcome="active"}'] == 6
    assert shown['gateway_flow_records_lost_total{reader="viewers"}'] == 7
    assert shown["gateway_backup_latest_timestamp_seconds"] == 3
    assert "gateway_memory_limit_bytes" not in shown
