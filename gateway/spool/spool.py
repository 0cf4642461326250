"""One destination's spool: ten classes of messages that wait for it.

`append` returns an awaitable that is done when the messages are on disk. `take` hands out batches, in order per key and
class, a key in one batch at a time; what was handed out is deleted once it is settled (`settle`, `acknowledge`), and is
handed out again after `put_back`. Sending is `Delivery`'s; the file, group commit and upkeep are `SpoolStore`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import SpoolFull
from gateway.spool import records
from gateway.spool.admission import Ground
from gateway.spool.inbox import Arrived, Receipt
from gateway.spool.lane import PAGE, Lane
from gateway.spool.message import LANE_SHIFT, Batch, Message, MessageId, Record, Waiting
from gateway.spool.rules import PRIORITIES, SpoolRules, WhenFull
from gateway.spool.turns import Turns

if TYPE_CHECKING:
    from gateway.spool.store import SpoolStore

PAGE_BYTES = 1024 * 1024
#: How slowly the rates of a spool follow what happens, in seconds.
RATE_S = 10.0


@dataclass(frozen=True, slots=True)
class ClassStatus:
    priority: int
    messages: int
    bytes: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """`lost`: messages that left other than by delivery since the file was made, by reason: `expired`, `evicted`,
    `conflated`, `dropped_newest`, `dropped` (by an operator), `corrupt`, and what `discard` was told. `refused`:
    appends that got a "no" in this run, by reason. `drain_eta_s`: None while it does not get shorter."""

    destination: str
    messages: int
    bytes: int
    max_bytes: int
    in_flight: int
    oldest_age_s: float | None
    drain_eta_s: float | None
    appended: int
    delivered: int
    sent_again: int
    lost: dict[str, int]
    refused: dict[str, int]
    classes: tuple[ClassStatus, ...]


class Spool:
    """Made by `SpoolStore.spool`. One event loop uses it."""

    def __init__(self, store: SpoolStore, destination: str, rules: SpoolRules, lanes: Sequence[Lane]) -> None:
        self.destination = destination
        self.rules = rules
        self.lanes = tuple(lanes)
        self.appended = 0
        self.delivered = 0
        self.sent_again = 0
        #: Posts that came once more, and other nodes' messages.
        self.came_again = 0
        self.lost: dict[str, int] = {}
        #: Told of what is lost: by which reason, and how many.
        self.on_lost: Callable[[str, int], None] | None = None
        self.refused: dict[str, int] = {}
        self._store = store
        self._turns = Turns(rules.lower_share)
        self._busy: set[bytes] = set()
        self._frees = 0
        self._stirred = asyncio.Event()
        self._taking = asyncio.Lock()
        self._live_from = 0
        self._rate = 0.0
        self._rated = (0, 0)

    # What waits

    @property
    def messages(self) -> int:
        return sum(lane.messages for lane in self.lanes)

    @property
    def size(self) -> int:
        return sum(lane.size for lane in self.lanes)

    @property
    def untaken(self) -> bool:
        """Whether there may be something on disk that is not in flight."""
        return any(lane.ready for lane in self.lanes)

    def is_of_this_run(self, message: Waiting) -> bool:
        """Whether it was accepted in this run of the store: what is older may have been sent before it ended."""
        return message[0][1] == self.lanes[message[2]].head.epoch

    @property
    def in_flight(self) -> int:
        return sum(lane.in_flight for lane in self.lanes)

    def set_rules(self, rules: SpoolRules) -> None:
        """From the next message on. What waits stays, even if it is more than the new rules would have taken."""
        self.rules = rules
        self._turns = Turns(rules.lower_share)

    def append(self, messages: Iterable[Message]) -> Awaitable[list[MessageId | None]]:
        """Accept all of them or none. Calls are stored in the order in which they are made.

        The awaitable is done when they are on disk, and gives their ids; None for one that the rules dropped at once
        (`dropNewest`). Canceling it does not take them back.

        Raises (when awaited):
            SpoolFull: nothing of it was accepted: `spool_full`, `volume_full`, `storage_full`, `message_too_large`,
                `spool_busy` (the disk is slower than what is appended).
            StorageError: the disk fails; nothing of it is acknowledged, though it may turn up after a restart.
        """
        messages = tuple(messages)
        for message in messages:
            if len(message.payload) + len(message.key) > self.rules.max_message_bytes:
                too_large = SpoolFull(
                    f"a message of {len(message.payload)} bytes; {self.rules.max_message_bytes} may wait",
                    reason="message_too_large",
                )
                return self._store.refuse(self, too_large)
        return self._store.append(self, messages)

    def room_for_appends(self) -> int:
        """Bytes of payload that can be appended now without being refused as `spool_busy`."""
        return self._store.room_for_appends

    def append_each(self, messages: Sequence[Message]) -> asyncio.Future[list[MessageId | SpoolFull | None]]:
        """As `append`, but each is accepted or refused by itself, and none is looked at for its size."""
        return self._store.append(self, messages, each=True)

    def receive(self, arrived: Arrived, messages: Sequence[Message]) -> asyncio.Future[Receipt]:
        """Take what another store hands over, each message once, all of it or nothing; `messages` are of
        `arrived.seqs`, in order. When it is done, the marks and the messages are on disk.

        Raises (when awaited):
            SpoolFull: as for `append`, and `inbox_gaps` when too much of what was sent before has not come.
            StorageError: the disk fails; hand it over again.
        """
        return self._store.append(self, messages, arrived=arrived)

    # Handing out

    def link_is_up(self) -> None:
        """From now on messages are live; those that were accepted before are handed out as `historical`."""
        self._live_from = self._store.timeline.running()

    async def take(self, limit: int = 500, max_bytes: int = PAGE_BYTES) -> Batch | None:
        """The next batch, or None where nothing waits whose key is free.

        Raises:
            StorageError: the file cannot be read.
        """
        async with self._taking:
            self._stirred.clear()
            ready = [lane.priority for lane in self.lanes if lane.ready]
            for priority in self._turns.order(ready):
                allowed = self._turns.allowance(priority, ready)
                share = limit if allowed is None else min(limit, allowed)
                batch = await self._batch_of(self.lanes[priority], share, max_bytes)
                if batch is not None:
                    self._turns.took(priority, len(batch.messages), ready)
                    return batch
            return None

    async def stirred(self) -> None:
        """Until there may be something to take that there was not at the last `take`."""
        await self._stirred.wait()

    def settle(self, batch: Batch) -> None:
        """The far side has all of it on disk. Deleted with the next group commit."""
        for lane in self.lanes:
            if lane.priority == batch.priority:
                self._settled(lane, lane.settle({message.number for message in batch.messages}))

    def acknowledge(self, epoch: int, seq: int) -> int:
        """The far side has everything of this epoch up to `seq`: how many of those in flight that settles.

        What was not handed out is not touched, whatever the far side says.
        """
        count = 0
        for lane in self.lanes:
            settled = lane.settle_through(epoch, seq)
            self._settled(lane, settled)
            count += len(settled)
        return count

    async def discard(self, batch: Batch, reason: str) -> int:
        """What is in flight of it will never be delivered: delete it, and count it as lost by `reason`; how many.

        Raises StorageError.
        """
        count = 0
        for lane in self.lanes:
            if lane.priority == batch.priority:
                gone = lane.settle({message.number for message in batch.messages})
                self._free(gone)
                count += await self._store.lose(self, [record.number for record in gone], reason) if gone else 0
        self._stirred.set()
        return count

    def put_back(self, batch: Batch | None = None) -> int:
        """It did not arrive, or nobody knows: what is still in flight of it waits again, before what came later.

        None: everything in flight. Returns how many.
        """
        count = 0
        for lane in self.lanes:
            if batch is None:
                back = lane.put_back([number for flight in lane.flights for number in flight.left])
            elif batch.priority == lane.priority:
                back = lane.put_back([message.number for message in batch.messages])
            else:
                continue
            self._free(back)
            count += len(back)
        self.sent_again += count
        if count:
            self._stirred.set()
        return count

    # An operator's

    async def peek(self, limit: int = 100, *, priority: int | None = None, after: int = 0) -> list[Waiting]:
        """Some of what waits, oldest first, most important class first, in flight or not; takes nothing.

        `after`: the `number` of the last one seen. Raises StorageError.
        """
        seen: list[Waiting] = []
        for lane in self.lanes:
            if (priority is not None and lane.priority != priority) or (after >> LANE_SHIFT) > lane.id:
                continue
            start = after if after >> LANE_SHIFT == lane.id else 0
            page = await self._store.page(lane, start, limit - len(seen))
            seen += self._waiting(page.records, lane)
            if len(seen) >= limit:
                break
        return seen

    async def drop(
        self, *, ids: Collection[MessageId] | None = None, key: bytes | None = None, priority: int | None = None
    ) -> int:
        """Throw away what waits and matches all that is given (nothing given: everything), and count it as `dropped`.

        What is in flight stays: it may have arrived. Returns how many. Raises StorageError.
        """
        wanted = None if ids is None else {(identity.epoch, identity.seq) for identity in ids}

        def chosen(record: Record) -> bool:
            return (wanted is None or (record.epoch, record.seq) in wanted) and (key is None or record.key == key)

        count = 0
        for lane in self.lanes:
            after = 0
            while lane.messages and (priority is None or lane.priority == priority):
                dropped, after = await self._store.drop(self, lane, after, chosen)
                count += dropped
                if not after:
                    break
        return count

    def replay(self) -> int:
        """Send what is in flight once more, without waiting for its acknowledgement; how many."""
        return self.put_back()

    def status(self) -> SpoolStatus:
        """As of the last look, at most a second ago; reads nothing."""
        ages = [
            self._store.timeline.age(*lane.oldest) for lane in self.lanes if lane.oldest is not None and lane.messages
        ]
        return SpoolStatus(
            destination=self.destination,
            messages=self.messages,
            bytes=self.size,
            max_bytes=self.rules.max_bytes,
            in_flight=self.in_flight,
            oldest_age_s=max(ages) / 1000 if ages else None,
            drain_eta_s=0.0 if not self.messages else self.messages / self._rate if self._rate > 0 else None,
            appended=self.appended,
            delivered=self.delivered,
            sent_again=self.sent_again,
            lost=dict(self.lost),
            refused=dict(self.refused),
            classes=tuple(
                ClassStatus(lane.priority, lane.messages, lane.size, lane.in_flight)
                for lane in self.lanes
                if lane.messages
            ),
        )

    # For the store

    def ground(self, free: int, total: int) -> Ground:
        """`free` and `total`: bytes of the volume."""
        kept: frozenset[int] = frozenset()
        if self.rules.when_full in (WhenFull.DROP_OLDEST, WhenFull.CONFLATE):
            kept = kept.union(*(lane.taken for lane in self.lanes))
        spare = free - int(total * self.rules.min_free)
        return Ground(self.destination, self.rules, self.size, spare, tuple(lane.id for lane in self.lanes), kept)

    def stir(self) -> None:
        self._stirred.set()

    def lose(self, reason: str, messages: int) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + messages
        if self.on_lost is not None:
            self.on_lost(reason, messages)

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def rate(self, elapsed: float) -> None:
        """Follow how fast it gets shorter: delivered less appended, a second."""
        delivered, appended = self._rated
        self._rated = self.delivered, self.appended
        net = (self.delivered - delivered - (self.appended - appended)) / elapsed
        self._rate += (net - self._rate) * min(1.0, elapsed / RATE_S)

    def _settled(self, lane: Lane, settled: Sequence[Record]) -> None:
        if settled:
            self._free(settled)
            self._store.settle(record.number for record in settled)
            self._stirred.set()

    def _free(self, records: Iterable[Record]) -> None:
        self._frees += 1
        # A key is in one batch at a time, so only a batch that is settled in part can still hold it.
        held = {
            record.key
            for lane in self.lanes
            for flight in lane.flights
            if flight.partly
            for record in flight.left.values()
        }
        self._busy -= {record.key for record in records} - held

    async def _batch_of(self, lane: Lane, limit: int, max_bytes: int) -> Batch | None:
        if lane.full and lane.stuck_at == self._frees:
            # Nothing has become free since all that is ahead was looked through in vain.
            return None
        while True:
            if lane.unread and lane.ahead < limit:
                await self._read_ahead(lane)
            chosen = lane.choose(limit, max_bytes, self._busy)
            if stale := [record for record in chosen if self._is_stale(record)]:
                # They are not sent: they leave with the next group commit, as expired.
                lane.drop_ahead(stale)
                self._store.expire(self, [record.number for record in stale])
                continue
            if chosen:
                break
            if not lane.unread or lane.full:
                lane.stuck_at = self._frees
                return None
            await self._read_ahead(lane)
        epoch = chosen[0].epoch
        oldest, floor = lane.floors(epoch)
        lane.take(chosen)
        self._busy |= {record.key for record in chosen if record.key}
        return Batch(
            self._store.node,
            f"{self.destination}/{lane.priority}",
            epoch,
            oldest,
            floor,
            lane.priority,
            tuple(self._waiting(chosen, lane)),
        )

    async def _read_ahead(self, lane: Lane) -> None:
        generation = lane.generation
        lane.reading = True
        try:
            page = await self._store.page(lane, lane.cursor, PAGE)
        finally:
            lane.reading = False
        lane.read(page, generation)
        if page.damaged:
            await self._store.put_aside(self, lane, page.damaged)

    def _is_stale(self, record: Record) -> bool:
        return record.ttl is not None and self._store.timeline.age(record.running, record.wall) > record.ttl

    def _waiting(self, records: Iterable[Record], lane: Lane) -> list[Waiting]:
        age = self._store.timeline.age
        node, priority, live_from = self._store.node, lane.priority, self._live_from
        now = self._store.timeline.running()
        return [
            Waiting(
                MessageId(node, epoch, seq),
                number,
                priority,
                key,
                payload,
                age(running, wall, now) / 1000,
                running < live_from,
                None if ttl is None else ttl / 1000,
            )
            for number, epoch, seq, running, wall, ttl, _, _, key, payload in records
        ]


def lanes_of(destination: str, found: records.Found, numbers: dict[int, int]) -> list[Lane]:
    """The ten lanes of a destination; `numbers`: priority -> lane."""
    return [
        Lane(numbers[priority], priority, found.usage.get(numbers[priority], records.Usage()))
        for priority in range(PRIORITIES)
    ]
