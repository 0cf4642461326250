"""`gateway mqtt setup`: what a Mosquitto beside the node needs, and the node's bridge to it."""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.api import Problem
from gateway.cli.call import Change
from gateway.cli.document import said
from gateway.cli.lifecycle import ConfigFile, settled_settings
from gateway.errors import ConfigError, GatewayError


def set_up(
    call: Change,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIRECTORY", help="Mosquitto's, on this machine.", show_default=False, readable=False),
    ],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Host of the broker for its certificate; may repeat.", show_default=False),
    ] = None,
    acl: Annotated[
        Path | None, typer.Option(help="Mosquitto's ACL file, to be copied there.", show_default=False, dir_okay=False)
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            help="File with the bridge: the node gets those of its documents that it has none of that name of.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Make what a Mosquitto beside this node needs, where it is not there: certificate, password file, ACL.

    The node runs; its data directory gets the bridge's own password, as mosquitto/password. May be run again: what is
    good stays. The certificate is for --name and for the names of the node's own.
    """
    from gateway.bridges.mqtt import mosquitto_files
    from gateway.config import certificate_names
    from gateway.control.identity import Identity

    data = call.context.data
    if data is None:
        raise typer.BadParameter("this is for a node on this machine: name its data directory with --data")
    wanted = {} if documents is None else _documents_in(documents)
    rules = None if acl is None else _content(acl)
    missing = {each: text for each, text in wanted.items() if not _known(call, each)}
    done = []
    if not call.dry_run:
        names = (*(name or ()), *certificate_names(settled_settings(data, config, dev=False).config))
        done = mosquitto_files.set_up(Identity.open(data), data, directory, names, rules, time.time())
    if missing:
        call.send("POST", "/documents:apply", {"text": "---\n".join(missing.values())})
        done += missing
    call.done(f"made: {', '.join(done)}" if done else "all is there", {"made": done})


def _known(call: Change, document: str) -> bool:
    try:
        call.api.get(f"/documents/{document}")
    except Problem as problem:
        if problem.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def _documents_in(file: Path) -> dict[str, str]:
    """Each as `Kind/name`, with its text. Raises GatewayError with all that is wrong with the file."""
    import yaml

    from gateway.documents.validation import examine

    examined = examine(_content(file).decode(errors="replace"))
    if not examined.good:
        raise GatewayError("\n".join(f"{file}:{said(finding)}" for finding in examined.findings if not finding.warning))
    return {
        document.id: yaml.safe_dump({"kind": document.kind, "name": document.name} | document.body)
        for document in examined.documents
    }


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
