"""`gateway reload`, `drain`, `undrain`, `logs level`: what a running node is told to do."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gateway.cli.call import Change, register
from gateway.cli.catalogue import application

Level = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Argument(help="Least severity.", show_default=False)
]


def attach(app: typer.Typer) -> None:
    for command in (reload, drain, undrain):
        register(app, command)
    group = application(help="The node's log.")
    register(group, level)
    # A group of one command would take its place.
    group.callback()(lambda: None)
    app.add_typer(group, name="logs", help="The node's log.")


def reload(call: Change) -> None:
    """Read the settings and certificates again, and put into force what a running node can."""
    answer = call.send("POST", "/node/reload")
    changed, waiting = ", ".join(answer["changed"]), ", ".join(answer["restart_needed"])
    text = f"changed: {changed or 'nothing'}" + (f"; after a restart: {waiting}" if waiting else "")
    call.done(text, answer)


def drain(call: Change) -> None:
    """Let nobody in any more, and send who is there elsewhere; the node stays up."""
    call.confirm("Send all connections elsewhere, and let nobody in?")
    call.done("draining", call.send("POST", "/node/drain"))


def undrain(call: Change) -> None:
    """Let connections in again."""
    call.done("taking connections", call.send("POST", "/node/undrain"))


def level(call: Change, severity: Level) -> None:
    """Change what the node logs, until it is restarted; log.level is for good."""
    call.done(f"logging {severity} and above", call.send("POST", "/node/log-level", {"level": severity}))
