"""What the edges of one central have told it: who is behind each, in shards, as it is to be in the shared table.

Pure. A book changes with every join and leave, and names the shards that have to be written again; it encodes them when
they are. Equal states give equal bytes at every central, so that an edge that moves costs one key and not all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gateway.federation.table.records import Offer, Services, ServicesRecord, ShardRecord, shard_of, shards_for


class Claim(NamedTuple):
    """A device, when it was claimed (`HybridClock`), and the services that it has registered."""

    device: str
    stamp: int
    services: tuple[str, ...] = ()


class Book:
    """One edge in one life (`epoch`).

    `indices` and `shards` are those that the table has of the same life; the numbers of services go on from there.
    """

    def __init__(self, edge: str, epoch: int, *, indices: Mapping[str, int] | None = None, shards: int = 1) -> None:
        self.edge = edge
        self.epoch = epoch
        self.shards = shards
        self.offers: dict[str, Offer] = {}
        self.size = 0
        self._indices = dict(indices or {})
        self._parts: list[dict[str, Claim]] = [{} for _ in range(shards)]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Claim]:
        for part in self._parts:
            yield from part.values()

    def get(self, device: str) -> Claim | None:
        return self._parts[shard_of(device, self.shards)].get(device)

    def join(self, claim: Claim) -> set[int]:
        """Takes a claim, in place of an older one; the shards to write. An older one than is known changes nothing."""
        number = shard_of(claim.device, self.shards)
        part = self._parts[number]
        before = part.get(claim.device)
        if before is not None and (before.stamp > claim.stamp or before == claim):
            return set()
        part[claim.device] = claim
        self.size += before is None
        return self._resized() or {number}

    def leave(self, device: str) -> set[int]:
        """The shards to write; none for a device that is not here."""
        number = shard_of(device, self.shards)
        if self._parts[number].pop(device, None) is None:
            return set()
        self.size -= 1
        return self._resized() or {number}

    def replace(self, claims: Iterable[Claim]) -> set[int]:
        """All that is behind the edge; the shards to write."""
        latest: dict[str, Claim] = {}
        for claim in claims:
            held = latest.get(claim.device)
            if held is None or held.stamp <= claim.stamp:
                latest[claim.device] = claim
        before, width = self._parts, self.shards
        self.size = len(latest)
        self.shards = shards_for(self.size, self.shards)
        self._parts = self._parted(latest.values())
        if self.shards != width:
            return set(range(max(self.shards, width)))
        return {number for number, part in enumerate(self._parts) if part != before[number]}

    def encode(self, shard: int) -> bytes | None:
        """A shard's value; None when there is none of that number (any more)."""
        if shard >= self.shards:
            return None
        numbered: dict[tuple[str, ...], Services] = {}
        rows = []
        for device, stamp, services in self._parts[shard].values():
            numbers = numbered.get(services)
            if numbers is None:
                numbers = numbered[services] = self._numbered(services)
            rows.append((device, stamp, numbers))
        return ShardRecord.encode(self.epoch, rows)

    def encode_services(self) -> bytes:
        """Raises RecordInvalid when they are too many for one record."""
        for name in sorted(self.offers):
            self._index(name)
        return ServicesRecord(self.epoch, self.offers, self._indices).encode()

    def _numbered(self, services: tuple[str, ...]) -> Services:
        numbers = sorted(self._index(name) for name in set(services))
        return numbers[0] if len(numbers) == 1 else tuple(numbers)

    def _index(self, service: str) -> int:
        index = self._indices.get(service)
        if index is None:
            index = self._indices[service] = max(self._indices.values(), default=-1) + 1
        return index

    def _resized(self) -> set[int]:
        """Parts anew when there are too many or too few; then every shard of before and after is to be written."""
        width = self.shards
        wanted = shards_for(self.size, width)
        if wanted == width:
            return set()
        self.shards = wanted
        self._parts = self._parted(list(self))
        return set(range(max(width, wanted)))

    def _parted(self, claims: Iterable[Claim]) -> list[dict[str, Claim]]:
        parts: list[dict[str, Claim]] = [{} for _ in range(self.shards)]
        for claim in claims:
            parts[shard_of(claim.device, self.shards)][claim.device] = claim
        return parts


class Books:
    """The books of all edges whose uplink this central holds, its own clients' among them."""

    def __init__(self) -> None:
        self.edges: dict[str, Book] = {}
        self._holders: dict[str, dict[Book, None]] = {}
        self._offering: dict[str, dict[Book, None]] = {}

    def open(self, book: Book) -> None:
        """In place of another one of that edge."""
        self.close(book.edge)
        self.edges[book.edge] = book

    def close(self, edge: str) -> Book | None:
        book = self.edges.pop(edge, None)
        if book is not None:
            for claim in book:
                self._left(claim.device, book)
            self._offer(book, {})
        return book

    def join(self, edge: str, claim: Claim) -> set[int]:
        book = self.edges[edge]
        shards = book.join(claim)
        if shards:
            self._holders.setdefault(claim.device, {})[book] = None
        return shards

    def leave(self, edge: str, device: str) -> set[int]:
        book = self.edges[edge]
        shards = book.leave(device)
        if shards:
            self._left(device, book)
        return shards

    def replace(self, edge: str, claims: Iterable[Claim]) -> set[int]:
        book = self.edges[edge]
        before = {claim.device for claim in book}
        shards = book.replace(claims)
        after = {claim.device for claim in book}
        for device in before - after:
            self._left(device, book)
        for device in after - before:
            self._holders.setdefault(device, {})[book] = None
        return shards

    def offer(self, edge: str, offers: Mapping[str, Offer]) -> bool:
        """Whether that says anything new."""
        book = self.edges[edge]
        if book.offers == offers:
            return False
        self._offer(book, offers)
        return True

    def holder(self, device: str) -> tuple[Book, Claim] | None:
        """The book with the latest claim of a device."""
        best: tuple[Book, Claim] | None = None
        for book in self._holders.get(device, ()):
            claim = book.get(device)
            if claim is not None and (best is None or claim.stamp > best[1].stamp):
                best = (book, claim)
        return best

    def holders(self, device: str) -> list[tuple[Book, Claim]]:
        """All of them."""
        found = [(book, book.get(device)) for book in self._holders.get(device, ())]
        return [(book, claim) for book, claim in found if claim is not None]

    def offering(self, service: str) -> Iterator[Book]:
        yield from self._offering.get(service, ())

    def _offer(self, book: Book, offers: Mapping[str, Offer]) -> None:
        for name in book.offers.keys() - offers.keys():
            held = self._offering[name]
            del held[book]
            if not held:
                del self._offering[name]
        for name in offers.keys() - book.offers.keys():
            self._offering.setdefault(name, {})[book] = None
        book.offers = dict(offers)

    def _left(self, device: str, book: Book) -> None:
        held = self._holders.get(device)
        if held is not None:
            held.pop(book, None)
            if not held:
                del self._holders[device]
