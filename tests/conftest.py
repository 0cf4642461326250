"""Fixtures for every test that wants a running node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.local_node import LocalNode

StartNode = Callable[..., Awaitable[LocalNode]]


@pytest.fixture
async def start_node(tmp_path: Path) -> AsyncIterator[StartNode]:
    """`await start_node({"limits.setup_timeout_s": 0.5}, dev=False)`: a node with these settings; see `LocalNode`."""
    started: list[LocalNode] = []

    async def start(more: dict[str, object] | None = None, *, dev: bool = True, data: Path | None = None) -> LocalNode:
        local = await LocalNode.start(data or tmp_path / f"data-{len(started)}", more, dev=dev)
        started.append(local)
        return local

    yield start
    for local in started:
        await local.finish()


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """A node as `gateway run --dev` starts it, on ports of its own."""
    return await start_node()
