"""`gateway token`: mint a credential with the keys of a node on this machine."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli import target
from gateway.cli.data_directory import data_directory
from gateway.cli.durations import duration


def attach(app: typer.Typer) -> None:
    app.command()(token)


def token(
    subject: Annotated[str, typer.Option(help="Who it is for: the device's, service's or person's name.")],
    kind: Annotated[str, typer.Option(help="device, service, user, node or admin: chooses the limits.")] = "service",
    services: Annotated[
        list[str] | None,
        typer.Option(
            help="Services it may register; patterns, {sub} is the subject. May repeat or use commas.",
            show_default=False,
        ),
    ] = None,
    routes: Annotated[
        list[str] | None,
        typer.Option(
            help="Routes it may call; patterns, {sub} is the subject. May repeat or use commas.", show_default=False
        ),
    ] = None,
    ttl: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="How long it lives.")] = 3600.0,
    groups: Annotated[
        list[str] | None, typer.Option(help="Groups of the holder. May repeat or use commas.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Labels of the holder. May repeat.", show_default=False),
    ] = None,
    audience: Annotated[str, typer.Option(help="The node's auth.audience, where that was changed.")] = "gateway",
    data: target.Data = None,
) -> None:
    """Mint a token and print it, and nothing else. The node may be up or down.

    Nothing may be registered without --services and nothing but gateway.* called without --routes.
    """
    from gateway.control.identity import Identity

    identity = Identity.open(data_directory(data))
    typer.echo(
        identity.mint(
            subject,
            kind,
            _listed(services),
            _listed(routes),
            ttl,
            time.time(),
            audience=audience,
            groups=_listed(groups),
            labels=target.tags(label),
        )
    )


def _listed(values: list[str] | None) -> tuple[str, ...]:
    return tuple(item.strip() for value in values or () for item in value.split(",") if item.strip())
