"""Thousands of connections come, ask and go, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path

import pytest

from tests.local_node import LocalNode, until


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _churn(node: LocalNode, cycles: int, tokens: list[str]) -> None:
    ports = json.dumps({transport: node.port(transport) for transport in ("ws", "tcp")})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.child",
        "churn",
        ports,
        str(cycles),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate("\n".join(tokens).encode())
    assert process.returncode == 0
    assert json.loads(out) == []


@pytest.mark.parametrize("cycles", [2_500, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_thousands_of_cycles_leave_nothing(node: LocalNode, cycles: int) -> None:
    """Half over each transport, half by FIN and half by reset: no task, route, hop, stream, socket, descriptor or
    decision stays, and memory settles."""
    servant = await node.servant()
    tokens = [node.token(f"churn-{number}") for number in range(8)]
    await _churn(node, 500, tokens)  # what is made once is made now
    await until(lambda: not _others(node))
    servant.heard.clear()
    # The last that ended are remembered, so many and no more.
    assert node.node.plane.register.closed.maxlen
    node.node.plane.register.closed.clear()
    gc.collect()
    before = len(gc.get_objects()), _descriptors(), _resident_bytes(), len(asyncio.all_tasks())
    stats_before = len(node.node.metrics.services)
    await _churn(node, cycles, tokens)
    await until(lambda: not _others(node))
    servant.heard.clear()
    # The last that ended are remembered, so many and no more.
    assert node.node.plane.register.closed.maxlen
    node.node.plane.register.closed.clear()
    gc.collect()
    objects, descriptors, resident, tasks = (
        len(gc.get_objects()) - before[0],
        _descriptors() - before[1],
        _resident_bytes() - before[2],
        len(asyncio.all_tasks()) - before[3],
    )
    # Fewer than before are those of an earlier test, collected only now.
    assert descriptors <= 0
    assert tasks <= 0
    assert objects < 250 + cycles // 40, objects
    assert resident < 8 << 20, resident
    plane = node.node.plane
    assert len(plane.table) == 2  # gateway, echo
    assert plane.counters.streams_open == 0
    assert sum(plane.counters.connections_open.values()) == 3
    assert plane.counters.connections_opened["client"] == cycles + 501
    assert len(node.node.metrics.services) == stats_before
    assert all(listener.handshakes == 0 for listener in node.node.listeners.values())


def _others(node: LocalNode) -> bool:
    """Whether anybody but the servant is there."""
    return sum(listener.open_sockets for listener in node.node.listeners.values()) > 1
