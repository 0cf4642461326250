"""`compose.yaml` as it stands, brought up under a project name of its own on ports that are free.

`COMPOSE` is the command (default: `docker compose`), `GATEWAY_IMAGE` the name that the image gets, `GATEWAY_BASE_IMAGE`
what it is built on. Everything that a deployment has made is gone after `remove`, but for the image.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("GATEWAY_IMAGE") or "gateway:e2e"
BASE_IMAGE = os.environ.get("GATEWAY_BASE_IMAGE") or "python:3.13-slim-bookworm"
HEALING_S = 120.0
CHECKED_EVERY_S = 2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def ran(*command: str, environ: Mapping[str, str] | None = None, timeout: float = 120) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=None if environ is None else {**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout.strip(), done.stderr.strip())


def said(*command: str, environ: Mapping[str, str] | None = None, timeout: float = 120) -> str:
    """What a command prints that must succeed."""
    ended = ran(*command, environ=environ, timeout=timeout)
    assert ended.code == 0, f"{shlex.join(command)}: {ended.err or ended.out}"
    return ended.out


def eventually(ask: Callable[[], _T | None], what: str, within: float = HEALING_S) -> _T:
    """The first answer that is not None."""
    deadline = time.monotonic() + within
    while (answer := ask()) is None:
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        time.sleep(0.5)
    return answer


def inspected(name: str) -> dict[str, Any]:
    """What the engine says of a container."""
    (found,) = json.loads(said("docker", "inspect", name))
    assert isinstance(found, dict)
    return found


def unused_port() -> int:
    """A port that nobody listens on, and that the system gives to no outgoing connection while a container is away."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Deployment:
    """One project. `environ` is what a user would write into .env; `files` go beside compose.yaml, that of `tree`."""

    project: str
    environ: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    files: tuple[str, ...] = ()
    tree: Path = ROOT

    def __post_init__(self) -> None:
        ports = ("WEBSOCKET", "TCP", "ADMIN")
        self.environ = {
            "COMPOSE_PROFILES": "edge",
            "GATEWAY_IMAGE": IMAGE,
            # Each `up` waits for the first check.
            "GATEWAY_HEALTH_INTERVAL": f"{CHECKED_EVERY_S}s",
            **{f"GATEWAY_{name}_PORT": str(unused_port()) for name in ports},
            **self.environ,
        }

    @property
    def edge(self) -> str:
        return f"{self.project}-edge-1"

    @property
    def network(self) -> str:
        return f"{self.project}_default"

    @property
    def volume(self) -> str:
        return f"{self.project}_edge-data"

    def compose(self, *arguments: str, timeout: float = 120) -> Ended:
        command = shlex.split(os.environ.get("COMPOSE") or "docker compose")
        files = [word for name in (str(self.tree / "compose.yaml"), *self.files) for word in ("--file", name)]
        fixed = (
            "--project-name",
            self.project,
            "--env-file",
            os.devnull,
            *files,
            "--project-directory",
            str(self.tree),
        )
        return ran(*command, *fixed, *arguments, environ=self.environ, timeout=timeout)

    def up(self, *options: str) -> None:
        ended = self.compose("up", "--detach", "--no-build", "--wait", *options)
        assert ended.code == 0, ended.err + self.log()

    def log(self) -> str:
        return self.compose("logs", "--no-log-prefix", "--no-color", "edge").out

    def complaint(self) -> str:
        """What a node that does not start says, each time that it is started again: one line."""

        def lines() -> list[str] | None:
            return self.log().splitlines() or None

        (line,) = set(eventually(lines, "a word of the node"))
        return line

    def inside(self, *command: str) -> str:
        """What a command in the edge's container prints."""
        return said("docker", "exec", self.edge, *command)

    def healthy(self) -> bool | None:
        return inspected(self.edge)["State"].get("Health", {}).get("Status") == "healthy" or None

    def beside(
        self,
        name: str,
        *arguments: str,
        token: str,
        authority: Path,
        detached: bool = False,
        program: Path | None = None,
    ) -> Ended:
        """Run the command line, or a program in its place, in a container of its own, which has a token and the node's
        authority, and no keys."""
        target = ("--url", "wss://edge:7878/rsocket", "--ca", "/ca.pem")
        if program is not None:
            arguments, target = ("/program.py",), ()
        mounts = () if program is None else ("--entrypoint", "python", "--volume", f"{program}:/program.py:ro")
        if detached:
            self.others.append(f"{self.project}-{name}")
            how = ("--detach", "--name", self.others[-1])
        else:
            how = ("--rm", "--init")
        return ran(
            *("docker", "run", *how, "--network", self.network, "--read-only", "--cap-drop", "ALL", "--no-healthcheck"),
            *("--env", "GATEWAY_TOKEN", "--volume", f"{authority}:/ca.pem:ro"),
            *(*mounts, IMAGE, *arguments, *target),
            environ={"GATEWAY_TOKEN": token},
        )

    def remove(self) -> None:
        for name in self.others:
            ran("docker", "rm", "--force", name)
        self.compose("down", "--volumes", "--timeout", "5")
        # Compose leaves a volume that it has not made.
        ran("docker", "volume", "rm", "--force", self.volume)
