"""`gateway flow`: what becomes of requests, as a list and as it happens."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from gateway.cli.call import Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import as_json, printable
from gateway.observe.flow_fields import LOST, VERDICTS

Verdicts = Annotated[
    list[str] | None,
    typer.Option("--verdict", help=f"Only these, of {', '.join(VERDICTS[:LOST])}. May repeat.", show_default=False),
]
From = Annotated[
    str, typer.Option("--from", help="Only requests of this device, user or service; * for a part.", show_default=False)
]
To = Annotated[
    str, typer.Option("--to", help="Only requests to this service, or device; * for a part.", show_default=False)
]
Route = Annotated[str, typer.Option("--route", help="Only this route or topic; * for a part.", show_default=False)]
Filter = Annotated[
    str,
    typer.Option("--filter", help='As in: verdict != "FORWARDED" || latency_ms > 500', show_default=False),
]
Fields = Annotated[
    list[str] | None, typer.Option("--field", help="Only this field, as in source.id. May repeat.", show_default=False)
]
Last = Annotated[int, typer.Option("--last", min=0, help="Begin with so many of those that there are.")]
Since = Annotated[
    float, typer.Option("--since", parser=duration, metavar="TIME", help="How far back, as in 1h; files included.")
]
Count = Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many; 0: with Ctrl-C.")]


def attach(app: typer.Typer) -> None:
    group = application(help="What becomes of requests: who asked whom for what, and how that ended.")
    for command in (ls, follow, observe):
        register(group, command, name="list" if command is ls else None)
    app.add_typer(group, name="flow")


def ls(
    call: Listing,
    verdict: Verdicts = None,
    from_: From = "",
    to: To = "",
    route: Route = "",
    filter: Filter = "",
    field: Fields = None,
    since: Since = 0.0,
) -> None:
    """List what is remembered, oldest first; with --since what is in files, where a Telemetry document keeps some."""
    began = (datetime.now(UTC) - timedelta(seconds=since)).isoformat() if since else None
    asked = {"filter": expression(verdict, from_, to, route, filter), "fields": field or None, "since": began}
    if since:
        asked["stored"] = "true"
    found = list(call.api.entries("/flows", call.limit, **asked))
    if call.output == "json":
        typer.echo(as_json(found[::-1]))
        return
    for record in reversed(found):
        _print(call, record)
    if not found and call.for_people:
        typer.echo(
            "nothing yet; records are kept from now on, or always by a Telemetry document (docs/flows.md)", err=True
        )


def follow(
    call: Query,
    verdict: Verdicts = None,
    from_: From = "",
    to: To = "",
    route: Route = "",
    filter: Filter = "",
    field: Fields = None,
    last: Last = 0,
    count: Count = 0,
) -> None:
    """Print what the flow log keeps, as it comes."""
    _stream(call, expression(verdict, from_, to, route, filter), field, last, count, everything=False)


def observe(
    call: Query,
    verdict: Verdicts = None,
    from_: From = "",
    to: To = "",
    route: Route = "",
    filter: Filter = "",
    field: Fields = None,
    last: Last = 0,
    count: Count = 0,
) -> None:
    """Print everything as it comes, what the Telemetry document does not keep, too."""
    _stream(call, expression(verdict, from_, to, route, filter), field, last, count, everything=True)


def _stream(call: Query, wanted: str, field: list[str] | None, last: int, count: int, *, everything: bool) -> None:
    printed = 0
    if last:
        for record in reversed(list(call.api.entries("/flows", last, filter=wanted, fields=field or None))):
            _print(call, record)
            printed += 1
    asked = {"filter": wanted, "fields": field or None, "everything": "true" if everything else None}
    for _, record in call.api.events("/stream/flows", **asked):
        _print(call, record)
        printed += 1
        if count and printed >= count:
            return


def expression(verdicts: list[str] | None, source: str, target: str, route: str, more: str) -> str:
    """The filter that the options together mean."""
    parts = [f"verdict in [{', '.join(_quoted(each.upper()) for each in verdicts)}]"] if verdicts else []
    if source:
        parts.append(f"source.id =~ {_quoted(source)}")
    if target:
        parts.append(f"(destination.service =~ {_quoted(target)} || destination.id =~ {_quoted(target)})")
    if route:
        parts.append(f"(route =~ {_quoted(route)} || topic =~ {_quoted(route)})")
    if more.strip():
        parts.append(f"({more})" if parts else more)
    return " && ".join(parts)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _print(call: Query, record: dict[str, Any]) -> None:
    typer.echo(compact(record) if call.for_people else as_json(record))
    sys.stdout.flush()


def compact(record: dict[str, Any]) -> str:
    """One line for a person, as Hubble writes it."""
    at = datetime.fromisoformat(record["time"]).astimezone().strftime("%b %d %H:%M:%S.%f")[:-3]
    if record["verdict"] == "LOST":
        return f"{at}: {record['lost']} records LOST ({printable(str(record.get('reason', '')))})"
    source, destination = record.get("source") or {}, record.get("destination") or {}
    what = record.get("route") or record.get("topic") or ""
    parts = [
        f"{at}:",
        _end(source.get("id"), source.get("kind")),
        "->",
        _end(destination.get("service") or destination.get("id"), destination.get("subset")),
        what,
        record.get("interaction") or "",
        record["verdict"],
        record.get("reason") or "",
        f"[{record['policy']}]" if record.get("policy") else "",
        "" if record.get("latency_ns") is None else f"({record['latency_ns'] / 1e6:.1f} ms)",
        f"try {record['attempt']}" if (record.get("attempt") or 0) > 1 else "",
    ]
    return printable(" ".join(part for part in parts if part))


def _end(name: str | None, more: str | None) -> str:
    return f"{name or '-'} ({more})" if more else name or "-"
