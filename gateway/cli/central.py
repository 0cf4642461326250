"""`gateway central`: a node to which others link."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import target
from gateway.cli.catalogue import application


def attach(app: typer.Typer) -> None:
    group = application(help="A central node, to which edges link.")
    group.command("init")(init)
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
