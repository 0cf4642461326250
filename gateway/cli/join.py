"""`gateway join`, `gateway leave`: make a node one of a federation, and end that."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from gateway.cli import target
from gateway.errors import ConfigError, GatewayError

_FETCH_S = 5.0


def attach(app: typer.Typer) -> None:
    app.command("join")(join)
    app.command("leave")(leave)


def join(
    token: Annotated[str, typer.Argument(help="The line that a central node has printed: gwj1.…")],
    data: target.Data = None,
    name: Annotated[str, typer.Option(help="The node's name. [node.name of the settings]", show_default=False)] = "",
    role: Annotated[str, typer.Option(help="As the token says: edge or central.")] = "edge",
    url: Annotated[str, typer.Option(help="Of a central node: where edges will dial it.", show_default=False)] = "",
) -> None:
    """Make this node, which must be stopped, one of a federation. From its next start on it links to its parents.

    The central node is known by the fingerprint in the token before anything is said to it. This node brings its own
    key, with which it will sign who it is; the token is of no use afterwards.
    """
    from gateway.cli.lifecycle import settled_settings
    from gateway.cli.offline import changed
    from gateway.config import advertised_url
    from gateway.control.audit import Actor
    from gateway.control.plane import ControlPlane
    from gateway.federation.joining import JoinToken

    found = JoinToken.read(token)
    config = settled_settings(data, None, dev=False).config
    directory = config.node.data
    addresses = (url or advertised_url(config),) if role == "central" else ()

    async def come_in(control: ControlPlane, by: Actor) -> list[str]:
        members = control.members
        itself = members.itself(name or config.node.name, role, addresses, "")
        told = await _asked(found, itself)
        await members.adopt(told, "join")
        granted = next((each for each in _members(told) if each.id == itself.id), None)
        if granted is None:
            raise ConfigError("the central node has not let this node in")
        await members.put(replace(granted, updated_at=max(granted.updated_at, itself.updated_at)), by=by)
        return [f"{each.name} {' '.join(each.urls)}".strip() for each in members.centrals()]

    centrals = changed(directory, come_in)
    typer.echo(f"{name or config.node.name} has joined as {role}")
    for central in centrals:
        typer.echo(f"central node      {central}")
    typer.echo("Start it with:    gateway run --data " + str(directory))


def leave(
    data: target.Data = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make this node, which must be stopped, stand alone again: it forgets the other nodes and links to none.

    They do not hear of it: end its membership on a central node, too, with gateway peer rm.
    """
    from gateway.cli.lifecycle import settled_settings
    from gateway.cli.offline import changed
    from gateway.control.audit import Actor
    from gateway.control.plane import ControlPlane

    directory = settled_settings(data, None, dev=False).config.node.data
    if not yes:
        typer.confirm("Forget all other nodes of the federation?", abort=True, err=True)

    async def go(control: ControlPlane, by: Actor) -> str:
        return (await control.members.leave(by=by)).name

    name = changed(directory, go)
    typer.echo(f"{name} stands alone. On a central node:    gateway peer rm {name}")


def _members(told: object) -> list[Any]:
    from gateway.control.members import members_in

    return members_in(told)


async def _asked(token: Any, itself: Any) -> object:
    """What the first central node that can be reached answers. Raises ConfigError."""
    from gateway.client import Gateway
    from gateway.control.table import public

    failures = []
    for url in token.urls:
        try:
            tls = await asyncio.to_thread(_trusting, url, token.authority)
            link = Gateway(url, token.secret, tls=tls, reconnect=False)
            async with link:
                asked = json.dumps({"secret": token.secret, "member": public(itself)}).encode()
                return json.loads(await link.request("gateway.join", asked))
        except (GatewayError, OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    raise ConfigError("no central node has let this node in:\n" + "\n".join(failures))


def _trusting(url: str, authority: str) -> ssl.SSLContext | None:
    """A context that trusts the authority with this fingerprint, which is fetched from the node itself, and no other.

    Raises ValueError when it is another one.
    """
    parts = urlsplit(url)
    if parts.scheme != "wss":
        return None
    if not authority:
        return ssl.create_default_context()
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    # What comes is public, and worth nothing unless its fingerprint is the one in the token.
    with urllib.request.urlopen(f"https://{parts.netloc}/ca.pem", timeout=_FETCH_S, context=unchecked) as answer:
        pem = answer.read(65_536).decode()
    from gateway.control.certificates import fingerprint

    if fingerprint(pem) != authority:
        raise ValueError("this is not the central node that the token is of: another authority vouches for it")
    return ssl.create_default_context(cadata=pem)
