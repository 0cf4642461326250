"""The event loops that a node runs on: uvloop where there is one, asyncio's own where not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib.util import find_spec

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def every() -> LoopFactories:
    """For what is about sockets themselves, which behave differently under each."""
    return {"asyncio": asyncio.new_event_loop, **usual()}


def usual() -> LoopFactories:
    """The one that `gateway run` takes here."""
    if find_spec("uvloop") is None:
        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
