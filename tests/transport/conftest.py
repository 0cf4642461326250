"""Sockets behave differently under each event loop, so everything here runs on every one that a node can have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.loops import factories


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return factories()
