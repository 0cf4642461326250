"""`gateway stop`: end the node of a data directory in order, and say how far it is.

What it does is what SIGTERM does: nobody new gets in, whoever is there is sent elsewhere, requests in flight finish.
Which process it is stands in `runtime.json`. Exit code 0: the node has ended; 1: not in time; 4: none runs here.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request
from typing import Annotated

import typer

from gateway.cli.data_directory import data_directory
from gateway.cli.durations import duration
from gateway.cli.target import Data
from gateway.control.runtime import Runtime
from gateway.errors import GatewayError

#: Seconds between two looks at whether it has ended, and between two lines that say how far it is.
_LOOK_S, _SAY_S = 0.1, 1.0
_CLIENTS = re.compile(r'^gateway_connections\{kind="client"\} (\d+)', re.MULTILINE)
_REQUESTS = re.compile(r"^gateway_requests_open\{.*\} (\d+)", re.MULTILINE)


def attach(app: typer.Typer) -> None:
    app.command()(stop)


def stop(
    data: Data = None,
    timeout: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="How long to wait for its end; 0: not at all.")
    ] = 45.0,
) -> None:
    """End the node of this data directory in order, and wait until it has gone.

    Nobody new gets in, whoever is there is sent elsewhere, requests in flight finish. It goes on to its end when this
    command is interrupted. A second SIGTERM ends it at once.
    """
    directory = data_directory(data)
    runtime = Runtime.read(directory)
    if runtime is None or not runtime.alive:
        raise GatewayError(f"no node runs on {directory}", reason="unreachable")
    try:
        os.kill(runtime.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise GatewayError(
            f"process {runtime.pid} is another user's; stop it as that user", reason="forbidden"
        ) from None
    if timeout and not _ended(runtime, timeout):
        raise TimeoutError(f"process {runtime.pid} is still there after {timeout:g} s")


def _ended(runtime: Runtime, timeout: float) -> bool:
    """Wait, and say now and then what is left; False when it takes too long."""
    began = time.monotonic()
    said = began - _SAY_S
    while runtime.alive:
        now = time.monotonic()
        if now - began > timeout:
            return False
        if now - said >= _SAY_S:
            said = now
            left = _left(runtime)
            if left:
                print(f"draining: {left}", file=sys.stderr, flush=True)
        time.sleep(_LOOK_S)
    typer.echo(f"stopped in {time.monotonic() - began:.1f} s")
    return True


def _left(runtime: Runtime) -> str:
    """What the node still has, by its metrics; nothing where it does not say."""
    if not runtime.telemetry:
        return ""
    try:
        with urllib.request.urlopen(f"{runtime.telemetry}/metrics", timeout=1) as answer:
            text = answer.read().decode()
    except OSError:
        return ""
    connections = sum(int(count) for count in _CLIENTS.findall(text))
    requests = sum(int(count) for count in _REQUESTS.findall(text))
    return f"{connections} connections, {requests} requests in flight"
