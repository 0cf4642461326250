"""`gateway context`: the nodes that this user manages from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import contexts, target
from gateway.cli.call import Output, Query, register
from gateway.cli.catalogue import application
from gateway.cli.contexts import Context, Contexts, contexts_path
from gateway.cli.printing import payload
from gateway.cli.table import Column, listing

Name = Annotated[str, typer.Argument(help="Name of a context.", show_default=False)]

COLUMNS = (
    Column("NAME", "name"),
    Column("SELECTED", "selected"),
    Column("ADMIN", lambda entry: entry["admin"] or entry["data"]),
    Column("KEY", "key", wide=True),
    Column("CA", "ca", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="The nodes that you manage from here: where their admin API is, and your key for it.")
    for command in (add, ls, select, rm):
        group.command()(command)
    register(group, validate)
    app.add_typer(group, name="context")


def add(
    name: Name,
    admin: Annotated[
        str, typer.Argument(help="Address of the admin API, as in https://host:9878.", show_default=False)
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            help="API key; - reads it from standard input, @FILE from a file. [GATEWAY_API_KEY]", show_default=False
        ),
    ] = "",
    ca: target.Authority = None,
    data: target.Data = None,
    select: Annotated[bool, typer.Option("--select", help="Use it from now on.")] = False,
) -> None:
    """Add a node, or change what is known of it: its admin API and a key, or a data directory on this machine.

    The first one is selected.
    """
    if bool(admin) == (data is not None):
        raise typer.BadParameter("a context is an address, or a data directory (--data)")
    if data is not None:
        context = Context(name, data=contexts.of_directory(data.absolute()).data)
    else:
        secret = payload(key).decode().strip() if key[:1] in ("-", "@") else key
        secret = secret or os.environ.get("GATEWAY_API_KEY", "")
        if not secret:
            raise typer.BadParameter("no key: --key - reads it from standard input")
        context = Context(name, admin, secret, ca.absolute() if ca else None)
    known = Contexts(contexts_path())
    known.add(context)
    if select:
        known.select(name)
    known.save()


def ls(output: Output = "table") -> None:
    """List the contexts. Keys are not shown but for their beginning."""
    known = Contexts(contexts_path())
    listing((_document(context, known) for context in known), COLUMNS, output)


def select(name: Name) -> None:
    """Use a context from now on."""
    known = Contexts(contexts_path())
    known.select(name)
    known.save()


def rm(name: Name) -> None:
    """Forget a context. The key stays valid: gateway key rm ends it."""
    known = Contexts(contexts_path())
    known.remove(name)
    known.save()


def validate(call: Query) -> None:
    """Sign in, and say who this is to the node and what it is allowed."""
    me: dict[str, Any] = call.api.get("/auth/me")
    call.show({"context": call.context.name, "admin": call.api.url, **me})


def _document(context: Context, known: Contexts) -> dict[str, Any]:
    return {
        "name": context.name,
        "selected": context.name == known.selected,
        "admin": context.admin,
        "data": _text(context.data),
        "key": f"{context.key[:5]}…" if context.key else "",
        "ca": _text(context.ca),
    }


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
