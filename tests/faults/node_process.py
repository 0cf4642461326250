"""A real `gateway run` in a process of its own, which can be killed, and its admin API as an operator uses it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from gateway.policy.principal import Kind

START_S = 60.0
LISTENERS = ("LISTEN__WEBSOCKET", "LISTEN__TCP", "ADMIN__LISTEN", "TELEMETRY__LISTEN")


class NodeProcess:
    """Start it with `start`. `ready_s`: seconds from the process's birth to the last port being open, and `ready_cpu_s`
    of a processor's time, which other work on the machine does not lengthen. `log`: what it has printed."""

    def __init__(self, data: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.data = data
        self.process = process
        self.ready_s = 0.0
        self.ready_cpu_s = 0.0
        self._log = log

    @classmethod
    async def start(cls, data: Path, log: Path, **settings: str) -> NodeProcess:
        keep = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
        any_port = {f"GATEWAY__{name}": "127.0.0.1:0" for name in LISTENERS}
        environ = {**keep, **any_port, "GATEWAY__ADMIN__REQUESTS_PER_SECOND": "0", **settings}
        began = time.monotonic()
        node = cls(data, log, _begin(data, log, environ))
        try:
            async with asyncio.timeout(START_S):
                while not node._is_up():  # noqa: ASYNC110  (another process writes it)
                    await asyncio.sleep(0.01)
        except BaseException:
            node.process.kill()
            raise
        node.ready_s = time.monotonic() - began
        node.ready_cpu_s = _cpu_s(node.process.pid)
        return node

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        runtime = Runtime.read(self.data)
        return runtime is not None and runtime.pid == self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def runtime(self) -> Runtime:
        runtime = Runtime.read(self.data)
        assert runtime is not None
        return runtime

    @property
    def tcp_port(self) -> int:
        port = urlsplit(self.runtime.tcp).port
        assert port
        return port

    def token(self, subject: str, kind: str) -> str:
        return Identity.open(self.data).mint(subject, kind, ("*",), ("*",), 600, time.time())

    def operator(self) -> httpx.AsyncClient:
        """The admin API, as whoever may read the keys of the data directory."""
        identity = Identity.open(self.data)
        token = identity.mint("operator", Kind.ADMIN, (), ("*",), 900, time.time(), audience="gateway-admin")
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=f"{self.runtime.admin}/api/v1", headers=headers, timeout=20, verify=False)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """As an operator does; what is left of a failed test, too."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)


def _begin(data: Path, log: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-m", "gateway.cli", "run", "--dev", "--data", data)
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environ, stdout=output, stderr=output)


def _cpu_s(pid: int) -> float:
    """What a process has taken of processors so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
