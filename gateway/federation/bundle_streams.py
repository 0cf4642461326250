"""The streams `gateway.bundles` of a node's links: what is heard over one, what a node is offered, what a peer is told.

Between the links and `distributing`, which says what the items are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.control.bundle_standing import BundleNode
from gateway.control.table import public
from gateway.documents.bundles import Facts
from gateway.errors import GatewayError
from gateway.federation.answers import as_json
from gateway.federation.link import AGAIN_S, Link
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.inquiry import Inquiry
from gateway.observe.loggers import structlog

if TYPE_CHECKING:
    from gateway.federation.distributing import Distributing
    from gateway.federation.federation import Federation

ROUTE: Final = "bundles"
#: How long a node that does not tell of bundles is left alone at most, in seconds.
LEFT_S: Final = 30.0
#: Items of one link that wait for the disk; with more it is begun anew.
MAX_WAITING: Final = 256
#: Nodes in one item.
BATCH: Final = 256

_log = structlog.get_logger("gateway.federation")


class Listening:
    """The stream of one link, which is asked for again whenever it ends. `refused`: an item was no good."""

    def __init__(
        self,
        federation: Federation,
        link: Link,
        asked: Callable[[], dict[str, Any]],
        take: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.link = link
        self.refused = False
        self._federation = federation
        self._asked = asked
        self._take = take
        self._stream: Inquiry | None = None
        self._again: asyncio.TimerHandle | None = None
        self._pause_s = AGAIN_S
        self._items: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._task = federation.loop.create_task(self._take_all(), name="bundles")
        self._ask()

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
        if self._stream is not None:
            self._stream.cancel()
        self._over(None)

    def _ask(self) -> None:
        self._again = None
        self.refused = False
        if not self.link.connection.closed:
            asked = as_json(self._asked())
            self._stream = self._federation.desk.ask(
                self.link.connection, f"gateway.{ROUTE}", asked, self._item, self._over, stream=True
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

    def _over(self, text: str | None) -> None:
        self._stream = None
        if self.link.usable and self._again is None:
            self._again = self._federation.loop.call_later(self._pause_s, self._ask)
            # A node of an older version has nothing to say.
            self._pause_s = min(self._pause_s * 2, LEFT_S)

    async def _take_all(self) -> None:
        while True:
            item = await self._items.get()
            try:
                await self._take(item)
            except (GatewayError, ValueError, KeyError, TypeError, RecursionError) as error:
                self.refused = True
                self._federation.plane.counters.refuse(getattr(error, "reason", "bundle_malformed"))
                _log.warning("a bundle that was told is not taken", node=self.link.name, why=str(error))


class Offering:
    """One node that has asked: what it is to act by, whenever that is something newer."""

    def __init__(self, distributing: Distributing, exchange: Exchange, link: Link, facts: Facts) -> None:
        self._distributing = distributing
        self._exchange = exchange
        self.link = link
        self.facts = facts
        self._had: tuple[str, int] = ("", 0)
        exchange.on_end = lambda: distributing.offerings.discard(self)
        distributing.offerings.add(self)

    def begin(self, had: tuple[str, int]) -> None:
        self._had = had
        self.look()

    def look(self) -> None:
        wanted = self._distributing.bundles.wanted(self.facts)
        if wanted is not None and (wanted.id, wanted.attempt) > self._had:
            self._had = (wanted.id, wanted.attempt)
            self._distributing.do(self._send(wanted.id))

    async def _send(self, key: str) -> None:
        bundles = self._distributing.bundles
        bundle = bundles.known.get(key)
        if bundle is None:
            return
        try:
            parcel = await bundles.parcel(bundle, self.facts)
        except GatewayError as error:
            _log.warning("a bundle cannot be read", bundle=bundle.number, why=error.text)
            self._exchange.complete()
            return
        if self._exchange.open and self._exchange.credit > 0:
            self._exchange.send(as_json(parcel.document()))

    def end(self) -> None:
        self._exchange.complete()


class Sharing:
    """One peer that has asked: which bundles it lacks, and what it does not know of those and of nodes."""

    def __init__(self, distributing: Distributing, exchange: Exchange, link: Link, asked: dict[str, Any]) -> None:
        self._distributing = distributing
        self._exchange = exchange
        self.link = link
        self._stands = {str(key): (int(stand[0]), str(stand[1])) for key, stand in asked["known"].items()}
        self._nodes = {str(node): int(said) for node, said in asked["nodes"].items()}
        self._telling = False
        self._scheduled = False
        exchange.on_end = lambda: distributing.sharings.discard(self)
        distributing.sharings.add(self)
        self.changed()

    def heard(self, key: str, stand: tuple[int, str]) -> None:
        """The peer knows this itself."""
        self._stands[key] = max(stand, self._stands.get(key, (0, "")))

    def heard_of(self, said: BundleNode) -> None:
        self._nodes[said.node] = max(said.said, self._nodes.get(said.node, 0))

    def changed(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._distributing.federation.plane.schedule(self._flush)

    def end(self) -> None:
        self._exchange.complete()

    def _flush(self) -> None:
        self._scheduled = False
        bundles = self._distributing.bundles
        news = [said for said in bundles.nodes.values() if self._nodes.get(said.node, 0) < said.said]
        self._nodes |= {said.node: said.said for said in news}
        for at in range(0, len(news), BATCH):
            self._send({"nodes": [public(said) for said in news[at : at + BATCH]]})
        missing = []
        for key, bundle in bundles.known.items():
            stand = self._stands.get(key)
            if stand is None:
                missing.append(key)
            elif stand < bundle.stand:
                self._send({"id": key, "stand": bundles.told(key)})
            self._stands[key] = bundle.stand
        if missing:
            self._distributing.do(self._send_all(missing))

    async def _send_all(self, keys: list[str]) -> None:
        bundles = self._distributing.bundles
        for key in keys:
            bundle = bundles.known.get(key)
            if bundle is None:
                continue
            try:
                parcel = await bundles.parcel(bundle, None)
            except GatewayError as error:
                _log.warning("a bundle cannot be read", bundle=bundle.number, why=error.text)
                continue
            self._send({"bundle": parcel.document(), "stand": bundles.told(key)})

    def _send(self, item: dict[str, Any]) -> None:
        if self._exchange.open and self._exchange.credit > 0:
            self._exchange.send(as_json(item))
