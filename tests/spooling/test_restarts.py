"""Nodes that are stopped in order and started again while messages go through them (faults 95 and 96)."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.local_node import until
from tests.spooling.test_kills import History
from tests.spooling.traffic import CENTRAL, EDGE, Traffic, a_cluster

pytestmark = pytest.mark.timeout(600)


def _beyond(history: History, traffic: Traffic, enough: int) -> bool:
    return min(len(history.acked), len(traffic.read)) > enough


@pytest.mark.parametrize("restarts", [4, pytest.param(24, marks=pytest.mark.soak)])
async def test_nothing_acknowledged_is_lost(restarts: int, tmp_path: Path) -> None:
    """A node that stops answers what is in flight, and what it has acknowledged is delivered by its next run, once."""
    history = History()
    cluster = await a_cluster(tmp_path)
    try:
        for name in (CENTRAL, EDGE):
            await asyncio.to_thread(cluster.start, name)
        traffic = Traffic(cluster, history)
        try:
            for number in range(restarts):
                name = (EDGE, CENTRAL)[number % 2]
                enough = min(len(history.acked), len(traffic.read)) + 100
                await until(partial(_beyond, history, traffic, enough), 60)
                cluster.kill(name, signal.SIGTERM)
                assert await asyncio.to_thread(cluster.processes[name].wait, 60) == 0
                await asyncio.to_thread(cluster.start, name)
            await traffic.stop()
        finally:
            traffic.cancel()
    finally:
        await asyncio.to_thread(cluster.end)
    history.check()
    assert history.again == 0
