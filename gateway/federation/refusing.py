"""What nodes tell each other over links about tokens that they refuse, and about who belongs to the federation.

`gateway.refusals` is a stream, in both directions of every link. Who asks says how far it has heard each node's ledger
(`control.refusals`); the items are JSON:

    {"node": id, "base": n, "entries": [[number, kind, value, issuer, at or null], …], "whole": true}
    {"members": […]}      to a child: who has come to belong to the federation, has changed, does no more
    {"all": true}         what was known when the stream began has been told

A child is told everything; a parent is told the child's own ledger and those behind it; peers tell each other all that
they know, so that one link that is down between centrals is no matter. What comes over a downlink counts only for nodes
below it, and an edge speaks for the tokens that it has issued and for no others.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Coroutine
from typing import Any, Final

from gateway.control.members import CENTRAL, Members
from gateway.control.refusals import Ledger, Refusals, entries_in
from gateway.errors import RequestInvalid, StorageError
from gateway.federation.federation import Federation
from gateway.federation.link import Link
from gateway.federation.listening import Listening
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import DOWNLINK, UPLINK
from gateway.forwarding.services import NodeServices
from gateway.observe.loggers import structlog
from gateway.wire.frames import FrameType

ROUTE: Final = "refusals"
#: Entries of one item.
BATCH: Final = 256
#: Nodes of which is remembered that something was told before they were known.
MAX_EARLY: Final = 1024

_log = structlog.get_logger("gateway.federation")


class Teller:
    """One subscription: what its caller has not heard. Changes of one loop turn go out together."""

    def __init__(self, refusing: Refusing, exchange: Exchange, link: Link, known: dict[str, tuple[int, int]]) -> None:
        self._refusing = refusing
        self._exchange = exchange
        self.link = link
        #: By node: base, number, and whether it was told that this is all.
        self._told = {node: (*pair, False) for node, pair in known.items()}
        self._changed: set[str] = set()
        #: When each member has changed last that a child knows; it has asked for them when it linked.
        self._members = refusing.members.versions()
        self._begun = False
        self._scheduled = False
        exchange.on_end = self._over
        refusing.tellers.add(self)
        self.changed(*refusing.refusals.ledgers)

    def changed(self, *nodes: str) -> None:
        self._changed.update(nodes)
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._refusing.federation.plane.schedule(self._flush)

    def end(self) -> None:
        """Nothing more is told."""
        self._exchange.complete()

    def _over(self) -> None:
        self._refusing.tellers.discard(self)

    def _flush(self) -> None:
        self._scheduled = False
        if self.link.side == DOWNLINK:
            self._tell_members()
        for node in sorted(self._changed):
            ledger = self._refusing.refusals.ledgers.get(node)
            if ledger is not None and self._is_for_them(node):
                self._tell(node, ledger)
        self._changed.clear()
        if not self._begun:
            self._begun = True
            self._send({"all": True})

    def _tell_members(self) -> None:
        versions = self._refusing.members.versions()
        news = {node for node, version in versions.items() if self._members.get(node) != version}
        self._members = versions
        if news:
            members = [member for member in self._refusing.members.document() if member["id"] in news]
            self._send({"members": members})

    def _is_for_them(self, node: str) -> bool:
        number = uuid.UUID(node).bytes
        if number == self.link.node:
            return False
        return self.link.side != UPLINK or self._refusing.is_own_or_below(number)

    def _tell(self, node: str, ledger: Ledger) -> None:
        if not ledger.entries and node not in self._told:
            return
        base, number, whole = self._told.get(node, (0, 0, False))
        news = ledger.since(base, number)
        if not news and base == ledger.base and whole == ledger.whole:
            return
        entries = [[entry.number, *key, entry.at] for key, entry in news]
        self._told[node] = (ledger.base, ledger.number, ledger.whole)
        batches = [entries[at : at + BATCH] for at in range(0, len(entries), BATCH)] or [[]]
        for batch in batches:
            last = batch is batches[-1]
            self._send({"node": node, "base": ledger.base, "entries": batch, "whole": ledger.whole and last})

    def _send(self, item: dict[str, Any]) -> None:
        if self._exchange.open and self._exchange.credit > 0:
            self._exchange.send(json.dumps(item, separators=(",", ":")).encode())


class Hearing(Listening):
    """What one link tells. `current`: what it knew when the stream began has been heard, and the stream goes on."""

    def __init__(self, refusing: Refusing, link: Link) -> None:
        self.current = False
        self._refusing = refusing
        super().__init__(refusing.federation, link, ROUTE)

    def asked(self) -> dict[str, Any]:
        return {"known": {node: list(pair) for node, pair in self._refusing.refusals.known().items()}}

    def over(self, text: str | None) -> None:
        self.current = False
        super().over(text)

    async def take(self, item: dict[str, Any]) -> None:
        try:
            if "all" in item:
                self.current = True
            else:
                await self._refusing.take(self.link, item)
        except StorageError as error:
            # It counts all the same; what is not on disk is told again after the next start.
            _log.warning("refusals cannot be stored", why=error.text)
        except (ValueError, KeyError, TypeError):
            self._federation.plane.counters.refuse("refusals_malformed")


class Refusing:
    """`central`: whether this node is one."""

    def __init__(
        self, federation: Federation, services: NodeServices, refusals: Refusals, members: Members, *, central: bool
    ) -> None:
        self.federation = federation
        self.refusals = refusals
        self.members = members
        self.central = central
        self.tellers: set[Teller] = set()
        self._hearings: dict[Link, Hearing] = {}
        #: Nodes of which was told before they were known to be members.
        self._early: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()
        services.offer(ROUTE, FrameType.REQUEST_STREAM, self._subscribed)
        refusals.listeners.append(self._changed)

    async def stop(self) -> None:
        self.refusals.listeners = [each for each in self.refusals.listeners if each != self._changed]
        self.drain()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def drain(self) -> None:
        """Hear and tell nothing more: links are over when their requests are."""
        for link in [*self._hearings, *(teller.link for teller in self.tellers)]:
            self.down(link)

    def up(self, link: Link) -> None:
        """It is known who is at the other end: hear what it knows."""
        self._hearings[link] = Hearing(self, link)

    def down(self, link: Link) -> None:
        for teller in [teller for teller in self.tellers if teller.link is link]:
            teller.end()
        hearing = self._hearings.pop(link, None)
        if hearing is not None:
            ending = hearing.stop()
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def members_changed(self) -> None:
        """Tell those who go by what this node says, and forget what nobody goes by any more."""
        for teller in self.tellers:
            teller.changed()
        for node in [node for node in self.refusals.ledgers if self._is_nobody(node)]:
            self._do(self._forget(node))
        if any(not self._is_nobody(node) for node in self._early):
            self._early.clear()
            for hearing in self._hearings.values():
                hearing.begin_again()

    def stale(self) -> list[tuple[str, float]]:
        """What may have been refused elsewhere without this node knowing: by which nodes, and since when (Unix
        seconds)."""
        federation = self.federation
        heard = [link for link, hearing in self._hearings.items() if hearing.current]
        if not self.central:
            up = any(link.side == UPLINK for link in heard)
            return [] if up or not federation.parents else [("all others", federation.down_since)]
        nodes = {link.node for link in heard}
        found = []
        for member in self.members.centrals():
            node = uuid.UUID(member.id).bytes
            if node not in nodes:
                ended = federation.journal.ended.get(node)
                found.append((member.name, federation.began_ms / 1000 if ended is None else ended.at))
        return found

    def _is_nobody(self, node: str) -> bool:
        return uuid.UUID(node).bytes != self.federation.plane.node_id and self.members.find(node) is None

    async def _forget(self, node: str) -> None:
        try:
            await self.refusals.forget(node)
        except StorageError as error:
            _log.warning("refusals cannot be forgotten", why=error.text)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.federation.loop.create_task(work, name="refusals")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def is_own_or_below(self, node: bytes) -> bool:
        if node == self.federation.plane.node_id:
            return True
        links = self.federation.links.values()
        return any(link.side == DOWNLINK and node in link.intake.names for link in links)

    async def take(self, link: Link, item: dict[str, Any]) -> None:
        """One item that a link has told. Raises ValueError, KeyError, TypeError, StorageError."""
        if "members" in item:
            if link.side == UPLINK:
                self.federation.roster.adopt(item, link.name)
            return
        node, base, whole = str(uuid.UUID(item["node"])), item["base"], item["whole"] is True
        if not isinstance(base, int):
            raise ValueError("no number")
        if link.side == DOWNLINK and uuid.UUID(node).bytes not in link.intake.names:
            self.federation.plane.counters.refuse("refusals_not_below")
            return
        member = self.members.find(node)
        if member is None:
            if len(self._early) < MAX_EARLY:
                self._early.add(node)
            return
        entries = entries_in(item["entries"])
        edge = member.role != CENTRAL
        if edge:
            own = [entry for entry in entries if entry[1][2] == member.issuer]
            if len(own) < len(entries):
                self.federation.plane.counters.refuse("refusals_not_own")
            entries = own
        await self.refusals.hear(node, base, entries, whole=whole, edge=edge)

    def _changed(self, node: str) -> None:
        for teller in self.tellers:
            teller.changed(node)

    def _subscribed(self, exchange: Exchange) -> None:
        link = self.federation.of(exchange)
        try:
            known = json.loads(exchange.data)["known"]
            pairs = {str(node): (int(pair[0]), int(pair[1])) for node, pair in known.items()}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise RequestInvalid("gateway.refusals takes how far each node was heard", reason="refusals") from error
        Teller(self, exchange, link, pairs)
