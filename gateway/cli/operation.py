"""`gateway reload`, `drain`, `undrain`, `logs level`: what a running node is told to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli.call import Change, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.control.runtime import Runtime
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.cli.api import Api

#: Seconds between two looks at whether the node has gone, and between two questions to its API.
LOOK_S, ASK_S = 0.1, 1.0

Stay = Annotated[bool, typer.Option("--stay", help="Leave the node up, refusing; gateway undrain takes it back.")]
Timeout = Annotated[
    float, typer.Option(parser=duration, metavar="TIME", help="How long to wait for its end; 0: not at all.")
]
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


def drain(call: Change, stay: Stay = False, timeout: Timeout = 45.0) -> None:
    """Send who is there elsewhere, let requests in flight finish, and end the node.

    Does what SIGTERM and gateway stop do, from anywhere. It goes on to its end when this command is interrupted.
    """
    if stay:
        call.confirm("Send all connections elsewhere, and let nobody in?")
        call.done("draining; let connections in again with gateway undrain", call.send("POST", "/node/drain"))
        return
    call.confirm("Send all connections elsewhere, and end the node?")
    began = time.monotonic()
    runtime = None if call.context.data is None else Runtime.read(call.context.data)
    answer = call.send("POST", "/node/drain", exit=True)
    if not call.dry_run and timeout:
        _wait_for_end(call.api, runtime, began + timeout)
        call.done(f"drained and ended in {time.monotonic() - began:.1f} s", answer)
    else:
        call.done("draining, then it ends", answer)


def _wait_for_end(api: Api, runtime: Runtime | None, deadline: float) -> None:
    """Wait until the node has gone: its process where it is on this machine, else its API. Say what is left.

    Raises TimeoutError.
    """
    ask_at = time.monotonic()
    answers = True
    while runtime.alive if runtime is not None else answers:
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError("the node drains and is still there; it ends when requests in flight have finished")
        if now >= ask_at:
            ask_at = now + ASK_S
            answers = _says_what_is_left(api)
        time.sleep(LOOK_S)


def _says_what_is_left(api: Api) -> bool:
    """Print it; whether the node answers at all."""
    try:
        figures = api.get("/node/stats")
    except GatewayError as error:
        return error.reason != "unreachable"
    connections = figures["connections"]["open"].get("client", 0)
    typer.echo(f"draining: {connections} connections, {figures['streams_open']} requests in flight", err=True)
    return True


def undrain(call: Change) -> None:
    """Let connections in again."""
    call.done("taking connections", call.send("POST", "/node/undrain"))


def level(call: Change, severity: Level) -> None:
    """Change what the node logs, until it is restarted; log.level is for good."""
    call.done(f"logging {severity} and above", call.send("POST", "/node/log-level", {"level": severity}))
