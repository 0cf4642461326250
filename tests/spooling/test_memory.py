"""What a node holds in memory does not grow with what waits on its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.processes import Node, node
from bench.spooling import SETTINGS, growth, spool_of
from gateway.load.run import complete


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_messages_wait(tmp_path: Path) -> None:
    """Between the first tenth of them and the last one nothing is added but what a busy node goes up and down by."""

    async def grown(at: Node) -> int:
        async with spool_of(at) as spool:
            return await growth(spool, 1_000_000)

    with node(tmp_path / "node", settings=SETTINGS) as started:
        added = complete(grown(started))
    print(f"\n{added / 2**20:.1f} MiB")
    assert added < 64 * 2**20
