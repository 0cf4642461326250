"""What the edges of this central tell it, and what has to be in the engine for it.

`attach` takes an edge, by compare-and-set where there is an engine; from then on its book is kept, and every key that
the book makes is wanted. No I/O but in `attach`: the writer does the rest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from random import Random

from gateway.errors import FederationError
from gateway.federation.table import names
from gateway.federation.table.books import Book, Books, Claim
from gateway.federation.table.lease import Lease
from gateway.federation.table.owned import OwnedKeys
from gateway.federation.table.records import EdgeRecord, Offer
from gateway.federation.table.store import Change, RecordInvalid, RouteStore, Unavailable
from gateway.federation.table.view import TableView
from gateway.federation.table.writing import Writer

#: How long an edge waits for the engine to give it its epoch; then this central does.
ATTACH_S = 1.0
#: How far ahead of this node's clock an edge's epoch may be.
AHEAD_MS = 86_400_000


class Hosting:
    """`name` is this central's, and that of the edge that its own clients are behind."""

    def __init__(
        self,
        name: str,
        store: RouteStore,
        view: TableView,
        lease: Lease,
        *,
        on_displaced: Callable[[str], None],
        on_lost: Callable[[str, str, int], None],
        touched: Callable[[Iterable[str], Iterable[str], Iterable[str]], None],
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        random: Random | None,
    ) -> None:
        self.name = name
        self.books = Books()
        self.owned = OwnedKeys(random)
        self.writer = Writer(store, self.owned, lease, self, clock, random)
        self._view = view
        self._lease = lease
        self._on_displaced = on_displaced
        self._on_lost = on_lost
        self._touched = touched
        self._clock = clock
        self._wall_ms = wall_ms
        #: Which claims their edges were told to be lost, so that it is said once.
        self._lost: dict[tuple[str, str], int] = {}
        #: Edges that were attached without the engine's word.
        self._provisional: set[str] = set()
        self._filled: set[str] = set()

    # What edges say

    def open_own(self) -> None:
        """Takes the edge that this central's own clients are behind."""
        self._open(self.name, max(self._wall_ms(), 1))
        self._provisional.add(self.name)
        self._want_edge(self.name)

    async def attach(self, edge: str, epoch: int = 0) -> int:
        """This central holds an edge's uplink from now on; returns the epoch of the edge's life.

        `epoch` 0 begins a new life; else it is what the edge was told before, here or elsewhere. Without an engine the
        answer is this central's own, and is written later.

        Raises:
            FederationError: a later life of that name is known (`edge_superseded`), its epoch lies in the future
                (`edge_epoch`), or the name is a central's (`edge_name`).
        """
        node = self._view.nodes.get(edge)
        if edge == self.name or (node is not None and node.record is not None):
            raise FederationError(
                f"{edge!r} is the name of a central; an edge needs one of its own", reason="edge_name"
            )
        held = self.books.edges.get(edge)
        if held is not None and epoch == held.epoch:
            return epoch
        key = names.edge_key(edge)
        try:
            async with asyncio.timeout(ATTACH_S):
                await self._lease.taken.wait()
                epoch, revision = await self.writer.attach(
                    edge, lambda known: self._life(edge, epoch, known), self._shards
                )
        except (TimeoutError, Unavailable):
            known = self._view.edges.get(edge)
            epoch = self._life(edge, epoch, 0 if known is None else known.epoch)
            self._open(edge, epoch)
            self._provisional.add(edge)
            self._want_edge(edge)
            return epoch
        self._open(edge, epoch)
        self._provisional.discard(edge)
        self.owned.adopt(key, revision, hash(self.encoded(key)), self._clock())
        if self._view.held_revision(key) > revision:
            # Another central was told, and has said so, before this answer was here.
            self.displaced(edge)
        return epoch

    def replace(self, edge: str, claims: Iterable[Claim], offers: Mapping[str, Offer]) -> None:
        """All that is behind an attached edge."""
        book = self.books.edges.get(edge)
        if book is None:
            return
        self._touch_book(book)
        width = book.shards
        changed = self.books.replace(edge, claims)
        offered = self.books.offer(edge, offers)
        self._touch_book(book)
        if edge in self._filled:
            self._want_shards(book, changed, width)
            if offered:
                self._want_services(book)
        else:
            self._filled.add(edge)
            self._want_all(book)
        for claim in book:
            self.contend(claim.device)
        self.writer.wake()

    def join(self, edge: str, claim: Claim) -> None:
        book = self.books.edges.get(edge)
        if book is not None:
            width = book.shards
            self._want_shards(book, self.books.join(edge, claim), width)
            self._touched((claim.device,), (), ())
            self.contend(claim.device)

    def leave(self, edge: str, device: str) -> None:
        book = self.books.edges.get(edge)
        if book is not None:
            width = book.shards
            self._want_shards(book, self.books.leave(edge, device), width)
            self._lost.pop((edge, device), None)
            self._touched((device,), (), ())

    def offer(self, edge: str, offers: Mapping[str, Offer]) -> None:
        """All services of an attached edge."""
        book = self.books.edges.get(edge)
        if book is None:
            return
        before = set(book.offers)
        if self.books.offer(edge, offers):
            self._want_services(book)
            self._touched((), before.union(offers), ())

    def detach(self, edge: str) -> None:
        """The uplink is gone. Another central that has the edge by now keeps it."""
        book = self._close(edge)
        if book is not None:
            # Shards stay: they are right for whoever holds the edge next, and end by themselves.
            for key in self.owned.of_edge(edge):
                if key.startswith(f"{names.EDGE}."):
                    self.owned.unwanted(key, self._clock())
                else:
                    self.owned.disown(key)
            self.writer.wake()

    # What the engine is to have

    def _life(self, edge: str, epoch: int, known: int) -> int:
        if not epoch:
            return max(self._wall_ms(), known + 1)
        if epoch > self._wall_ms() + AHEAD_MS:
            raise FederationError(f"edge {edge!r} has an epoch that lies in the future", reason="edge_epoch")
        if epoch < known:
            raise FederationError(
                f"edge {edge!r} of epoch {epoch} is superseded by one of epoch {known}: two edges have this name",
                reason="edge_superseded",
            )
        return epoch

    def _open(self, edge: str, epoch: int) -> None:
        known = self._view.edges.get(edge)
        same = known is not None and known.epoch == epoch
        indices = {name: index for name, (index, _) in known.services.items()} if known is not None and same else {}
        self.books.open(Book(edge, epoch, indices=indices, shards=self._shards(edge, epoch)))
        self._filled.discard(edge)
        self._touched((), (), (edge,))

    def _shards(self, edge: str, epoch: int) -> int:
        """How many shards an edge has in this life, as far as the table knows."""
        known = self._view.edges.get(edge)
        if known is None or known.epoch != epoch or not known.shards:
            return 1
        return 1 << max(known.shards).bit_length()

    def _close(self, edge: str) -> Book | None:
        book = self.books.close(edge)
        self._provisional.discard(edge)
        self._filled.discard(edge)
        if book is not None:
            self._touch_book(book)
            self._touched((), (), (edge,))
            for claim in book:
                self._lost.pop((edge, claim.device), None)
        return book

    def displaced(self, edge: str) -> None:
        if self._close(edge) is not None:
            for key in self.owned.of_edge(edge):
                self.owned.disown(key)
            self._on_displaced(edge)

    def taken_over(self, change: Change) -> bool:
        """Whether another central holds an edge of ours, since after this one had it."""
        try:
            record = EdgeRecord.decode(change.value or b"")
            edge = names.parse(change.key).name
        except RecordInvalid:
            return False
        book = self.books.edges.get(edge)
        if book is None or (record.central == self.name and record.central_epoch == self._lease.epoch):
            return False
        if edge == self.name or (edge in self._provisional and record.epoch <= book.epoch):
            return False
        return change.revision > self.owned.revision(change.key)

    def contested(self, edge: str, record: EdgeRecord) -> bool:
        """The engine has another holder of an edge than this central: whether it gives way, or writes again."""
        book = self.books.edges.get(edge)
        if edge == self.name and book is not None:
            if record.epoch >= book.epoch:
                # This node's own, of a life in which its clock was ahead.
                book.epoch = record.epoch + 1
                self._want_all(book)
            return False
        if book is None or record.epoch > book.epoch or edge not in self._provisional:
            self.displaced(edge)
            return True
        return False

    def held(self, edge: str) -> None:
        """The engine has this central as an edge's holder."""
        self._provisional.discard(edge)

    def encoded(self, key: str) -> bytes | None:
        """The value of a key of ours; None when there is none (any more)."""
        kind, edge, shard = names.parse(key)
        book = self.books.edges.get(edge)
        if book is None:
            return None
        if kind == names.EDGE:
            return EdgeRecord(self.name, self._lease.epoch, book.epoch, book.shards).encode()
        return book.encode_services() if kind == names.SERVICES else book.encode(shard)

    def _want_shards(self, book: Book, shards: Iterable[int], width: int) -> None:
        now = self._clock()
        for shard in shards:
            key = names.devices_key(book.edge, shard)
            if shard < book.shards:
                self.owned.want(key, now)
            else:
                self.owned.unwanted(key, now)
        if width != book.shards:
            self.owned.want(names.edge_key(book.edge), now)
        self.writer.wake()

    def _want_all(self, book: Book) -> None:
        """An edge has come: of its shards only those are written that the table does not have already."""
        now, view = self._clock(), self._view
        for shard in range(book.shards):
            key = names.devices_key(book.edge, shard)
            self.owned.want(key, now, view.held_revision(key), view.digest(key), book.encode(shard))
        known = view.edges.get(book.edge)
        for shard in list(known.shards) if known is not None else ():
            if shard >= book.shards:
                self.owned.unwanted(names.devices_key(book.edge, shard), now)
        key = names.edge_key(book.edge)
        self.owned.want(key, now, new=self.encoded(key))
        self._want_services(book)

    def _want_services(self, book: Book) -> None:
        key = names.services_key(book.edge)
        value = self.encoded(key)
        self.owned.want(key, self._clock(), self._view.held_revision(key), self._view.digest(key), value)
        self.writer.wake()

    def contend(self, device: str) -> None:
        """Tells edges of this central, once each, when somebody has claimed their device later."""
        for book, claim in self.books.holders(device):
            best = self._view.device(device, besides=book.edge)
            latest = (0, 0) if best is None else best[1]
            for other, rival in self.books.holders(device):
                if other is not book:
                    latest = max(latest, (rival.stamp, 0))
            known = self._view.edges.get(book.edge)
            written = None if known is None else known.claim(device)
            # Of two claims of one moment the later write wins, and what is not written yet will be the later.
            revision = math.inf if written is None else written[1]
            if latest > (claim.stamp, revision) and self._lost.get((book.edge, device)) != claim.stamp:
                self._lost[book.edge, device] = claim.stamp
                self._on_lost(book.edge, device, claim.stamp)

    def _want_edge(self, edge: str) -> None:
        self.owned.want(names.edge_key(edge), self._clock())
        self.writer.wake()

    def _touch_book(self, book: Book) -> None:
        self._touched([claim.device for claim in book], book.offers, ())
