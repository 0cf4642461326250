"""`gateway status`, `top`, `events`: how a node is, now and as it changes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gateway.cli.call import Listing, Query, register
from gateway.cli.connection import OPEN
from gateway.cli.durations import duration
from gateway.cli.table import Column, as_json, fields, lasting, printable, shown

EVENTS = (
    Column("AT", "at"),
    Column("KIND", "kind"),
    Column("SUBJECT", "subject"),
    Column("WHAT", "data"),
    Column("ID", "id", wide=True),
)
UNHEALTHY = 3
ROWS = 20


def attach(app: typer.Typer) -> None:
    for command in (status, top, events):
        register(app, command)


def status(call: Query) -> None:
    """Say how the node is. Ends with 3 when a check fails or an alarm stands."""
    node = call.api.get("/node")
    failed = {name: said for name, said in node["checks"].items() if said != "ok"}
    if not call.for_people:
        fields(node, call.output)
    else:
        stats = call.api.get("/node/stats")
        connections = stats["connections"]["open"]
        fields(
            {
                "node": f"{node['name']} ({node['id']})",
                "version": node["version"],
                "state": node["state"],
                "up for": lasting(node["uptime_s"]),
                **{f"{name} at": url for name, url in node["addresses"].items()},
                "connections": f"{sum(connections.values())} ({shown(connections)})",
                "routes": stats["routes"],
                "memory": f"{stats['memory_bytes'] >> 20} MiB" if stats["memory_bytes"] else None,
                "loop lag": f"{(stats['loop_lag_s'] or 0) * 1000:.1f} ms",
            },
            call.output,
        )
        for name, said in failed.items():
            typer.echo(f"× {name}: {printable(said)}")
        for alarm in node["alarms"]:
            typer.echo(f"‼ {alarm['slug']}: {printable(alarm['text'])}")
    raise typer.Exit(UNHEALTHY if failed or node["alarms"] else 0)


def top(
    call: Query,
    sort: Annotated[str, typer.Option(help="Connections by rtt, pending, idle, bytes_in or bytes_out.")] = "pending",
    count: Annotated[int, typer.Option(min=0, help="Pictures to show before ending; 0: until Ctrl-C.")] = 0,
    interval: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="Between two pictures.")] = 2.0,
) -> None:
    """Show rates and the busiest connections, again and again."""
    last: dict[str, Any] = {}
    for taken, (_, stats) in enumerate(call.api.events("/stream/stats", interval_s=interval), 1):
        busiest = call.api.get("/connections", state="open", sort=f"-{sort}", limit=ROWS)["data"]
        _picture(call, stats, last, busiest)
        last = stats
        if taken == count:
            return


def _picture(call: Query, stats: dict[str, Any], last: dict[str, Any], busiest: list[dict[str, Any]]) -> None:
    if not call.for_people:
        typer.echo(as_json({**stats, "busiest": busiest}))
        return
    passed = stats["uptime_s"] - last.get("uptime_s", 0.0) if last else 0.0

    def rate(name: str, way: str) -> str:
        return f"{(stats[name][way] - last[name][way]) / passed:,.0f}/s" if passed else "-"

    if sys.stdout.isatty():
        typer.echo("\x1b[H\x1b[2J", nl=False)
    connections = stats["connections"]["open"]
    typer.echo(
        f"up {lasting(stats['uptime_s'])}   connections {sum(connections.values())}   routes {stats['routes']}   "
        f"streams {stats['streams_open']}   frames in {rate('frames', 'received')} out {rate('frames', 'sent')}   "
        f"bytes in {rate('bytes', 'received')} out {rate('bytes', 'sent')}"
    )
    call.list(busiest, OPEN)
    sys.stdout.flush()


def events(
    call: Listing,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with events as they happen.")] = False,
    kind: Annotated[str, typer.Option(help="Only these, as in connection.closed.", show_default=False)] = "",
    subject: Annotated[str, typer.Option(help="Only those of this device or user.", show_default=False)] = "",
) -> None:
    """List what has happened of late, or with --follow what happens."""
    if not follow:
        call.pages("/events", EVENTS, kind=kind, subject=subject)
        return
    for _, event in call.api.events("/stream/events", kind=kind, subject=subject):
        if call.for_people:
            cells = (column.cell(event) for column in EVENTS[:4])
            typer.echo("  ".join(cells))
        else:
            typer.echo(as_json(event))
        sys.stdout.flush()
