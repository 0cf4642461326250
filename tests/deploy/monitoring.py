"""The rules and dashboards of deploy/, and what their expressions may name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.admin.exposition import FAMILIES
from tests.deploy.promql import named

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
GRAFANA: Final = ROOT / "deploy" / "grafana"
#: tools/install-peers unpacks Debian's package here where promtool is not installed.
UNPACKED: Final = Path(__file__).parent / "target" / "prometheus" / "usr" / "bin"
#: What Prometheus itself adds to a series; `le` is added to buckets, `worker` where a node has several processes.
ADDED: Final = frozenset({"instance", "job", "le", "worker"})


def program(name: str) -> Path | None:
    """promtool or prometheus."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    return None if found is None else Path(found)


@cache
def groups() -> list[dict[str, Any]]:
    read: dict[str, Any] = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return list(read["groups"])


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboards() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows, and those within them."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", ())]


def settled(expression: str) -> str:
    """With values for Grafana's variables."""
    expression = re.sub(r"\$__(rate_interval|interval|range)", "5m", expression)
    return re.sub(r"\$\{?[a-z]+(?::[a-z]+)?\}?", ".*", expression)


@cache
def declared() -> dict[str, frozenset[str]]:
    """The labels of every series that there is: a node's, Prometheus' own, those that rules record."""
    found: dict[str, frozenset[str]] = {"up": ADDED}
    for family in FAMILIES:
        labels = frozenset(family.labels) | ADDED - {"le"}
        if family.kind == "histogram":
            found[f"{family.name}_bucket"] = labels | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[family.name] = labels
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = frozenset(rule["record"].partition(":")[0].split("_"))
    found["ALERTS"] = ADDED | {"alertname", "alertstate", "severity", "node", "bridge", "spool", "service"}
    return found


def unknown(expression: str) -> list[str]:
    """What an expression names that there is not."""
    series = declared()
    found = named(settled(expression))
    absent = [metric for metric in sorted(found.metrics) if metric not in series]
    absent += [f"{metric}{{{name}}}" for metric, name, _, _ in found.matchers if name not in series.get(metric, ())]
    known = frozenset[str]().union(*(series.get(metric, frozenset()) for metric in found.metrics))
    return absent + [f"by ({label}) in {expression}" for label in sorted(found.grouped - known)]
