"""Either of two linked nodes is killed: what was accepted arrives once, in order per key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.spooling.test_kills import History
from tests.spooling.traffic import CENTRAL, EDGE, Traffic, a_cluster, until


async def kill_again_and_again(root: Path, times: int, seed: int) -> History:
    random, history = Random(seed), History()
    cluster = await a_cluster(root)
    try:
        for name in (CENTRAL, EDGE):
            await asyncio.to_thread(cluster.start, name)
        traffic = Traffic(cluster, history)
        for _ in range(times):
            enough = len(history.acked) + random.randint(5, 60)
            await until(lambda enough=enough: len(history.acked) >= enough)  # type: ignore[misc]
            name = random.choice((CENTRAL, EDGE))
            cluster.kill(name)
            await asyncio.to_thread(cluster.start, name)
        await traffic.stop()
    finally:
        cluster.end()
    return history


@pytest.mark.timeout(300)
async def test_either_side_is_killed_20_times(tmp_path: Path) -> None:
    """Fault 69: kill -9 at any moment, of the node that accepts or of the one that it hands over to."""
    history = await kill_again_and_again(tmp_path, 20, seed=5)
    history.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_either_side_is_killed_200_times(tmp_path: Path) -> None:
    """Fault 69, P1 and P6."""
    history = await kill_again_and_again(tmp_path, 200, seed=6)
    history.check()
    print(f"{len(history.acked)} acknowledged, {history.again} came again")
