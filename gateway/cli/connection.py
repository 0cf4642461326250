"""`gateway conn`: connections, open and closed."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, fields, listing

Id = Annotated[str, typer.Argument(metavar="ID", help="Number of a connection.", show_default=False)]

OPEN = (
    Column("ID", "id"),
    Column("SUBJECT", "subject"),
    Column("KIND", "principal_kind"),
    Column("WORKER", "worker", wide=True),
    Column("STATE", "state"),
    Column("PEER", "peer"),
    Column("VIA", "transport"),
    Column("SINCE", "opened_at"),
    Column("IDLE", "idle_s"),
    Column("RTT ms", "rtt_ms"),
    Column("STREAMS", "streams"),
    Column("PENDING", "pending"),
    Column("ROUTES", "routes"),
    Column("BYTES IN", "bytes_in", wide=True),
    Column("BYTES OUT", "bytes_out", wide=True),
    Column("WAITING", "outbox_bytes", wide=True),
    Column("EXPIRES", "expires_at", wide=True),
)
CLOSED = (
    Column("ID", "id"),
    Column("SUBJECT", "subject"),
    Column("KIND", "principal_kind"),
    Column("PEER", "peer"),
    Column("CLOSED", "closed_at"),
    Column("AFTER", "duration_s"),
    Column("REASON", "reason"),
    Column("TEXT", "text"),
    Column("BYTES IN", "bytes_in", wide=True),
    Column("BYTES OUT", "bytes_out", wide=True),
)
STREAMS = (
    Column("STREAM", "id"),
    Column("INTERACTION", "interaction"),
    Column("DIRECTION", "direction"),
    Column("OTHER SIDE", "peer_connection"),
    Column("SUBJECT", "service_subject"),
    Column("AGE", "age_s"),
    Column("CREDIT", "credit"),
    Column("HELD", "held"),
)


def attach(app: typer.Typer) -> None:
    group = application(help="Connections, open and closed.")
    for command in (ls, show, kick):
        register(group, command)
    app.add_typer(group, name="conn")


def ls(
    call: Listing,
    state: Annotated[Literal["open", "closed"], typer.Option(help="Which ones.")] = "open",
    sort: Annotated[
        str,
        typer.Option(
            help="rtt, pending, idle, bytes_in, bytes_out, opened_at, closed_at, id; - in front for descending.",
            show_default=False,
        ),
    ] = "",
    subject: Annotated[str, typer.Option(help="Only those of this device or user.", show_default=False)] = "",
    reason: Annotated[str, typer.Option(help="Only those closed for this reason.", show_default=False)] = "",
) -> None:
    """List connections: the open ones, or the last that were closed, and why."""
    columns = OPEN if state == "open" else CLOSED
    call.pages("/connections", columns, state=state, sort=sort, subject=subject, reason=reason)


def show(call: Query, number: Id) -> None:
    """Show a connection and its streams."""
    connection = call.api.get(f"/connections/{number}")
    streams = [] if connection["state"] == "closed" else list(call.api.entries(f"/connections/{number}/streams"))
    if not call.for_people:
        fields({**connection, "open_streams": streams}, call.output)
        return
    call.show(connection)
    if streams:
        typer.echo("")
        listing(streams, STREAMS, call.output)


def kick(call: Change, number: Id) -> None:
    """Close a connection; its peer may come back at once."""
    call.confirm(f"Close the connection {number}?")
    call.send("DELETE", f"/connections/{number}", match="*")
    call.done(f"connection {number} closed")
