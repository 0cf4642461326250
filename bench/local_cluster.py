"""Nodes that link, each a process of its own on this machine: central nodes, edges, and the commands that join them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.local_nats import LocalNats, free_ports
from gateway.control.audit import SYSTEM
from gateway.control.identity import Identity
from gateway.control.members import CENTRAL, EDGE, Member
from gateway.control.plane import ControlPlane

GATEWAY = [sys.executable, "-m", "gateway.cli"]
NODES = ("central-1", "central-2", "edge-a", "edge-b")
START_S = 60.0


def on_engine(nats: LocalNats, name: str) -> dict[str, str]:
    """The settings of a central whose table is on these servers."""
    return {
        "GATEWAY__FEDERATION__ENGINE": "nats",
        "GATEWAY__FEDERATION__NATS_SERVERS": ",".join(nats.urls),
        "GATEWAY__FEDERATION__NATS_NKEY_FILE": str(nats.seeds[name]),
    }


class LocalCluster:
    """What it makes is in `root`; `processes` are the nodes by name. `end` stops them all.

    `names`: the nodes, central ones and edges by how they begin; `settings`: more of them for a node, as its
    environment has them; `admin`: whether they have an admin API, which costs each a second of start.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str] = NODES,
        *,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        admin: bool = True,
    ) -> None:
        self.root = root
        self.names = tuple(names)
        self.ports = dict(zip(names, zip(*[iter(free_ports(3 * len(names)))] * 3, strict=True), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.settings = dict(settings or {})
        self._admin = admin

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
            "GATEWAY__ADMIN__LISTEN": f"127.0.0.1:{admin}" if self._admin else "",
            "GATEWAY__TELEMETRY__LISTEN": "",
            # Many processes share this machine: a late loop is no overload of the node.
            "GATEWAY__LIMITS__LAG_SHED_MS": "60000",
            **self.settings.get(name, {}),
        }

    def run(self, name: str, *words: str) -> str:
        done = subprocess.run(
            [*GATEWAY, *words], env=self.environment(name), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"gateway {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, *, wait: bool = True) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*GATEWAY, "run", "--dev", "--data", self.data(name)],
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )
        if wait:
            self.started(name)

    def started(self, name: str) -> None:
        """Wait until a node takes connections."""
        websocket, _, admin = self.ports[name]
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for port in (websocket, admin) if self._admin else (websocket,):
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

    def token(self, name: str, subject: str, kind: str = "service") -> str:
        """A token of this node for somebody who may do everything."""
        identity = Identity.open(Path(self.data(name)))
        return identity.mint(subject, kind, ["*"], ["*"], 3600, time.time())

    def bring_up(self, *names: str) -> None:
        self.run("central-1", "central", "init", "--data", self.data("central-1"), "--url", self.url("central-1"))
        self.start("central-1")
        for name in names:
            self.join(name, name.partition("-")[0])

    def introduce(self) -> None:
        """Let all nodes be members of one federation, without a word of theirs: as if each had joined. Starts none."""
        asyncio.run(self._introduce())

    async def _introduce(self) -> None:
        members: dict[str, Member] = {}
        for name in self.names:
            async with await ControlPlane.offline(self.root / name) as control:
                central = name.startswith("c")
                tcp = self.ports[name][1]
                urls = (self.url(name),) if central else ()
                peer = f"tcp://127.0.0.1:{tcp}" if central else ""
                members[name] = control.members.itself(name, CENTRAL if central else EDGE, urls, peer)
        for name in self.names:
            async with await ControlPlane.offline(self.root / name) as control:
                for member in members.values():
                    await control.members.put(member, by=SYSTEM)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
