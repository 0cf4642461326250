"""A stream of JSON items that the other end of a link tells, asked for again whenever it ends."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from gateway.federation.answers import as_json
from gateway.federation.link import AGAIN_S, Link
from gateway.forwarding.inquiry import Inquiry

if TYPE_CHECKING:
    from gateway.federation.federation import Federation

#: How long a node that does not tell it is left alone at most, in seconds.
LEFT_S: Final = 30.0
#: Items that wait for the ones before to be on disk; with more the stream is begun anew.
MAX_WAITING: Final = 1024


class Listening(ABC):
    """`route`: what is asked for, without `gateway.`. Items are taken one after the other; what is no JSON object ends
    the stream."""

    def __init__(self, federation: Federation, link: Link, route: str) -> None:
        self.link = link
        self._federation = federation
        self._route = route
        self._stream: Inquiry | None = None
        self._again: asyncio.TimerHandle | None = None
        self._pause_s = AGAIN_S
        self._items: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._task = federation.loop.create_task(self._take_all(), name=route)
        self._ask()

    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """What to say with the question; a stream begins."""

    @abstractmethod
    async def take(self, item: dict[str, Any]) -> None:
        """Take one item. Raises nothing."""

    def stop(self) -> asyncio.Task[None]:
        """Hear no more; the task ends soon."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        self._task.cancel()
        return self._task

    def begin_again(self) -> None:
        """Hear from where it was heard: what came could not be read, or taken, or stored as fast."""
        if self._stream is not None:
            self._stream.cancel()
        self.over(None)

    def over(self, text: str | None) -> None:
        """The stream has ended."""
        self._stream = None
        if self.link.usable and self._again is None:
            self._again = self._federation.loop.call_later(self._pause_s, self._ask)
            # A node of an older version has nothing to say.
            self._pause_s = min(self._pause_s * 2, LEFT_S)

    def _ask(self) -> None:
        self._again = None
        connection = self.link.connection
        if not connection.closed:
            asked = as_json(self.asked())
            self._stream = self._federation.desk.ask(
                connection, f"gateway.{self._route}", asked, self._item, self.over, stream=True
            )

    def _item(self, data: bytes) -> None:
        self._pause_s = AGAIN_S
        try:
            item = json.loads(data)
            if not isinstance(item, dict):
                raise ValueError("no object")
            self._items.put_nowait(item)
        except (ValueError, RecursionError, asyncio.QueueFull):
            self.begin_again()

    async def _take_all(self) -> None:
        while True:
            await self.take(await self._items.get())
