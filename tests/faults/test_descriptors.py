"""A node in a process of its own that may have few descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.transport.listener import RESERVED_DESCRIPTORS
from tests.local_node import until
from tests.rawclient import ConnectionEnded, RawClient

LIMIT = 128
_PROGRAM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
if sys.argv.pop(1) == "asyncio":
    sys.modules["uvloop"] = None
import gateway.cli
gateway.cli.main()
"""


def _start(directory: Path, loop: str) -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "GATEWAY__LISTEN__WEBSOCKET": "",
        "GATEWAY__LISTEN__TCP": "127.0.0.1:0",
        "GATEWAY__ADMIN__LISTEN": "",
        "GATEWAY__TELEMETRY__LISTEN": "",
        "GATEWAY__AUTH__MODE": "off",
        "GATEWAY__LOG__FORMAT": "json",
        # The crowd stays for as long as the test takes.
        "GATEWAY__LIMITS__SETUP_TIMEOUT_S": "300",
    }
    with open(directory / "log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, loop, "run", "--dev", "--data", str(directory / "data")],
            stderr=log,
            env=environ,
        )


def _port(log: str) -> int:
    (url,) = [json.loads(line)["url"] for line in log.splitlines() if '"listening"' in line]
    return int(url.rpartition(":")[2])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def _works(port: int) -> bool:
    try:
        async with await RawClient.connect_tcp(port) as client:
            client.setup()
            await client.ready()
            return True
    except (OSError, ConnectionEnded):
        return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_out_of_descriptors(tmp_path: Path, loop: str) -> None:
    """Fault 15: 64 descriptors stay free, who is there is served, nothing spins, and there is room when they go."""
    process = _start(tmp_path, loop)
    read = (tmp_path / "log").read_text
    crowd: list[socket.socket] = []
    try:
        await until(lambda: '"ready"' in read(), 60)
        port = _port(read())
        async with await RawClient.connect_tcp(port) as first:
            first.setup()
            await first.ready()
            for _ in range(400):
                crowd.append(socket.socket())
                crowd[-1].setblocking(False)
                crowd[-1].connect_ex(("127.0.0.1", port))
            await until(lambda: _descriptors(process.pid) >= LIMIT - RESERVED_DESCRIPTORS - 1)
            # It has turned the others away first.
            async with asyncio.timeout(30):
                spent = 0.25
                while spent >= 0.25:
                    before = _cpu_seconds(process.pid)
                    await asyncio.sleep(0.5)
                    spent = _cpu_seconds(process.pid) - before
            # What it opens for a moment, such as a file of its own, comes on top.
            assert _descriptors(process.pid) <= LIMIT - RESERVED_DESCRIPTORS + 4
            await first.barrier()
            assert not await _works(port)
            for opened in crowd:
                opened.close()
            async with asyncio.timeout(30):
                while not await _works(port):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 40)
        assert process.returncode == 0
        assert "Traceback" not in read()
    finally:
        for opened in crowd:
            opened.close()
        process.kill()
        process.wait()
