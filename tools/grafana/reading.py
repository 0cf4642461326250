"""A dashboard from its file: rows of panels, and what each asks Prometheus.

    uid, title, description
    choices: {variable: the metric whose label it is}
    rows: {heading: [panel, …]}

A panel has its kind with its title (`figure`, `graph`, `states` or `table`), its `unit`, what it `says` to people and
what it `asks`: an expression or, by legend, several. `thresholds`: `any is bad`, `must be`, `{rising: [orange, red]}`
or `{falling: [orange, red]}`. In expressions `OWN` stands for the nodes that are chosen, `[RATE]` for the interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from grafana import panels
from grafana.panels import Dashboard, Panel, Steps


def dashboard(path: Path) -> Dashboard:
    """Raises KeyError or TypeError where the file says what a panel does not have."""
    said = yaml.safe_load(path.read_text())
    rows = {heading: [_panel(**panel) for panel in row] for heading, row in said.pop("rows").items()}
    return Dashboard(rows=rows, **said)


def _panel(says: str, asks: Any = "", unit: str = "", thresholds: Any = None, **more: Any) -> Panel:
    steps, asked = _steps(thresholds), _asked(asks)
    if "figure" in more:
        return panels.figure(more.pop("figure"), unit, says, asked, steps, **more)
    if "graph" in more:
        return panels.graph(more.pop("graph"), unit, says, asked, steps, **more)
    if "states" in more:
        return panels.states(more.pop("states"), says, asked, **more)
    columns = {name: (column["unit"], _asked(column["asks"])) for name, column in more.pop("columns").items()}
    return panels.table(more.pop("table"), says, columns, **more)


def _asked(asks: Any) -> Any:
    if isinstance(asks, dict):
        return {legend: _asked(expression) for legend, expression in asks.items()}
    return str(asks).replace("OWN", panels.OWN).replace("[RATE]", panels.RATE)


def _steps(thresholds: Any) -> Steps:
    if isinstance(thresholds, dict):
        ((way, (orange, red)),) = thresholds.items()
        return {"rising": panels.rising, "falling": panels.falling}[way](orange, red)
    return {None: panels.PLAIN, "any is bad": panels.ANY_IS_BAD, "must be": panels.MUST_BE}[thresholds]
