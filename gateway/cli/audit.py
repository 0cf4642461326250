"""`gateway audit`: who has changed what."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from gateway.cli.call import Listing, register
from gateway.cli.table import Column, fields

COLUMNS = (
    Column("ID", "id"),
    Column("AT", "at"),
    Column("WHO", lambda entry: f"{entry['actor_type']}:{entry['actor_id']}"),
    Column("FROM", "ip"),
    Column("ACTION", "action"),
    Column("OBJECT", "object"),
    Column("OUTCOME", "outcome"),
    Column("REASON", "reason"),
    Column("DIFF", "diff", wide=True),
    Column("REQUEST", "request_id", wide=True),
    Column("DIGEST", "digest", wide=True),
)


def attach(app: typer.Typer) -> None:
    register(app, audit)


def audit(
    call: Listing,
    actor: Annotated[str, typer.Option(help="Only what this one did.", show_default=False)] = "",
    action: Annotated[str, typer.Option(help="Only this, as in device.update; device. is all of it.")] = "",
    object_: Annotated[str, typer.Option("--object", help="Only on this, as in device:kitchen.")] = "",
    outcome: Annotated[str, typer.Option(help="ok or refused.", show_default=False)] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="As in 2026-11-23T08:00:00Z.", show_default=False)] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="As in 2026-11-23T08:00:00Z.", show_default=False)] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the whole chain; ends with 1 when it is broken.")
    ] = False,
    export: Annotated[
        Literal["", "csv", "jsonl"], typer.Option(help="Write all that match to standard output.", show_default=False)
    ] = "",
) -> None:
    """List who has changed what, newest first."""
    chosen = {
        "actor": actor, "action": action, "object": object_, "outcome": outcome, "since": since, "until": until
    }  # fmt: skip
    if verify:
        answer = call.api.send("POST", "/audit/verify")
        fields(answer, call.output)
        raise typer.Exit(0 if answer["ok"] else 1)
    if export:
        content = call.api.ask("GET", "/audit/export", params={**chosen, "format": export}).content
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    call.pages("/audit", COLUMNS, **chosen)
