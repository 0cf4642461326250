"""`gateway central`: a node to which others link."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import target
from gateway.cli.catalogue import application


def attach(app: typer.Typer) -> None:
    group = application(help="A central node, to which edges link.")
    group.command("init")(init)
    group.command("setup")(setup)
    app.add_typer(group, name="central")


def init(
    data: target.Data = None,
    name: Annotated[str, typer.Option(help="Its name. [node.name of the settings]", show_default=False)] = "",
    url: Annotated[
        str,
        typer.Option(
            help="Where edges will dial it, as in wss://central-1.example.org:7878/rsocket.", show_default=False
        ),
    ] = "",
) -> None:
    """Make a central node of a data directory: id, authority, and the line with which the first edge joins.

    The node must be stopped. Its authority signs the certificate that edges will see; put the host of --url into
    node.advertised_url, so that the certificate names it.
    """
    from gateway.cli.lifecycle import settled_settings
    from gateway.cli.offline import changed
    from gateway.config import advertised_url
    from gateway.control.audit import Actor
    from gateway.control.certificates import fingerprint
    from gateway.control.members import CENTRAL
    from gateway.control.plane import ControlPlane
    from gateway.federation.joining import JoinToken

    config = settled_settings(data, None, dev=False).config
    directory = config.node.data
    address = url or advertised_url(config)

    async def make(control: ControlPlane, by: Actor) -> str:
        members = control.members
        if members.own is None:
            await members.put(members.itself(name or config.node.name, CENTRAL, (address,), ""), by=by)
        _, secret = await members.invite("edge", by=by, ttl_s=900)
        return JoinToken(fingerprint(control.identity.ca_path.read_text()), (address,), secret).text()

    line = changed(directory, make)
    typer.echo(f"central node in {directory}, dialled at {address}\n")
    typer.echo("Start it with:    gateway run --data " + str(directory))
    typer.echo("Within 15 minutes, let one edge join with:")
    typer.echo(f"  gateway join {line}\n")
    typer.echo("More nodes:       gateway peer token create [--role central]")


def setup(
    central: Annotated[
        list[str],
        typer.Option(
            "--central",
            metavar="NAME=DIR",
            help="A central node and its data directory; the name is its host name, too. May repeat.",
        ),
    ],
    edge: Annotated[
        list[str] | None,
        typer.Option("--edge", metavar="NAME=DIR", help="An edge, the same. May repeat.", show_default=False),
    ] = None,
    nats: Annotated[
        list[str] | None,
        typer.Option(
            "--nats",
            metavar="NAME=DIR",
            help="A NATS server and where its certificate and its accounts are to be. May repeat.",
            show_default=False,
        ),
    ] = None,
    keyring: Annotated[
        Path | None,
        typer.Option(
            "--keyring",
            help="Where the NATS servers' authority and everybody's nkeys are kept.",
            show_default=False,
            file_okay=False,
        ),
    ] = None,
    bucket: Annotated[str, typer.Option(help="The bucket of their shared table.")] = "rt",
) -> None:
    """Make nodes whose data directories are all here one federation, and what a NATS cluster needs for them.

    The nodes must be stopped, unless nothing is left to do. May be done again: what is in order stays. compose.yaml
    does it before each start.
    """
    import asyncio

    from gateway.control.audit import Actor
    from gateway.control.members import CENTRAL, EDGE
    from gateway.federation.founding import Founder, found

    servers = _named("--nats", nats or ())
    if bool(servers) != (keyring is not None):
        raise typer.BadParameter("--nats and --keyring go together")
    nodes = {CENTRAL: _named("--central", central), EDGE: _named("--edge", edge or ())}
    founders = [Founder(name, role, data) for role, named in nodes.items() for name, data in named.items()]
    news = asyncio.run(found(founders, Actor("cli", "setup")))
    names = ", ".join(founder.name for founder in founders)
    typer.echo(f"{names}: {'made' if news else 'are'} one federation")
    if keyring is not None:
        from gateway.federation.nats.keyring import Keyring

        ring = Keyring(keyring, time.time())
        ring.fill(servers, nodes[CENTRAL], bucket)
        typer.echo(f"keys and certificates: {'written for ' + ', '.join(ring.changed) if ring.changed else 'in order'}")


def _named(option: str, texts: Iterable[str]) -> dict[str, Path]:
    named = {}
    for text in texts:
        name, _, directory = text.partition("=")
        if not name or not directory:
            raise typer.BadParameter(f"{option} takes NAME=DIR, not {text!r}")
        named[name] = Path(directory)
    return named
