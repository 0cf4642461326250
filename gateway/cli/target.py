"""Where a command talks to and as whom: the options that all talking commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from gateway.cli.data_directory import BRIEF_S, LASTING_S, data_directory, has_identity, operator_token
from gateway.cli.durations import duration
from gateway.control.snippets import parsed

if TYPE_CHECKING:
    from gateway.client import Gateway

DEFAULT_URL = "ws://127.0.0.1:7878/rsocket"
SCHEMES = ("ws", "wss", "tcp", "tls")

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the gateway: ws, wss, tcp or tls. [GATEWAY_URL, else that of the node in --data, else "
        f"{DEFAULT_URL}]",
        show_default=False,
    ),
]
TokenText = Annotated[
    str | None,
    typer.Option("--token", help="Token to connect with. [GATEWAY_TOKEN, else minted from --data]", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data directory of a node on this machine. [GATEWAY_DATA, else the default one, see docs/cli.md]",
        show_default=False,
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca", help="PEM file with the authority to trust for wss and tls. [the data directory's]", show_default=False
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", parser=duration, metavar="TIME", help="How long to wait.")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="KEY=VALUE",
        help="Narrow who may serve it, as in sub=thermostat-1. May repeat.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway and the credential for it."""

    url: str
    token: str | Callable[[], str]
    ca: Path | None

    def link(self, **options: Any) -> Gateway:
        """Return a link that is not renewed when it is lost: a command ends then."""
        from gateway.client import Gateway

        return Gateway(self.url, self.token, **{"ca": self.ca, "reconnect": False, **options})


def target(
    url: str | None,
    token: str | None,
    data: Path | None,
    ca: Path | None,
    environ: Mapping[str, str] = os.environ,
    *,
    lasting: bool = False,
) -> Target:
    """Settle the options. A token that is named wins over one that can be minted; both over what the defaults find.

    The address may be a one-line credential, as `gateway device add` prints it: then the token is in it.

    `lasting` is for a command that goes on until somebody ends it.
    """
    directory = data_directory(data, environ)
    readable = has_identity(directory)
    url, given = parsed(url or environ.get("GATEWAY_URL") or (readable and _where(directory)) or DEFAULT_URL)
    token = token or given
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise typer.BadParameter(f"{url!r} is no address of a gateway: use ws://, wss://, tcp:// or tls://host:port")
    if ca is None and readable and url.startswith(("wss:", "tls:")):
        ca = directory / "identity" / "ca.pem"
    if token:
        return Target(url, token, ca)
    if data is None and environ.get("GATEWAY_TOKEN"):
        return Target(url, environ["GATEWAY_TOKEN"], ca)
    if readable:
        return Target(url, operator_token(directory, LASTING_S if lasting else BRIEF_S), ca)
    raise typer.BadParameter(
        f"no token: use --token, set GATEWAY_TOKEN, or name a node's data directory with --data ({directory} is none "
        "that this user can read)"
    )


def _where(directory: Path) -> str:
    """The address of the node that has a data directory, or nothing where none runs."""
    from gateway.control.runtime import Runtime

    runtime = Runtime.read(directory)
    return "" if runtime is None else from_here(runtime.websocket)


def from_here(url: str) -> str:
    """Where this machine reaches what listens on every address."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def tags(pairs: list[str] | None) -> dict[str, str]:
    """Read KEY=VALUE options."""
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE")
        found[key] = value
    return found
