"""Why a node is not well: each reason from the figures that it goes by, and all of a real node."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.admin import health
from gateway.admin.health import Reason, Waiting
from gateway.admin.history import Step
from gateway.admin.static import FOLDER
from gateway.control.plane import Alarm
from gateway.observe.bridges import BridgeCounters, BridgeState, BridgeStatus
from gateway.observe.guards import GuardFigures
from gateway.observe.links import LinkFigures, TableFigures
from tests.admin.api import Api

NOW = 1_800_000_000.0
CALM = Step(NOW, 5, 5, 10.0, 0.0, 0.0, 1, 1, 1, 1, None, None, 0, 0, 0, 0.001, None, 0.1, 0.0)


def told(reasons: Iterable[Reason]) -> list[tuple[str, str]]:
    return [(reason.severity, reason.slug) for reason in reasons]


def test_the_worst_reason_says_how_the_node_is() -> None:
    info, warning = Reason("info", "a", "", "/"), Reason("warning", "b", "", "/")
    error, down = Reason("error", "c", "", "/"), Reason("error", health.NOT_READY, "", "/")
    given: list[list[Reason]] = [[], [info], [info, warning], [error], [warning, down]]
    assert [health.state_of(each) for each in given] == ["ok", "ok", "degraded", "degraded", "down"]
    assert health.ranked([info, warning, error]) == [error, warning, info]


def test_readiness_and_alarms() -> None:
    assert told(health.readiness({"draining": "x", "websocket": "is not accepting"})) == [
        ("warning", "draining"),
        ("error", "not-ready"),
    ]
    assert told(health.alarms([Alarm("storage_full", "the disk is full", NOW)])) == [("error", "storage-full")]


def topology(down_since: float | None, *nodes: tuple[str, str, float | None]) -> dict[str, Any]:
    shown = [{"name": name, "place": place, "down_since": since, "ahead": False} for name, place, since in nodes]
    return {"uplink_down_since": down_since, "nodes": shown}


def test_edges_newer_than_their_central_node() -> None:
    """Each node speaks of itself and its own children; what is behind another is that one's to say."""
    found = topology(
        None, ("central", "itself", None), ("e1", "child", None), ("e2", "child", None), ("e3", "behind", None)
    )
    for node in found["nodes"][1:]:
        node |= {"ahead": node["name"] != "e2", "version": "0.10.0"}
    (reason,) = health.federation(found, NOW)
    assert (reason.severity, reason.slug, reason.page) == ("warning", "edge-ahead", "/federation")
    assert reason.text == "1 edge is newer than the central node: e1 (0.10.0). Central nodes are upgraded first."


def test_nodes_and_links() -> None:
    assert told(health.federation(None, NOW)) == []
    well = topology(None, ("here", "itself", None), ("edge-2", "child", None), ("edge-3", "apart", None))
    assert told(health.federation(well, NOW)) == []
    alone = list(health.federation(topology(NOW - 300, ("central", "apart", NOW - 300)), NOW))
    assert told(alone) == [("error", "uplink-down"), ("warning", "node-away")]
    assert "5 minutes" in alone[0].text
    assert "central" in alone[1].text
    (many,) = health.federation(topology(None, *((f"e{n}", "apart", NOW) for n in range(5))), NOW)
    assert many.text == "5 nodes are away: e0, e1, e2 and 2 more."
    late = [LinkFigures("uplink", "central", up=1, lag_s=60.0), LinkFigures("uplink", "old", up=0, lag_s=60.0)]
    assert [reason.text for reason in health.links(late)] == ["Routes reach central 60 seconds late."]
    assert told(health.table(None)) == []
    assert told(health.table(TableFigures(True, "", 1, 1, 1, 0, 0))) == []
    assert told(health.table(TableFigures(False, "the engine is away", 0, 0, 0, 0, 2))) == [
        ("error", "table-stale"),
        ("warning", "table-invalid"),
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (BridgeState.CONNECTED, []),
        (BridgeState.DISABLED, []),
        (BridgeState.STOPPED, [("info", "bridge-stopped")]),
        (BridgeState.WAITING, [("warning", "bridge-down")]),
        (BridgeState.CONNECTING, [("warning", "bridge-down")]),
        (BridgeState.FAILED, [("error", "bridge-failed")]),
    ],
)
def test_bridges(state: BridgeState, expected: list[tuple[str, str]]) -> None:
    assert told(health.bridges([BridgeStatus("plant", state, BridgeCounters(), reason="refused")])) == expected


