"""Processes that a benchmark starts on loopback and ends by their id: nodes, and the floor they are measured against.

Each has free ports and a directory of its own. What it prints goes to a file there, shown when it does not come up.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gateway.control.identity import Identity
from gateway.load.opening import Address
from gateway.load.shape import Access
from gateway.policy.principal import Kind

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
START_S = 20.0
END_S = 20.0
TOKEN_S = 86_400.0


class NotStarted(Exception):
    """A process did not come up; the text says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path],
    port: int,
    directory: Path,
    *,
    environ: Mapping[str, str] | None = None,
    start: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until it accepts connections on `port`; end it by SIGTERM. Raises NotStarted."""
    output = directory / f"{Path(command[0]).name}-{port}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=directory,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C ends the benchmark, which ends its processes.
            start_new_session=True,
        )
    try:
        if not _accepting(process, port, start):
            raise NotStarted(
                f"{Path(command[0]).name}: {output.read_text(errors='replace').strip()[-500:] or 'no answer'}"
            )
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _accepting(process: subprocess.Popen[bytes], port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            time.sleep(0.02)
    return False


@dataclass(frozen=True)
class Node:
    """A node of `gateway run --dev`."""

    port: int
    data: Path
    pid: int

    @cached_property
    def identity(self) -> Identity:
        return Identity.open(self.data)

    @cached_property
    def access(self) -> Access:
        """What a run needs: one service's token for every connection."""
        token = self.identity.mint("bench", Kind.SERVICE, ("bench", "bench.*"), ("*",), TOKEN_S, time.time())
        return Access(Address.of(f"ws://127.0.0.1:{self.port}/rsocket"), token)

    def device_tokens(self, count: int) -> list[tuple[str, str]]:
        """One (subject, token) a device; each may register its subject."""
        now = time.time()
        subjects = [f"device-{number}" for number in range(count)]
        return [(name, self.identity.mint(name, Kind.DEVICE, ("{sub}",), (), TOKEN_S, now)) for name in subjects]

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def node(directory: Path, *, interpreted: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[Node]:
    """Run a node, as it is installed or from a copy of its sources without the extension modules.

    `settings` are environment variables.
    """
    directory.mkdir(parents=True)
    environ = dict(settings or {})
    if interpreted:
        shutil.copytree(
            REPOSITORY / "gateway", directory / "gateway", ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
        environ["PYTHONPATH"] = str(directory)
    port, data = free_port(), directory / "data"
    environ |= {
        "GATEWAY__LISTEN__WEBSOCKET": f"127.0.0.1:{port}",
        "GATEWAY__LISTEN__TCP": "127.0.0.1:0",
        "GATEWAY__ADMIN__LISTEN": "127.0.0.1:0",
        "GATEWAY__TELEMETRY__LISTEN": "127.0.0.1:0",
        "GATEWAY__LOG__LEVEL": "warning",
    }
    command: list[str | Path] = [sys.executable, "-m", "gateway.cli", "run", "--dev", "--data", data]
    with running(command, port, directory, environ=environ) as process:
        yield Node(port, data, process.pid)


@contextmanager
def floor(directory: Path) -> Iterator[Access]:
    """Compile and run `relay.c`. Raises NotStarted where there is no C compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise NotStarted("no C compiler")
    directory.mkdir(parents=True)
    command = [*compiler.split(), "-O2", "-o", str(directory / "relay"), str(HERE / "relay.c")]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode:
        raise NotStarted(f"{compiler}: {built.stderr.strip()[-500:]}")
    port = free_port()
    with running([directory / "relay", str(port)], port, directory):
        yield Access(Address.of(f"ws://127.0.0.1:{port}/rsocket"), None)
