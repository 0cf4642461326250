"""Replies of the node's own services that wait for somebody else: the disk, or another process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from gateway.errors import RequestError
from gateway.forwarding.exchange import Exchange


class Replies:
    """Those of one service that are under way, a task each. `name` is what the tasks are called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Exchange, reply: Coroutine[Any, Any, dict[str, Any]]) -> None:
        """Answer with what `reply` gives, as JSON, if anybody still waits for it. A RequestError that it raises is what
        the caller gets instead, and is counted."""
        task = asyncio.get_running_loop().create_task(self._reply(exchange, reply), name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _reply(exchange: Exchange, reply: Coroutine[Any, Any, dict[str, Any]]) -> None:
        try:
            answer = await reply
        except RequestError as error:
            if exchange.open:
                exchange.caller.plane.counters.refuse(error.reason)
                exchange.fail(error)
            return
        if exchange.open:
            exchange.reply(json.dumps(answer, separators=(",", ":")).encode())
