"""`gateway dashboard`: a link that logs a browser in once, made with the keys of the data directory."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.call import Query, register

if TYPE_CHECKING:
    from gateway.cli.api import Api

Print = Annotated[bool, typer.Option("--print", help="Only print the link; open no browser.")]
User = Annotated[str | None, typer.Option("--user", help="Who is logged in; the first administrator if not named.")]


def attach(app: typer.Typer) -> None:
    register(app, dashboard)


def dashboard(call: Query, print_: Print = False, user: User = None) -> None:
    """Print a link that logs a browser into the node's dashboard, and open it where there is a screen.

    The link holds once, for 15 minutes. For a node elsewhere, where only its API key is known, the address is printed.
    """
    url, made = linked(call.api, user)
    if not call.for_people:
        call.show({"url": url, **made})
        return
    typer.echo(url)
    if not made:
        typer.echo("log in with a name and a password: a link that does it needs the node's data directory", err=True)
    if not print_ and has_screen():
        webbrowser.open(url)


def linked(api: Api, user: str | None, lifetime_s: int | None = None) -> tuple[str, dict[str, Any]]:
    """The link, and what the node says of its code: nothing where only an API key is known, which can make none."""
    if api.context.data is None:
        return f"{api.url}/", {}
    body = {"user": user, **({} if lifetime_s is None else {"lifetime_s": lifetime_s})}
    made = api.send("POST", "/auth/codes", body)
    code = made.pop("code")
    return f"{api.url}/#/login?code={code}", made


def has_screen(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a browser that is opened here is seen by anybody."""
    if platform in ("win32", "darwin"):
        return "SSH_CONNECTION" not in environ
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
