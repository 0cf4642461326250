"""A node, its tokens and the stock clients' processes, each started once, and ended behind the last test here.

A client that tools/install-peers had to leave out has its tests deselected, which the end of the run says; with CI=true
they stay and fail.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.peers import LIBRARIES, Library, Peer, left_out, route_setup

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 20
TRANSPORTS = ("ws", "tcp")

_deselected: dict[str, int] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = left_out()
    if not missing or os.environ.get("CI") == "true":
        return
    kept, dropped = [], []
    for item in items:
        params = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        absent = {value.name for value in params if isinstance(value, Library)} & missing.keys()
        (dropped if absent else kept).append(item)
        for name in absent:
            _deselected[name] = _deselected.get(name, 0) + 1
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, reason in left_out().items():
        if name in _deselected:
            terminalreporter.write_sep("!", f"{_deselected[name]} tests with {name} did not run: {reason}", red=True)


@dataclass(frozen=True)
class Node:
    """A running node: where it listens, and the directory that its tokens are minted from."""

    data: Path
    ws_port: int
    tcp_port: int

    def url(self, transport: str) -> str:
        return f"ws://127.0.0.1:{self.ws_port}/rsocket" if transport == "ws" else f"tcp://127.0.0.1:{self.tcp_port}"

    def mint(self, subject: str, *, services: str = "*", routes: str = "*", ttl: str = "1h") -> str:
        """Return a service token."""
        command = [_gateway(), "token", "--data", str(self.data), "--subject", subject, "--kind", "service"]
        command += ["--services", services, "--routes", routes, "--ttl", ttl]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def _gateway() -> str:
    return str(Path(sys.executable).with_name("gateway"))


def _free_ports(count: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in opened]
    for listener in opened:
        listener.close()
    return ports


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the node exited with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"the node was not ready within {START_TIMEOUT_S} s")


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data = tmp_path_factory.mktemp("node")
    websocket, tcp, admin, telemetry = _free_ports(4)
    environ = {
        **os.environ,
        "GATEWAY__LISTEN__WEBSOCKET": f"127.0.0.1:{websocket}",
        "GATEWAY__LISTEN__TCP": f"127.0.0.1:{tcp}",
        "GATEWAY__ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "GATEWAY__TELEMETRY__LISTEN": f"127.0.0.1:{telemetry}",
    }
    # Its output is captured with that of the test that runs when it is written.
    process = subprocess.Popen([_gateway(), "run", "--dev", "--data", str(data)], env=environ)
    try:
        _wait_ready(process, telemetry)
        yield Node(data, websocket, tcp)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0, "SIGTERM drains and ends with 0"


@pytest.fixture(scope="package")
def token(node: Node) -> str:
    """A token that may register and call everything."""
    return node.mint("interop")


class Fleet:
    """The peers' processes. Each has one connection a transport, named by it, which serves ``service(...)``."""

    def __init__(self, node: Node, token: str) -> None:
        self._node = node
        self._token = token
        missing = left_out()
        self.libraries = tuple(library for library in LIBRARIES if library.name not in missing)
        # All at once: the slow starters start while the others work.
        self._peers = {library: Peer(library) for library in self.libraries}
        self._connected: set[Library] = set()

    @staticmethod
    def service(library: Library, transport: str) -> str:
        return f"{library.name}.{transport}"

    def peer(self, library: Library) -> Peer:
        """Return the library's peer, connected over every transport."""
        if library not in self._peers:
            pytest.fail(f"{library} was left out by tools/install-peers: {left_out()[library.name]}")
        peer = self._peers[library]
        if library not in self._connected:
            for transport in TRANSPORTS:
                service = route_setup(self.service(library, transport))
                peer.connect(transport, self._node.url(transport), self._token, services=(service,))
            self._connected.add(library)
        return peer

    def stop(self) -> None:
        for peer in self._peers.values():
            peer.stop()


@pytest.fixture(scope="package")
def fleet(node: Node, token: str) -> Iterator[Fleet]:
    fleet = Fleet(node, token)
    yield fleet
    fleet.stop()
