"""`gateway key`: API keys, with which programs use the admin API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.call import Change, Listing, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import Column, as_json
from gateway.cli.user import Role, Scopes, scopes_of

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a key.", show_default=False)]

COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("ROLE", "role"),
    Column("ENABLED", "enabled"),
    Column("SCOPES", "scopes"),
    Column("EXPIRES", "expires_at"),
    Column("LAST USED", "last_used_at"),
    Column("BY", "created_by", wide=True),
    Column("CREATED", "created_at", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="API keys, with which programs use the admin API.")
    for command in (create, ls, rotate, rm):
        register(group, command)
    app.add_typer(group, name="key")


def create(
    call: Change,
    name: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    role: Role = "viewer",
    scope: Scopes = None,
    ttl: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="How long it lives. [for ever]")
    ] = None,
) -> None:
    """Make an API key and print it, and nothing else. It is shown this once."""
    body: dict[str, object] = {"name": name, "role": role, "scopes": scopes_of(call, scope, login=False)}
    if ttl is not None:
        body["expires_at"] = datetime.fromtimestamp(time.time() + ttl, UTC).isoformat()
    answer = call.send("POST", "/api-keys", body)
    if call.dry_run:
        call.done("a key would be made", answer)
    else:
        typer.echo(answer["secret"] if call.for_people else as_json(answer))


def ls(call: Listing) -> None:
    """List API keys; what they open with is not known any more."""
    call.pages("/api-keys", COLUMNS)


def rotate(
    call: Change,
    name: Id,
    overlap: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="How long the old key stays valid.")
    ] = 0.0,
) -> None:
    """Give a key a new secret and print it; the old one ends after --overlap."""
    call.confirm(f"End the secret that the key {name} has?")
    answer = call.send("POST", f"/api-keys/{name}/rotate", {"overlap_s": overlap})
    typer.echo(answer["secret"] if call.for_people else as_json(answer))


def rm(call: Change, name: Id) -> None:
    """End a key."""
    call.confirm(f"End the key {name}?")
    call.send("DELETE", f"/api-keys/{name}", match="*")
    call.done(f"{name} ended")
