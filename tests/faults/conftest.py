"""What is here runs on the event loop that a node takes in production."""

from __future__ import annotations

from tests.loops import LoopFactories, usual


def pytest_asyncio_loop_factories() -> LoopFactories:
    return usual()
