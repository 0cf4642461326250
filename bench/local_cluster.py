"""Nodes that link, each a process of its own on this machine: central nodes, edges, and the commands that join them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from gateway.control.identity import Identity

GATEWAY = [sys.executable, "-m", "gateway.cli"]
NODES = ("central-1", "central-2", "edge-a", "edge-b")
START_S = 60.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class LocalCluster:
    """What it makes is in `root`; `processes` are the nodes by name. `end` stops them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip(NODES, zip(*[iter(free_ports(3 * len(NODES)))] * 3, strict=True), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, name: str) -> str:
        return f"ws://127.0.0.1:{self.ports[name][0]}/rsocket"

    def data(self, name: str) -> str:
        return str(self.root / name)

    def environment(self, name: str) -> dict[str, str]:
        websocket, tcp, admin = self.ports[name]
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("GATEWAY")},
            "GATEWAY__NODE__NAME": name,
            "GATEWAY__LISTEN__WEBSOCKET": f"127.0.0.1:{websocket}",
            "GATEWAY__LISTEN__TCP": f"127.0.0.1:{tcp}",
            "GATEWAY__ADMIN__LISTEN": f"127.0.0.1:{admin}",
            "GATEWAY__TELEMETRY__LISTEN": "",
        }

    def run(self, name: str, *words: str) -> str:
        done = subprocess.run(
            [*GATEWAY, *words], env=self.environment(name), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"gateway {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*GATEWAY, "run", "--dev", "--data", self.data(name)],
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for port in (self.ports[name][0], self.ports[name][2]):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                except OSError:
                    break
            else:
                return
            time.sleep(0.1)
        raise SystemExit(f"{name} does not start; see {self.root / f'{name}.log'}")

    def join(self, name: str, role: str) -> None:
        made = ["peer", "token", "create", "--role", role, "--data", self.data("central-1")]
        line = self.run("central-1", *made).split()[-1]
        more = ["--role", role, "--url", self.url(name)] if role == "central" else []
        self.run(name, "join", line, "--data", self.data(name), *more)
        self.start(name)

    def token(self, name: str, subject: str) -> str:
        """A token of this node for a service that may do everything."""
        identity = Identity.open(Path(self.data(name)))
        return identity.mint(subject, "service", ["*"], ["*"], 3600, time.time())

    def bring_up(self, *names: str) -> None:
        self.run("central-1", "central", "init", "--data", self.data("central-1"), "--url", self.url("central-1"))
        self.start("central-1")
        for name in names:
            self.join(name, name.partition("-")[0])

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
