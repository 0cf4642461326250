"""`gateway device config`: what devices are to be configured with, and whether they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, printable

Name = Annotated[str, typer.Argument(help="Id of a device. [what --label, --fleet or --all say]", show_default=False)]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Of devices that have this label. May repeat.", show_default=False),
]
Fleet = Annotated[str, typer.Option(metavar="ID", help="Of the devices of a fleet.", show_default=False)]
Everybody = Annotated[bool, typer.Option("--all", help="Of every registered device.")]

VERSIONS = (
    Column("VERSION", "version"),
    Column("TARGET", "target"),
    Column("STANDS", "standing"),
    Column("SET", "at"),
    Column("BY", "by"),
    Column("COMMENT", "comment"),
    Column("DOCUMENT", "document", wide=True),
)
STATUSES = (
    Column("DEVICE", "device"),
    Column("STATE", "state"),
    Column("DESIRED", "desired"),
    Column("REPORTED", "reported"),
    Column("APPLIED", "applied"),
    Column("WHEN", "at"),
    Column("REASON", "reason"),
)
DIFFERENCES = (Column("WHERE", "pointer"), Column("BEFORE", "before"), Column("AFTER", "after"))


def attach(group: typer.Typer) -> None:
    config = application(help="What devices are to be configured with, and whether they are.")
    for command in (get, ls, set_, rm, history, diff, rollback, status):
        register(config, command)
    group.add_typer(config, name="config")


def get(call: Query, name: Name = "", label: Label = None, fleet: Fleet = "", everybody: Everybody = False) -> None:
    """Print the document that holds for a device, or that of a target."""
    if name and not (label or fleet or everybody):
        found = call.api.get(f"/devices/{name}/config")
        config = found["config"]
        if config is None and call.for_people:
            typer.echo(f"{name} has no configuration", err=True)
            raise typer.Exit(1)
    else:
        found = config = call.api.get(_path(name, label, fleet, everybody))
    if not call.for_people:
        call.show(found)
        return
    typer.echo(f"# version {config['version']} of {config['target']}", err=True)
    typer.echo(json.dumps(config["document"], indent=2, ensure_ascii=False))


def ls(call: Listing) -> None:
    """List the documents that stand, one a target."""
    call.pages("/device-configs", VERSIONS)


def set_(
    call: Change,
    file: Annotated[Path, typer.Option("-f", "--file", help="A JSON object; - is standard input.", allow_dash=True)],
    name: Name = "",
    label: Label = None,
    fleet: Fleet = "",
    everybody: Everybody = False,
    comment: Annotated[str, typer.Option(help="Why, for the history.", show_default=False)] = "",
) -> None:
    """Set the document of a device, or of a target; devices that are connected get it at once."""
    path = _path(name, label, fleet, everybody)
    try:
        document = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    answer = call.send("PUT", path, {"document": document, "comment": comment}, match="*")
    call.done(f"version {answer['version']} of {answer['target']} is set", answer)


def rm(call: Change, name: Name = "", label: Label = None, fleet: Fleet = "", everybody: Everybody = False) -> None:
    """Withdraw a document: a less specific one holds, and where there is none, devices keep what they have."""
    path = _path(name, label, fleet, everybody)
    call.confirm(f"Withdraw the configuration of {_target(name, label, fleet, everybody)}?")
    call.send("DELETE", path, match="*")
    call.done(f"the configuration of {_target(name, label, fleet, everybody)} is withdrawn")


def history(
    call: Listing, name: Name = "", label: Label = None, fleet: Fleet = "", everybody: Everybody = False
) -> None:
    """List what was set, newest first."""
    call.pages(f"{_path(name, label, fleet, everybody)}/history", VERSIONS)


def diff(
    call: Query,
    before: Annotated[int, typer.Option("--from", min=1, help="The earlier version.")],
    after: Annotated[
        int | None, typer.Option("--to", min=1, help="The later version. [the one that stands]", show_default=False)
    ] = None,
    name: Name = "",
    label: Label = None,
    fleet: Fleet = "",
    everybody: Everybody = False,
) -> None:
    """Show what differs between two versions."""
    versions = {"before": before} | ({"after": after} if after else {})
    answer = call.api.get(f"{_path(name, label, fleet, everybody)}/diff", **versions)
    if call.for_people:
        shown = [{name: _shown(value) for name, value in each.items()} for each in answer["differences"]]
        call.list(shown, DIFFERENCES)
    else:
        call.show(answer)


def rollback(
    call: Change,
    version: Annotated[int, typer.Option("--to", min=1, help="The version whose document is set again.")],
    name: Name = "",
    label: Label = None,
    fleet: Fleet = "",
    everybody: Everybody = False,
) -> None:
    """Set what was set as an earlier version."""
    path = f"{_path(name, label, fleet, everybody)}/rollback"
    answer = call.send("POST", path, {"version": version}, match="*")
    call.done(f"version {answer['version']} of {answer['target']} is what version {version} was", answer)


def status(
    call: Listing,
    name: Annotated[str, typer.Argument(help="Id of a device. [all that ever reported]", show_default=False)] = "",
    rejected: Annotated[bool, typer.Option("--rejected", help="Only those that refused what they spoke of.")] = False,
) -> None:
    """Show what devices are to have, what they took, and why not."""
    if name:
        call.show(call.api.get(f"/devices/{name}/config")["status"])
    else:
        call.pages("/device-configs/status", STATUSES, **({"ok": False} if rejected else {}))


def _path(name: str, label: list[str] | None, fleet: str, everybody: bool) -> str:
    return f"/device-configs/{quote(_target(name, label, fleet, everybody), safe=':')}"


def _target(name: str, label: list[str] | None, fleet: str, everybody: bool) -> str:
    """What the options name. Raises a usage error unless that is one thing."""
    found = [f"device:{name}"] if name else []
    found += [f"labels:{','.join(label)}"] if label else []
    found += [f"fleet:{fleet}"] if fleet else []
    found += ["all"] if everybody else []
    if len(found) != 1:
        raise typer.BadParameter("name a device, or say --label, --fleet or --all: one of them")
    return found[0]


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