def test_spools() -> None:
    assert told(health.spools([Waiting("a", 5, 10, 100, 30.0)])) == []
    assert told(health.spools([Waiting("a", 5, 95, 100, 30.0)])) == [("warning", "spool-full")]
    assert told(health.spools([Waiting("a", 5, 100, 100, 9999.0)])) == [("error", "spool-full")]
    (old,) = health.spools([Waiting("a", 1, 10, 100, 7200.0)])
    assert (old.slug, old.text) == ("spool-old", "1 message is waiting in spool a, the oldest for 2 hours.")


def test_what_protects_services() -> None:
    assert told(health.guards({"a": GuardFigures(breaker=0), "b": GuardFigures(breaker=1)})) == []
    found = list(health.guards({"a": GuardFigures(breaker=2), "b": GuardFigures(ejected=2)}))
    assert told(found) == [("warning", "breaker-open"), ("warning", "ejected")]
    assert found[1].text == "2 instances are passed over: b."


def test_what_comes_to_an_end() -> None:
    day = health.DAY_S
    assert told(health.certificate(None, NOW)) == []
    assert told(health.certificate(NOW + 90 * day, NOW)) == []
    assert told(health.certificate(NOW + 5 * day, NOW)) == [("warning", "certificate-ends")]
    assert told(health.certificate(NOW - 1, NOW)) == [("error", "certificate-ended")]
    assert told(health.backup(None, NOW)) == [("info", "no-backup")]
    assert told(health.backup(NOW - day, NOW)) == []
    assert told(health.backup(NOW - 30 * day, NOW)) == [("warning", "backup-old")]
    gib = 1024**3
    assert told(health.disk(50 * gib, 100 * gib)) == []
    assert told(health.disk(40 * gib, 1000 * gib)) == []
    assert told(health.disk(gib // 4, 4 * gib)) == [("warning", "disk-low")]
    assert told(health.disk(2 * gib, 100 * gib)) == [("warning", "disk-low")]
    assert told(health.disk(gib // 32, 4 * gib)) == [("error", "disk-full")]


def test_what_the_last_minutes_say() -> None:
    assert told(health.lateness([], 0.1, 0.5)) == []
    assert told(health.lateness([CALM], 0.1, 0.5)) == []
    assert told(health.lateness([CALM._replace(loop_lag_s=0.2), CALM], 0.1, 0.5)) == [("warning", "loop-late")]
    assert told(health.lateness([CALM._replace(loop_lag_s=2.0)], 0.1, 0.5)) == [("error", "loop-late")]
    assert told(health.refusals([CALM] * 60, 5.0)) == []
    assert told(health.refusals([CALM._replace(refused_s=0.1)] * 60, 5.0)) == []
    assert told(health.refusals([CALM._replace(refused_s=2.0)] * 60, 5.0)) == [("warning", "many-refused")]
    assert told(health.clock(NOW, [CALM])) == []
    assert told(health.clock(1000.0, [])) == [("error", "clock-wrong")]
    (back,) = health.clock(NOW, [CALM, CALM._replace(jumped_s=-90.0), CALM])
    assert (back.slug, back.text) == ("clock-set", "The clock was set back by 90 seconds within the last 15 minutes.")


def test_each_reason_leads_to_a_page_of_the_dashboard() -> None:
    pages = set(re.findall(r'path: "([a-z-]+)"', (FOLDER / "app" / "pages.js").read_text()))
    assert set(re.findall(r'"/([a-z-]+)"', inspect.getsource(health))) <= pages


async def test_a_node_that_is_well_and_one_that_drains(api: Api) -> None:
    assert api.node.admin is not None
    condition = api.node.admin.condition
    shown = await api.get("/health")
    assert shown["devices"] == {"total": 0, "online": 0, "disabled": 0, "never_seen": 0}
    assert "no-backup" in {reason["slug"] for reason in shown["reasons"]}
    # The disk of the machine that runs the tests may be short.
    assert shown["state"] != "down"
    condition.forget()
    await api.send("POST", "/node/drain")
    drained = await api.get("/health")
    assert drained["state"] == "degraded"
    assert "draining" in {reason["slug"] for reason in drained["reasons"]}
    await api.send("POST", "/node/undrain")
    await api.send("POST", "/backups", 201)
    condition.forget()
    assert "no-backup" not in {reason["slug"] for reason in (await api.get("/health"))["reasons"]}
