"""Panels and dashboards in Grafana's JSON, which says in sixty lines what a panel here says in three.

Schema 41, that of Grafana 12, without what 10 does not know; a newer one brings it forward when it reads it.
What is on them is in the files beside this one (`reading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 41
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OWN = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
GREEN, ORANGE, RED = "green", "orange", "red"

Panel = dict[str, Any]
#: Value from which a colour holds; the first holds from below all.
Steps = tuple[tuple[str, float | None], ...]
PLAIN: Steps = ((GREEN, None),)


def rising(orange: float, red: float) -> Steps:
    """The more, the worse."""
    return ((GREEN, None), (ORANGE, orange), (RED, red))


def falling(orange: float, red: float) -> Steps:
    """The less, the worse; fine from `orange` on."""
    return ((RED, None), (ORANGE, red), (GREEN, orange))


ANY_IS_BAD: Steps = ((GREEN, None), (RED, 1))
MUST_BE: Steps = ((RED, None), (GREEN, 1))


def _panel(
    kind: str, title: str, unit: str, description: str, queries: dict[str, str], steps: Steps, width: int, height: int
) -> Panel:
    """`queries`: expressions by legend, which may name labels as `{{label}}`."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"h": height, "w": width},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "thresholds": {"mode": "absolute", "steps": [{"color": color, "value": at} for color, at in steps]},
            },
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "editorMode": "code",
                "range": True,
            }
            for number, (legend, expression) in enumerate(queries.items())
        ],
    }


def graph(
    title: str, unit: str, description: str, queries: dict[str, str], steps: Steps = PLAIN, *, stacked: bool = False
) -> Panel:
    panel = _panel("timeseries", title, unit, description, queries, steps, 8, 8)
    panel["fieldConfig"]["defaults"] |= {
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"},
        },
    }
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def figure(
    title: str, unit: str, description: str, expression: str, steps: Steps = PLAIN, *, text: str = "", width: int = 4
) -> Panel:
    """One number, or one for each of what `text`, a legend, tells apart."""
    panel = _panel("stat", title, unit, description, {text or title: expression}, steps, width, 4)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["targets"][0] |= {"instant": True, "range": False}
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value_and_name" if text else "value",
        "wideLayout": True,
    }
    return panel


def states(title: str, description: str, query: dict[str, str], words: dict[str, Sequence[str]]) -> Panel:
    """How something stood over time. `words`: value → what it means and its colour."""
    panel = _panel("state-timeline", title, "none", description, query, PLAIN, 12, 8)
    defaults = panel["fieldConfig"]["defaults"]
    defaults["color"] = {"mode": "thresholds"}
    defaults["custom"] = {"fillOpacity": 70, "lineWidth": 0}
    defaults["mappings"] = [
        {
            "type": "value",
            "options": {
                value: {"text": text, "color": color, "index": number}
                for number, (value, (text, color)) in enumerate(words.items())
            },
        }
    ]
    panel["options"] = {"mergeValues": True, "rowHeight": 0.8, "showValue": "auto", "legend": {"showLegend": False}}
    return panel


def table(title: str, description: str, columns: dict[str, tuple[str, str]], hidden: Sequence[str] = ()) -> Panel:
    """`columns`: heading → unit and expression. Rows are told apart by the labels that expressions share."""
    queries = {name: expression for name, (_, expression) in columns.items()}
    panel = _panel("table", title, "short", description, queries, PLAIN, 24, 9)
    for target in panel["targets"]:
        target |= {"instant": True, "range": False, "format": "table"}
    renamed = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    if len(columns) == 1:
        renamed = {"Value": next(iter(columns))}
    away = ("Time", "__name__", "job", *(f"Time {number}" for number in range(1, len(columns) + 1)), *hidden)
    panel["transformations"] = [
        *([{"id": "merge", "options": {}}] if len(columns) > 1 else []),
        {"id": "organize", "options": {"excludeByName": dict.fromkeys(away, True), "renameByName": renamed}},
    ]
    panel["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, (unit, _) in columns.items()
    ]
    link = {"title": "This node", "url": "/d/gateway-node?var-instance=${__data.fields.instance}&${__url_time_range}"}
    panel["fieldConfig"]["overrides"].append(
        {"matcher": {"id": "byName", "options": "instance"}, "properties": [{"id": "links", "value": [link]}]}
    )
    panel["options"] = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
    return panel


@dataclass
class Dashboard:
    """`choices`: variables beside the data source and the instance, each with the metric whose label it is. `rows`: by
    heading, panels from left to right."""

    uid: str
    title: str
    description: str
    rows: dict[str, list[Panel]]
    choices: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["gateway"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": [_alerts()]},
            "links": [
                {"type": "dashboards", "title": "Gateway", "tags": ["gateway"], "keepTime": True, "includeVars": True},
                {
                    "type": "link",
                    "title": "The gateway's own dashboard",
                    "tooltip": "Devices, documents, the console and whatever needs an operator",
                    "url": "${gateway:raw}/",
                    "icon": "external link",
                    "targetBlank": True,
                },
            ],
            "templating": {"list": self._variables()},
            "panels": self._laid_out(),
        }

    def _variables(self) -> list[dict[str, Any]]:
        known = {"instance": "gateway_info", **self.choices}
        return [
            {
                "type": "datasource",
                "name": "datasource",
                "label": "Data source",
                "query": "prometheus",
                "refresh": 1,
                "current": {"text": "Prometheus", "value": "gateway-prometheus"},
            },
            *(self._variable(name, metric) for name, metric in known.items()),
            {
                "type": "textbox",
                "name": "gateway",
                "label": "Admin address",
                "query": "https://127.0.0.1:9878",
                "current": {"text": "https://127.0.0.1:9878", "value": "https://127.0.0.1:9878"},
            },
        ]

    @staticmethod
    def _variable(name: str, metric: str) -> dict[str, Any]:
        within = "" if name == "instance" else f"{{{OWN}}}"
        query = f"label_values({metric}{within}, {name})"
        return {
            "type": "query",
            "name": name,
            "label": {"instance": "Node"}.get(name, name.capitalize()),
            "datasource": SOURCE,
            "definition": query,
            "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }

    def _laid_out(self) -> list[Panel]:
        """Each panel where it goes: rows from the top, 24 columns."""
        found: list[Panel] = []
        top = 0
        for heading, panels in self.rows.items():
            found.append({"type": "row", "title": heading, "collapsed": False, "panels": []})
            found[-1]["gridPos"] = {"h": 1, "w": 24, "x": 0, "y": top}
            top, left, height = top + 1, 0, 0
            for panel in panels:
                place = panel["gridPos"]
                if left + place["w"] > 24:
                    top, left, height = top + height, 0, 0
                place |= {"x": left, "y": top}
                left, height = left + place["w"], max(height, place["h"])
                found.append(panel)
            top += height
        return [{"id": number, **panel} for number, panel in enumerate(found, 1)]


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": f'ALERTS{{alertstate="firing", severity!="info", {OWN}}}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
        "step": "60s",
    }
