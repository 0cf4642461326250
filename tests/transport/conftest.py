"""Sockets behave differently under each event loop: what is about their ends runs on every one that a node can have."""

from __future__ import annotations

import pytest

from tests.loops import LoopFactories, every, usual

_ABOUT_SOCKETS = {"tests.transport.test_carrier", "tests.transport.test_tls", "tests.transport.test_listener"}


def pytest_asyncio_loop_factories(item: pytest.Function) -> LoopFactories:
    return every() if item.module.__name__ in _ABOUT_SOCKETS else usual()
