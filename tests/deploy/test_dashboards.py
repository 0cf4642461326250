"""The dashboards of deploy/grafana: whole, told apart, explained, and asking for what a node shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import Promtool
from tests.deploy.monitoring import GRAFANA, dashboards, declared, expressions, panels, settled, unknown

DASHBOARDS = dashboards()
#: Of https://grafana.com/docs: those that the dashboards use.
UNITS = {"none", "short", "s", "bytes", "Bps", "pps", "cps", "reqps", "percentunit"}
KINDS = {"row", "timeseries", "stat", "state-timeline", "table"}


def drawn(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in panels(dashboard) if panel["type"] != "row")


def test_there_are_four() -> None:
    assert set(DASHBOARDS) == {"fleet", "node", "federation", "mqtt"}
    uids = [each["uid"] for each in DASHBOARDS.values()]
    titles = [each["title"] for each in DASHBOARDS.values()]
    assert len(set(uids)) == len(set(titles)) == 4
    assert uids == [f"gateway-{name}" for name in DASHBOARDS]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["description"].endswith(".")
    # Grafana gives it one of its own; with one of ours, an import could replace another dashboard.
    assert "id" not in dashboard
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(set(ids)) == len(ids)
    own = [link for link in dashboard["links"] if link["type"] == "link"]
    assert [link["url"] for link in own] == ["${gateway:raw}/"]
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert {"datasource", "instance", "gateway"} <= set(variables)
    for variable in variables.values():
        if variable["type"] == "query":
            metric = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["definition"])
            assert metric is not None, variable["definition"]
            assert metric[2] == variable["name"]
            assert metric[2] in declared()[metric[1]]
    asked = " ".join([*expressions(dashboard), dashboard["annotations"]["list"][0]["expr"]])
    used = set(re.findall(r"\$([a-z]+)", asked.replace("$__rate_interval", "")))
    assert used == set(variables) - {"datasource", "gateway"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_says_what_it_shows(name: str) -> None:
    titles = []
    for panel in panels(DASHBOARDS[name]):
        assert panel["type"] in KINDS
        assert panel["title"]
        if panel["type"] == "row":
            continue
        titles.append(panel["title"])
        assert panel["description"].endswith("."), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS, panel["title"]
        steps = defaults["thresholds"]["steps"]
        assert steps[0]["value"] is None, panel["title"]
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:]), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["legendFormat"], panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(DASHBOARDS[name]):
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", DASHBOARDS)
def test_they_ask_for_what_a_node_shows(name: str) -> None:
    assert [what for each in expressions(DASHBOARDS[name]) for what in unknown(each)] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_legend_names_labels_that_are_left(name: str) -> None:
    """Summed by other labels than the legend names, every line would be called the same."""
    for panel in drawn(DASHBOARDS[name]):
        for target in panel["targets"]:
            if target.get("format") == "table":
                continue
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            lists = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if lists:
                left = set(lists[0].replace(" ", "").split(",")) - {"le"}
                assert named <= left, (panel["title"], target["legendFormat"], left)


def test_every_expression_can_be_parsed(promtool: Promtool, tmp_path: Path) -> None:
    """promtool parses the expressions of rules, so each is made one."""
    every = sorted({settled(each) for dashboard in DASHBOARDS.values() for each in expressions(dashboard)})
    every += [settled(each["annotations"]["list"][0]["expr"]) for each in DASHBOARDS.values()]
    assert len(every) > 100
    made = [{"record": f"parsed:{number}", "expr": each} for number, each in enumerate(every)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": made}]}))
    done = promtool("check", "rules", "--lint=none", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(every)} rules found" in done.stdout


def test_what_is_provisioned_is_there() -> None:
    provisioned = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "gateway.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "gateway.yml").read_text())["providers"]
    for dashboard in DASHBOARDS.values():
        first = dashboard["templating"]["list"][0]
        assert (first["type"], first["query"], first["current"]["value"]) == ("datasource", "prometheus", source["uid"])
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")


def test_every_metric_of_a_node_is_on_a_dashboard_or_in_a_rule() -> None:
    """So that nobody adds one that is never looked at; these are for those who search for something."""
    shown = " ".join(each for dashboard in DASHBOARDS.values() for each in expressions(dashboard))
    shown += (Path(GRAFANA).parent / "prometheus" / "rules.yml").read_text()
    unseen = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in declared() if "gateway_" in name and ":" not in name
    }
    unseen -= set(re.findall(r"gateway_\w+", shown)) | {
        re.sub(r"_bucket$", "", name) for name in re.findall(r"gateway_\w+_bucket", shown)
    }
    assert unseen == {
        "gateway_ignored_frames_total",
        "gateway_route_request_duration_seconds",
        "gateway_loop_lag_latest_seconds",
        "gateway_spool_sent_again_total",
        "gateway_firmware_bytes_total",
        "gateway_firmware_calls_total",
        "gateway_breaker_opened_total",
        "gateway_mirrored_total",
        "gateway_waited_for_route_total",
        "gateway_rate_limited_total",
        "gateway_rate_dry_run_total",
    }
