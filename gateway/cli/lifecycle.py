"""`gateway init`, `run`, `version`: a node's life."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import __version__
from gateway.cli import target
from gateway.cli.data_directory import data_directory
from gateway.cli.printing import TextOrJson
from gateway.cli.table import rows_out

if TYPE_CHECKING:
    from gateway.config import LiveSettings
    from gateway.control.bootstrap import Outcome

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", show_default=False, dir_okay=False)
]


def attach(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(run)
    app.command()(version)


def init(
    data: target.Data = None,
    config: ConfigFile = None,
    bootstrap: Annotated[
        Path | None,
        typer.Option(
            "--bootstrap",
            help="TOML file with users, devices, keys and issuers that the node has. May be applied again.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    non_interactive: Annotated[
        bool, typer.Option("--non-interactive", help="Do not ask before changing what is there.")
    ] = False,
    output: TextOrJson = "text",
) -> None:
    """Make what a node needs: id, signing key, certificates. Does nothing where they exist.

    `gateway run` does the same on its first start; this is for whoever wants the files before. With --bootstrap the
    node must be stopped; passwords and keys that are made are printed, this once.
    """
    from gateway.config import certificate_names
    from gateway.control.identity import Identity

    settings = settled_settings(data, config, dev=False).config
    outcomes = _bootstrapped(settings.node.data, bootstrap, non_interactive) if bootstrap else []
    identity = Identity.open(settings.node.data, certificate_names(settings))
    made = {
        "node": identity.node_id,
        "data": str(settings.node.data),
        "authority": str(identity.ca_path),
        "certificate": str(identity.certificate_path),
    }
    if output == "json":
        typer.echo(json.dumps(made | ({"bootstrap": [asdict(each) for each in outcomes]} if bootstrap else {})))
        return
    for name, value in made.items():
        typer.echo(f"{name:<12} {value}")
    if outcomes:
        typer.echo("")
        rows_out(
            [
                ("KIND", "NAME", "RESULT", "SECRET"),
                *((each.kind, each.name, each.result, each.secret) for each in outcomes),
            ]
        )


def _bootstrapped(data: Path, file: Path, non_interactive: bool) -> list[Outcome]:
    """Bring about what the file says, when all of it can be; where nothing stands yet, that is seen elsewhere first."""
    from gateway.cli.offline import changed
    from gateway.control.archive import DATABASE
    from gateway.control.bootstrap import Bootstrap

    wanted = Bootstrap.read(file)
    if (data / DATABASE).exists():
        would_be = changed(data, lambda control, by: wanted.apply(control, by, dry_run=True))
        count = sum(each.result != "unchanged" for each in would_be)
        if count and not non_interactive and sys.stdin.isatty():
            typer.confirm(f"Make {count} changes in {data}?", abort=True, err=True)
    else:
        with tempfile.TemporaryDirectory(prefix="gateway-bootstrap-") as elsewhere:
            changed(Path(elsewhere), lambda control, by: wanted.apply(control, by, dry_run=True))
    return changed(data, wanted.apply)


def run(
    data: target.Data = None,
    config: ConfigFile = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Plain ws:// and tcp:// on loopback; else as in production.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", help="Processes of this node, for more than one core.", min=1, max=64, show_default=False
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the settings, say whether they are good, and end.")
    ] = False,
) -> None:
    """Run a node until SIGTERM or Ctrl-C, then drain and end.

    Each setting can come from the environment too: GATEWAY__LISTEN__WEBSOCKET=0.0.0.0:7878.
    """
    settings = settled_settings(data, config, dev=dev, workers=workers)
    if check:
        typer.echo("settings are good")
        return
    from gateway import serving

    raise typer.Exit(serving.run(settings))


def version(output: TextOrJson = "text") -> None:
    """Print versions, and whether the parts that make a node fast are in use."""
    from gateway import forwarding

    facts = {
        "version": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "hot_path": "compiled" if getattr(forwarding, "COMPILED", False) else "pure Python",
        "loop": "uvloop" if find_spec("uvloop") else "asyncio",
    }
    if output == "json":
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"gateway   {facts['version']}")
    typer.echo(f"python    {facts['python']}")
    typer.echo(f"hot path  {facts['hot_path']}")
    typer.echo(f"loop      {facts['loop']}")


def settled_settings(data: Path | None, file: Path | None, *, dev: bool, workers: int | None = None) -> LiveSettings:
    """Load the settings. The data directory that the file or the environment names stands unless --data is given."""
    from gateway.config import LiveSettings, Sources

    given: dict[str, object] = {"node.data": data, "node.workers": workers}
    overrides = {name: value for name, value in given.items() if value is not None}
    settings = LiveSettings(Sources(file, overrides=overrides, dev=dev))
    if settings.sets("node.data"):
        return settings
    return LiveSettings(Sources(file, overrides={**overrides, "node.data": data_directory(None)}, dev=dev))
