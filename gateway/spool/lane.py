"""One class of one destination as the event loop sees it: sums, what was read ahead, what is on its way.

Only a window of a lane is in memory, whatever waits on disk. Knows no database: `Spool` reads and hands in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gateway.spool.admission import Head
from gateway.spool.message import LANE_SHIFT, Record
from gateway.spool.records import Page, Usage

#: Messages and bytes that are read ahead, at most; more would only be looked through for a key that is free.
AHEAD = 4096
AHEAD_BYTES = 4 * 1024 * 1024
PAGE = 1024


@dataclass(slots=True)
class Flight:
    """What is left of one batch that was handed out. `partly`: some of it is settled."""

    epoch: int
    left: dict[int, Record]
    partly: bool = False

    @property
    def floor(self) -> int:
        return next(iter(self.left.values())).seq


class Lane:
    def __init__(self, lane: int, priority: int, usage: Usage) -> None:
        self.id = lane
        self.priority = priority
        self.messages = usage.messages
        self.size = usage.size
        self.head = Head(lane, max(usage.last, lane << LANE_SHIFT) + 1, 0, 1)
        self.oldest: tuple[int, int] | None = None
        self.flights: list[Flight] = []
        #: Changes when what was read ahead is not to be relied on any more.
        self.generation = 0
        self.reading = False
        #: How often keys had become free when none of what is ahead had a free one.
        self.stuck_at = -1
        self._ahead: list[Record] = []
        self._ahead_size = 0
        self._start = lane << LANE_SHIFT
        self._cursor = self._start
        self._last = self.head.number - 1
        # On their way, or acknowledged and still on disk, or gone while a page was being read: not to be taken again.
        self._taken: set[int] = set()
        self._gone: set[int] = set()

    @property
    def unread(self) -> bool:
        return self._last > self._cursor

    @property
    def ready(self) -> bool:
        return bool(self._ahead) or self.unread

    @property
    def full(self) -> bool:
        return len(self._ahead) >= AHEAD or self._ahead_size >= AHEAD_BYTES

    @property
    def ahead(self) -> int:
        return len(self._ahead)

    @property
    def cursor(self) -> int:
        return self._cursor

    @property
    def taken(self) -> Collection[int]:
        return self._taken

    @property
    def in_flight(self) -> int:
        return sum(len(flight.left) for flight in self.flights)

    @property
    def lowest(self) -> int | None:
        """A number that none of what is still to be delivered is below; None: nothing is."""
        found = [min(flight.left) for flight in self.flights]
        if self._ahead:
            found.append(self._ahead[0].number)
        elif self.unread:
            found.append(self._cursor + 1)
        return min(found, default=None)

    def stored(self, messages: int, size: int, head: Head) -> None:
        self.messages += messages
        self.size += size
        self.head = head
        self._last = head.number - 1

    def removed(self, entries: Collection[tuple[int, int]]) -> None:
        """These are on disk no more."""
        if not entries:
            return
        self.messages -= len(entries)
        self.size -= sum(size for _, size in entries)
        numbers = {number for number, _ in entries}
        self.release(numbers)
        if self._ahead and min(numbers) <= self._ahead[-1].number and max(numbers) >= self._ahead[0].number:
            self._keep_ahead(record for record in self._ahead if record.number not in numbers)

    def release(self, numbers: Collection[int]) -> None:
        self._taken.difference_update(numbers)
        if self.reading:
            self._gone.update(numbers)

    def recovered(self, usage: Usage, head: Head) -> None:
        """What is on disk after a commit whose outcome was not known."""
        self.messages, self.size, self.head = usage.messages, usage.size, head
        self._last = head.number - 1

    def read(self, page: Page, generation: int) -> None:
        """A page that was asked for when `generation` stood."""
        gone, self._gone = self._gone, set()
        if generation != self.generation:
            return
        self._cursor = page.through
        for record in page.records:
            if record.number not in self._taken and record.number not in gone:
                self._ahead.append(record)
                self._ahead_size += record.size
        if not page.records and not page.damaged:
            self._cursor = max(self._cursor, self._last)

    def choose(self, limit: int, max_bytes: int, busy: Collection[bytes]) -> list[Record]:
        """The next of one epoch whose keys are free, in order; at least one if there is any. They stay ahead."""
        chosen: list[Record] = []
        size = 0
        for record in self._ahead:
            if record.key and record.key in busy:
                continue
            if chosen and record.epoch != chosen[0].epoch:
                break
            chosen.append(record)
            size += record.size
            if len(chosen) >= limit or size >= max_bytes:
                break
        return chosen

    def floors(self, epoch: int) -> tuple[int, int]:
        """The oldest epoch that has something left, and the lowest of `epoch`, which has something ahead."""
        oldest = min([self._ahead[0].epoch, *(flight.epoch for flight in self.flights)])
        floor = next(record.seq for record in self._ahead if record.epoch == epoch)
        for flight in self.flights:
            if flight.epoch == epoch:
                floor = min(floor, flight.floor)
        return oldest, floor

    def take(self, chosen: Sequence[Record]) -> None:
        """These are handed out. `chosen` is what `choose` gave, and not empty."""
        self.flights.append(Flight(chosen[0].epoch, {record.number: record for record in chosen}))
        self.drop_ahead(chosen)

    def drop_ahead(self, chosen: Sequence[Record]) -> None:
        """These are no longer ahead, and not to be read again."""
        numbers = [record.number for record in chosen]
        self._taken.update(numbers)
        count = len(chosen)
        if self._ahead[count - 1] is chosen[-1]:
            del self._ahead[:count]
            self._ahead_size -= sum([record.size for record in chosen])
        else:
            gone = set(numbers)
            self._keep_ahead(record for record in self._ahead if record.number not in gone)

    def settle(self, numbers: Collection[int]) -> list[Record]:
        """These have arrived; they stay taken until they are deleted."""
        settled = []
        for flight in self.flights:
            for number in flight.left.keys() & numbers:
                settled.append(flight.left.pop(number))
                flight.partly = True
        self._end_flights()
        return settled

    def settle_through(self, epoch: int, seq: int) -> list[Record]:
        """Everything of this epoch up to `seq` that was handed out has arrived."""
        return self.settle(
            {
                number
                for flight in self.flights
                if flight.epoch == epoch and flight.floor <= seq
                for number, record in flight.left.items()
                if record.seq <= seq
            }
        )

    def put_back(self, numbers: Collection[int]) -> list[Record]:
        """These have not arrived: they are read again, in their order."""
        back = []
        for flight in self.flights:
            for number in flight.left.keys() & numbers:
                back.append(flight.left.pop(number))
        self._end_flights()
        self._taken -= {record.number for record in back}
        if back:
            self.forget_ahead()
        return back

    def forget_ahead(self) -> None:
        """Read the lane from its start again."""
        self.generation += 1
        self._keep_ahead(())
        self._cursor = self._start

    def _keep_ahead(self, records: Iterable[Record]) -> None:
        self._ahead = list(records)
        self._ahead_size = sum([record.size for record in self._ahead])

    def _end_flights(self) -> None:
        self.flights = [flight for flight in self.flights if flight.left]
