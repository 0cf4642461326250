"""`gateway graph`: who calls whom, how often and how well."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from gateway.cli.call import Query, register
from gateway.cli.table import Column

EDGES = (
    Column("FROM", "source"),
    Column("TO", "service"),
    Column("VIA", "node"),
    Column("RATE", lambda row: f"{row['rate']:.1f}/s"),
    Column("ERRORS", lambda row: f"{row['error_share']:.1%}"),
    Column("P50", lambda row: milliseconds(row["p50_s"])),
    Column("P99", lambda row: milliseconds(row["p99_s"])),
    Column("REQUESTS", "requests", wide=True),
    Column("FAILED", "failed", wide=True),
    Column("REFUSED", "refused", wide=True),
    Column("CANCELED", "canceled", wide=True),
)
RED = (
    Column("SERVICE", "service"),
    Column("ROUTE", "route"),
    Column("SUBSET", "subset"),
    *EDGES[3:],
)


def attach(app: typer.Typer) -> None:
    register(app, graph)


def graph(
    call: Query,
    window: Annotated[Literal["10", "60", "300"], typer.Option(help="Over the last so many seconds.")] = "60",
    routes: Annotated[bool, typer.Option("--routes", help="By service, route rule and subset instead.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="For Graphviz.")] = False,
) -> None:
    """Show which services and kinds of callers call which services on this node."""
    if routes:
        found = call.api.get("/red", window=window)
        if call.output == "json":
            call.show(found)
        else:
            call.list(found["data"], RED)
        return
    found = call.api.get("/graph", window=window)
    if dot:
        typer.echo(as_dot(found))
    elif call.output == "json":
        call.show(found)
    else:
        call.list(found["edges"], EDGES)


def milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.1f} ms"


def as_dot(found: dict[str, Any]) -> str:
    """The graph as Graphviz reads it."""
    lines = ["digraph services {", "  rankdir=LR;"]
    lines += [f"  {_quoted(name)};" for name in found["nodes"]]
    for edge in found["edges"]:
        label = f"{edge['rate']:.1f}/s {edge['error_share']:.1%}"
        if edge["p99_s"] is not None:
            label += f" p99 {milliseconds(edge['p99_s'])}"
        if edge["node"]:
            label += f" via {edge['node']}"
        lines.append(f"  {_quoted(edge['source'])} -> {_quoted(edge['service'])} [label={_quoted(label)}];")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
