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


CASES = {
    name: Case(**case)
    for name, case in yaml.safe_load(Path(__file__).with_name("alert_cases.yaml").read_text()).items()
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
