"""`gateway spool`: what waits for services that are not there."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.call import Change, Listing, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column

SPOOLS = (
    Column("NAME", "name"),
    Column("MESSAGES", "messages"),
    Column("BYTES", "bytes"),
    Column("OLDEST", lambda row: row["oldest_age_s"] and f"{row['oldest_age_s']:.0f} s"),
    Column("DRAINED IN", lambda row: None if row["drain_eta_s"] is None else f"{row['drain_eta_s']:.0f} s"),
    Column("IN FLIGHT", "in_flight"),
    Column("LOST", "lost"),
    Column("REFUSED", "refused"),
    Column("BEHIND", "behind", wide=True),
    Column("MAX BYTES", "max_bytes", wide=True),
    Column("APPENDED", "appended", wide=True),
    Column("DELIVERED", "delivered", wide=True),
    Column("SENT AGAIN", "sent_again", wide=True),
)
MESSAGES = (
    Column("ID", "id"),
    Column("AGE", lambda row: f"{row['age_s']:.0f} s"),
    Column("FROM", "subject"),
    Column("ROUTE", "route"),
    Column("BYTES", "bytes"),
    Column("DATA", lambda row: (row["data"] if row["data"] is not None else row["base64"] or "")[:40]),
    Column("KEY", "key", wide=True),
    Column("PRIORITY", "priority", wide=True),
    Column("INTERACTION", "interaction", wide=True),
)
Name = Annotated[str, typer.Argument(metavar="SPOOL", help="Its name, as in telemetry/historian.", show_default=False)]


def attach(app: typer.Typer) -> None:
    group = application(help="Messages that wait for a service that is not there.")
    for command in (ls, peek, replay, drop):
        register(group, command)
    app.add_typer(group, name="spool")


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in their name.", show_default=False)] = "",
    sort: Annotated[str, typer.Option(help="name, messages, bytes or age; - in front: most first.")] = "name",
) -> None:
    """List what waits, by document and service."""
    call.pages("/spools", SPOOLS, q=q, sort=sort)


def peek(
    call: Listing,
    spool: Name,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, help="Only this class; 0 goes first.", show_default=False)
    ] = None,
) -> None:
    """Look at the messages of a spool, those that go first in front; nothing is taken."""
    call.pages("/spools/messages", MESSAGES, spool=spool, priority=priority)


def replay(call: Change, spool: Name) -> None:
    """Send what waits now, and what is on its way once more."""
    answer = call.send("POST", "/spools:replay", {"spool": spool})
    call.done(f"{answer['messages']} messages", answer)


def drop(
    call: Change,
    spool: Name,
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="Only this message. May repeat.", show_default=False)
    ] = None,
    key: Annotated[str, typer.Option(help="Only messages with this key, as a device's name.", show_default=False)] = "",
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="Only this class.", show_default=False)] = None,
) -> None:
    """Throw messages away; they are counted as lost. Those on their way stay."""
    what = "these messages" if id_ or key or priority is not None else "everything"
    call.confirm(f"Throw away {what} that waits in {spool}?")
    body: dict[str, object] = {"spool": spool}
    body |= {
        name: value for name, value in (("ids", id_), ("key", key), ("priority", priority)) if value not in (None, "")
    }
    answer = call.send("POST", "/spools:drop", body)
    call.done(f"{answer['messages']} messages dropped", answer)
