"""The streams `gateway.bundles` of a node's links: what is heard over one, what a node is offered, what a peer is told.

Between the links and `distributing`, which says what the items are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.control.bundle_standing import BundleNode
from gateway.control.table import public
from gateway.documents.bundles import Facts
from gateway.errors import GatewayError
from gateway.federation.answers import as_json
from gateway.federation.link import Link
from gateway.federation.listening import Listening
from gateway.forwarding.exchange import Exchange
from gateway.observe.loggers import structlog

if TYPE_CHECKING:
    from gateway.federation.distributing import Distributing
    from gateway.federation.federation import Federation

ROUTE: Final = "bundles"
#: Nodes in one item.
BATCH: Final = 256

_log = structlog.get_logger("gateway.federation")


class Hearing(Listening):
    """`refused`: an item of this stream was no good. `say`: how this node stands, or what it knows."""

    def __init__(
        self,
        federation: Federation,
        link: Link,
        say: Callable[[], dict[str, Any]],
        take: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.refused = False
        self._say = say
        self._take = take
        super().__init__(federation, link, ROUTE)

    def asked(self) -> dict[str, Any]:
        self.refused = False
        return self._say()

    async def take(self, item: dict[str, Any]) -> None:
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
