"""`gateway healthcheck`: whether the node of this data directory does its work. What a container engine asks.

The port that devices use is asked first (`GET /healthz`, or a connection where there is TCP alone), then readiness: a
port of its own would prove nothing about theirs. Where both are is in `runtime.json`. It runs every few seconds, so it
loads no more than it needs. Exit code 0: healthy; 3: the node answers, and not well; 4: nobody answers.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gateway.cli.data_directory import data_directory
from gateway.cli.durations import duration
from gateway.cli.target import Data
from gateway.control.runtime import NAME, Runtime
from gateway.errors import GatewayError

UNHEALTHY = 3
#: How the addresses of all interfaces are dialed.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def attach(app: typer.Typer) -> None:
    app.command()(healthcheck)


def healthcheck(
    data: Data = None,
    timeout: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="For each question.")] = 2.0,
) -> None:
    """Ask the node of this data directory whether it takes connections.

    For the health check of a container, from inside of it. The exit code is 3 when the node says that it does not, 4
    when nobody answers.
    """
    directory = data_directory(data)
    runtime = Runtime.read(directory)
    if runtime is None:
        raise GatewayError(f"no node runs here: {directory / NAME} cannot be read", reason="unreachable")
    answers = [_devices_port(runtime, timeout), *([_readiness(runtime, timeout)] if runtime.telemetry else [])]
    problem = next((answer for answer in answers if answer), "")
    typer.echo(problem or "healthy")
    if problem:
        raise typer.Exit(UNHEALTHY)


def _devices_port(runtime: Runtime, timeout: float) -> str:
    """What is wrong with the port that devices use, or nothing. Raises GatewayError when nobody answers there."""
    if runtime.websocket:
        return _asked(runtime.websocket, "/healthz", timeout)
    if runtime.tcp:
        parts = urlsplit(runtime.tcp)
        try:
            socket.create_connection(_dialed(runtime.tcp), timeout).close()
        except OSError as problem:
            raise GatewayError(f"{parts.netloc} does not answer: {problem}", reason="unreachable") from problem
    return ""


def _readiness(runtime: Runtime, timeout: float) -> str:
    return _asked(runtime.telemetry, "/readyz", timeout)


def _asked(url: str, path: str, timeout: float) -> str:
    """What an answer other than 200 says, or nothing. Raises GatewayError when there is no answer."""
    parts = urlsplit(url)
    host, port = _dialed(url)
    if parts.scheme in ("wss", "https"):
        # Whether the node lives is asked, on this very machine; what its certificate is worth, `gateway doctor` says.
        unverified = ssl._create_unverified_context()
        link: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=timeout, context=unverified)
    else:
        link = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        link.request("GET", path)
        answer = link.getresponse()
        text = " ".join(answer.read(500).decode(errors="replace").split())
        return "" if answer.status == http.client.OK else text or f"{path} answered {answer.status}"
    except (OSError, http.client.HTTPException) as problem:
        raise GatewayError(f"{parts.netloc}{path} does not answer: {problem}", reason="unreachable") from problem
    finally:
        link.close()


def _dialed(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return LOOPBACK.get(host, host), parts.port or 0
