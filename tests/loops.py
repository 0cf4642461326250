"""The event loops that a node runs on: asyncio's own, and uvloop where the extra `fast` is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec


def factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    found: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if find_spec("uvloop") is not None:
        import uvloop

        found["uvloop"] = uvloop.new_event_loop
    return found
