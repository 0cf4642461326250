"""`gateway backup`: copies of what a node cannot do without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.call import Change, Listing, Output, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, fields
from gateway.errors import GatewayError

File = Annotated[Path, typer.Argument(help="A backup file.", show_default=False, dir_okay=False)]

COLUMNS = (
    Column("ID", "id"),
    Column("CREATED", "created_at"),
    Column("BYTES", "bytes"),
    Column("SHA-256", "sha256", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="Copies of all that a node is: identity, devices, users, audit.")
    register(group, create)
    register(group, ls)
    group.command()(verify)
    register(group, restore)
    app.add_typer(group, name="backup")


def create(
    call: Change,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Write a copy into this directory, too: elsewhere is where it helps."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, help="Delete older ones than the newest so many, on the node and in --to."),
    ] = None,
) -> None:
    """Back up a running node. It goes on working meanwhile.

    The file holds the node's keys: whoever has it can be the node.
    """
    answer = call.send("POST", "/backups")
    if to is not None and not call.dry_run:
        to.mkdir(parents=True, exist_ok=True, mode=0o700)
        call.api.download(f"/backups/{answer['id']}/download", to / answer["id"])
    if keep is not None and not call.dry_run:
        _prune(call, keep, to)
    call.done(f"{(to or Path('backups')) / answer['id']}, {answer['bytes']} bytes", answer)


def _prune(call: Change, keep: int, to: Path | None) -> None:
    from gateway.control.backups import NAME

    for older in list(call.api.entries("/backups", 0))[keep:]:
        call.send("DELETE", f"/backups/{older['id']}")
    copies = [] if to is None else sorted(path for path in to.iterdir() if NAME.fullmatch(path.name))
    for older_copy in copies[:-keep]:
        older_copy.unlink()


def ls(call: Listing) -> None:
    """List the backups that the node has kept."""
    call.pages("/backups", COLUMNS)


def verify(file: File, output: Output = "table") -> None:
    """Say whether a backup is whole and could be restored; ends with 1 when not. Needs no node."""
    from gateway.control.archive import verify_archive
    from gateway.control.plane import schema

    check = verify_archive(file, schema())
    fields({"file": str(file), "ok": check.ok, "why": check.why, "entries": check.entries}, output)
    raise typer.Exit(0 if check.ok else 1)


def restore(call: Change, file: File) -> None:
    """Put a backup into the data directory of --data. The node must be stopped; what was there is kept beside it."""
    from gateway.cli.data_directory import data_directory
    from gateway.control.archive import restore_archive, verify_archive
    from gateway.control.plane import schema

    data = data_directory(call.named_data)
    check = verify_archive(file, schema(), near=data)
    if not check.ok:
        raise GatewayError(f"{file} cannot be restored: {check.why}")
    call.confirm(f"Replace what is in {data} by {file}?")
    kept = () if call.dry_run else restore_archive(file, data, schema())
    for path in kept if call.for_people else ():
        typer.echo(f"kept {path}", err=True)
    call.done(f"{data} is as {file} says", {"data": str(data), "file": str(file), "kept": [str(path) for path in kept]})
