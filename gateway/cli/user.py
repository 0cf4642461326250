"""`gateway user`: people who may use the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column

if TYPE_CHECKING:
    from gateway.control.plane import ControlPlane

Name = Annotated[str, typer.Argument(help="Name of a user.", show_default=False)]
Role = Annotated[str, typer.Option(help="viewer, operator, publisher, auditor or admin.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", help="What it may reach, as in devices; all is all of them. May repeat.", show_default=False
    ),
]

COLUMNS = (
    Column("NAME", "name"),
    Column("ROLE", "role"),
    Column("ENABLED", "enabled"),
    Column("SCOPES", "scopes"),
    Column("LAST LOGIN", "last_login_at"),
    Column("MUST CHANGE", "must_change_password", wide=True),
    Column("CREATED", "created_at", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="People who may use the admin API.")
    for command in (add, ls, show, rm, enable, disable, reset_password):
        register(group, command)
    app.add_typer(group, name="user")


def scopes_of(call: Query, named: list[str] | None, *, login: bool) -> list[str]:
    """The scopes that are meant: never all of them by saying nothing."""
    if not named:
        raise typer.BadParameter("no scope: name what it may reach with --scope devices …, or --scope all")
    if named != ["all"]:
        return [scope.strip() for text in named for scope in text.split(",") if scope.strip()]
    known = call.api.get("/auth/scopes")["scopes"]
    return [scope["name"] for scope in known if login or not scope["login_only"]]


def add(call: Change, name: Name, role: Role = "viewer", scope: Scopes = None) -> None:
    """Add a user and print the password, once; it must be changed at the first login."""
    body = {"name": name, "role": role, "scopes": scopes_of(call, scope, login=True)}
    answer = call.send("POST", "/users", body)
    call.done(f"{name} added, with the password {answer['password']}", answer)


def ls(call: Listing) -> None:
    """List users."""
    call.pages("/users", COLUMNS)


def show(call: Query, name: Name) -> None:
    """Show all that is known of a user."""
    call.show(call.api.get(f"/users/{name}"))


def rm(call: Change, name: Name) -> None:
    """Remove a user; its sessions end."""
    call.confirm(f"Remove the user {name}?")
    call.send("DELETE", f"/users/{name}", match="*")
    call.done(f"{name} removed")


def enable(call: Change, name: Name) -> None:
    """Let a disabled user in again."""
    call.done(f"{name} enabled", call.send("PATCH", f"/users/{name}", {"enabled": True}, match="*"))


def disable(call: Change, name: Name) -> None:
    """Keep a user out; its sessions end."""
    call.confirm(f"Disable the user {name}?")
    call.done(f"{name} disabled", call.send("PATCH", f"/users/{name}", {"enabled": False}, match="*"))


def reset_password(
    call: Change,
    name: Name,
    offline: Annotated[bool, typer.Option("--offline", help="In the data directory, with the node stopped.")] = False,
) -> None:
    """Give a user a new password and print it, once; its sessions end.

    With --offline whoever owns the data directory gets back in when nobody can log in any more.
    """
    call.confirm(f"Give {name} a new password?")
    if offline:
        password = _reset_offline(call, name)
    else:
        password = call.send("POST", f"/users/{name}/password", {"must_change": True})["password"]
    call.done(f"{name} has the password {password}", {"name": name, "password": password})


def _reset_offline(call: Change, name: str) -> str | None:
    from gateway.cli.offline import changed

    directory = call.context.data
    if directory is None:
        raise typer.BadParameter("--offline is for a data directory on this machine: name it with --data")
    if call.dry_run:
        return changed(directory, lambda control, by: _nothing_but_found(control, name))
    return changed(directory, lambda control, by: control.users.set_password(name, None, by=by))


async def _nothing_but_found(control: ControlPlane, name: str) -> None:
    await control.users.get(name)
