"""How bundles get from central nodes to all nodes, and what nodes say of them back (docs/adr/0025).

`gateway.bundles` is a stream. A node asks the parent that it uses, and says how it stands; the items are bundles:

    {"manifest": text, "signature": base64url, "documents": [text, …], "attempt": n}

A central node asks each peer, and says what it knows: `{"known": {id: [revision, node]}, "nodes": {node: said}}`. The
items are:

    {"bundle": as above, with all its documents, "stand": how it stands}
    {"id": id of a bundle, "stand": how it stands}
    {"nodes": [how each of them stands, …]}

`gateway.bundle.report` tells a parent of a change.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from gateway.control.bundle_standing import BundleNode, node_in
from gateway.control.bundles import Bundles
from gateway.control.held_bundles import Parcel, parcel_in
from gateway.control.members import Members
from gateway.documents.bundles import Facts, parse
from gateway.errors import GatewayError, NotPermitted, Overloaded, RequestInvalid, StorageError
from gateway.federation.answers import as_json
from gateway.federation.bundle_streams import ROUTE, Hearing, Offering, Sharing
from gateway.federation.federation import Federation
from gateway.federation.link import Link
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import DOWNLINK, PEER
from gateway.forwarding.services import NodeServices
from gateway.observe.loggers import structlog
from gateway.wire.frames import FrameType

REPORT: Final = "bundle.report"

_log = structlog.get_logger("gateway.federation")


class Taker(Protocol):
    """The node that acts by bundles; see `activating.Activating`."""

    @property
    def facts(self) -> Facts: ...
    @property
    def place(self) -> tuple[str, int]:
        """How far it has been given bundles: key and attempt of the newest."""
        ...

    def status(self) -> dict[str, Any]: ...
    def offer(self, parcel: Parcel) -> None: ...


class Distributing:
    """`central`: whether this node is one. `attach` comes before the first link."""

    def __init__(
        self, federation: Federation, services: NodeServices, bundles: Bundles, members: Members, *, central: bool
    ) -> None:
        self.federation = federation
        self.bundles = bundles
        self.offerings: set[Offering] = set()
        self.sharings: set[Sharing] = set()
        self._members = members
        self._central = central
        self._taker: Taker | None = None
        self._offered: tuple[str, int] = ("", 0)
        self._parent: Hearing | None = None
        self._peers: dict[Link, Hearing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        services.offer(ROUTE, FrameType.REQUEST_STREAM, self._subscribed)
        services.offer(REPORT, FrameType.REQUEST_RESPONSE, self._reported)

    def attach(self, taker: Taker) -> None:
        """The node itself begins to act by bundles, and is to be told of them."""
        self._taker = taker
        if self._central:
            self.bundles.on_change = self.changed
            self.changed(reach=True)
            self.said()

    async def stop(self) -> None:
        self.bundles.on_change = lambda reach: None
        self._taker = None
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """Hear and tell nothing more: links are over when their requests are."""
        self.use(None)
        told = {each.link for each in self.offerings} | {each.link for each in self.sharings}
        for link in told | self._peers.keys():
            self.down(link)

    def up(self, link: Link) -> None:
        """It is known who is at the other end."""
        if link.side == PEER and self._central:
            self._peers[link] = Hearing(
                self.federation, link, self._known, lambda item: self._take_from_peer(link, item)
            )

    def down(self, link: Link) -> None:
        for offering in [each for each in self.offerings if each.link is link]:
            offering.end()
        for sharing in [each for each in self.sharings if each.link is link]:
            sharing.end()
        listening = self._peers.pop(link, None)
        if listening is not None:
            self._await(listening.stop())

    def use(self, link: Link | None) -> None:
        """Another parent is in use, or none."""
        if self._parent is not None:
            self._await(self._parent.stop())
            self._parent = None
        if link is not None and self._taker is not None and not self._central:
            self._parent = Hearing(self.federation, link, self._taker.status, self._take_from_parent)

    def members_changed(self) -> None:
        """What was made by a node that was not known may be good now."""
        for listening in (*self._peers.values(), *([] if self._parent is None else [self._parent])):
            if listening.refused:
                listening.begin_again()
        if self._central:
            self.do(self._forget())

    def again(self) -> None:
        """What was offered could not be taken then."""
        self._offered = ("", 0)
        if self._parent is not None:
            self._parent.begin_again()
        self.changed(reach=True)

    def said(self) -> None:
        """This node stands in another way than it has said."""
        if self._taker is None:
            return
        status = self._taker.status()
        if self._central:
            self.do(self._heard(node_in(status, self._taker.facts)))
        elif self._parent is not None:
            link = self._parent.link
            link.ask(f"gateway.{REPORT}", as_json(status), lambda document: None, self._unheard)

    def _unheard(self, text: str) -> None:
        _log.warning("the parent has not taken how this node stands", why=text)
        if self._parent is not None:
            # It is said again with the next question.
            self._parent.begin_again()

    def changed(self, reach: bool) -> None:
        """Something has changed on this central node. `reach`: which node is to act by what may have."""
        for sharing in self.sharings:
            sharing.changed()
        if reach and not self._scheduled:
            self._scheduled = True
            self.federation.plane.schedule(self._look)

    def _look(self) -> None:
        self._scheduled = False
        for offering in list(self.offerings):
            offering.look()
        if self._taker is None or not self._central:
            return
        wanted = self.bundles.wanted(self._taker.facts)
        if wanted is not None and (wanted.id, wanted.attempt) > max(self._offered, self._taker.place):
            self._offered = (wanted.id, wanted.attempt)
            self.do(self._offer_itself(wanted.id))

    async def _offer_itself(self, key: str) -> None:
        bundle = self.bundles.known.get(key)
        if bundle is not None and self._taker is not None:
            self._taker.offer(await self.bundles.parcel(bundle, self._taker.facts))

    async def _heard(self, said: BundleNode) -> None:
        await self.bundles.heard(said)

    async def _forget(self) -> None:
        await self.bundles.members_changed()

    # What others tell

    async def _take_from_parent(self, item: dict[str, Any]) -> None:
        if self._taker is not None:
            self._taker.offer(parcel_in(item))

    async def _take_from_peer(self, link: Link, item: dict[str, Any]) -> None:
        if "nodes" in item:
            for each in item["nodes"]:
                said = node_in(each, Facts(str(uuid.UUID(each["node"])), str(each["name"]), str(each["role"])))
                self._mark(link, lambda sharing, said=said: sharing.heard_of(said))  # type: ignore[misc]
                await self.bundles.heard(said)
            return
        stand = item["stand"]
        parcel = parcel_in(item["bundle"]) if "bundle" in item else None
        key = str(item["id"]) if parcel is None else key_in(parcel)
        place = (int(stand["revision"]), str(stand["revised_by"]))
        self._mark(link, lambda sharing: sharing.heard(key, place))
        if parcel is None:
            await self.bundles.adopt_revision(key, stand, link.name)
        else:
            await self.bundles.adopt(parcel, stand, link.name)

    def _mark(self, link: Link, mark: Callable[[Sharing], None]) -> None:
        for sharing in self.sharings:
            if sharing.link is link:
                mark(sharing)

    def _known(self) -> dict[str, Any]:
        return {
            "known": {key: list(bundle.stand) for key, bundle in self.bundles.known.items()},
            "nodes": {node: said.said for node, said in self.bundles.nodes.items()},
        }

    # What others ask

    def _subscribed(self, exchange: Exchange) -> None:
        link = self.federation.of(exchange)
        if link.side == PEER and self._central:
            try:
                Sharing(self, exchange, link, json.loads(exchange.data))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
                raise RequestInvalid("gateway.bundles takes what is known", reason="bundles") from error
            return
        said, again = self._of_child(exchange, link)
        offering = Offering(self, exchange, link, said.facts)
        self.do(self._begin(offering, said, ("", 0) if again else (said.tried, said.attempt)))

    async def _begin(self, offering: Offering, said: BundleNode, had: tuple[str, int]) -> None:
        try:
            await self.bundles.heard(said)
        except StorageError as error:
            # It counts in memory.
            _log.warning("what a node says of its bundle cannot be stored", node=said.name, why=error.text)
        offering.begin(had)

    def _reported(self, exchange: Exchange) -> None:
        link = self.federation.of(exchange)
        said, _ = self._of_child(exchange, link)
        self.do(self._take_report(exchange, said))

    async def _take_report(self, exchange: Exchange, said: BundleNode) -> None:
        try:
            await self.bundles.heard(said)
        except StorageError as error:
            if exchange.open:
                exchange.fail(Overloaded("the report cannot be stored now; try again", reason=error.reason))
            return
        if exchange.open:
            exchange.reply(b"{}")

    def _of_child(self, exchange: Exchange, link: Link) -> tuple[BundleNode, bool]:
        """What a child says of itself, and whether it wants to be told again what it was told. Raises RequestInvalid,
        NotPermitted."""
        member = self._members.find(str(uuid.UUID(bytes=link.node)))
        if link.side != DOWNLINK or not self._central or member is None:
            raise NotPermitted(f"{exchange.route} is for children of central nodes", reason="link_side")
        try:
            data = json.loads(exchange.data)
            return node_in(data, Facts(member.id, link.name, member.role)), data.get("again") is True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RequestInvalid(f"{exchange.route} takes how a node stands", reason="bundles") from error

    # Tasks

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        self._await(self.federation.loop.create_task(self._done(work), name="bundles"))

    @staticmethod
    async def _done(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GatewayError as error:
            _log.warning("bundles", why=error.text)

    def _await(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def key_in(parcel: Parcel) -> str:
    """Raises ValueError."""
    return parse(parcel.text).key
