"""The spool file of a node: every destination's messages in one database, one writer, one group commit.

* `append` is done once its group commit is on disk: up to `messages` appends or `seconds`, whichever comes first, and
  whatever came while the disk was busy with the one before.
* A full file, volume or spool is answered by the destination's policy, never by the node going down (fault 72). A disk
  that fails acknowledges nothing; what is on it is looked at anew before anything more is taken (fault 71).
* A damaged file is moved away, what can be read of it is taken over, and the node starts (fault 73).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError, SpoolFull, StorageError
from gateway.spool import posts, records
from gateway.spool.admission import Append, Commit, Outcome, Plan, Verdict, recover
from gateway.spool.age import Clock, Timeline
from gateway.spool.inbox import Arrived, Receipt
from gateway.spool.lane import Lane
from gateway.spool.message import LANE_SHIFT, Message, MessageId, Record
from gateway.spool.records import Page, Removal
from gateway.spool.rules import PRIORITIES, SpoolRules
from gateway.spool.salvage import salvage
from gateway.spool.spool import PAGE_BYTES, Spool, SpoolStatus, lanes_of
from gateway.storage.database import Database
from gateway.storage.schema import Schema

#: "RSSp": what marks a file as a spool.
APPLICATION_ID = 0x52535370
#: Appends that wait for the disk, at most; more are refused until it has caught up.
MAX_WAITING_BYTES = 16 * 1024 * 1024
#: One commit takes no more than this, so that nobody waits for a very long one.
MAX_COMMIT = 4096
#: Low bits of an epoch count; those above are random to a file, so that no two files give out one epoch.
EPOCH_BITS = 20
KEEP_TIME_S = 60.0
EXPIRE_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Grouping:
    """A group commit begins at `messages` appended messages or `seconds` after the first."""

    messages: int = 100
    seconds: float = 0.020


@dataclass(slots=True)
class _Waiting:
    spool: Spool
    append: Append
    size: int
    future: asyncio.Future[Any]


class SpoolStore:
    """Open with `SpoolStore.open`. One event loop uses it."""

    def __init__(
        self,
        database: Database,
        node: str,
        found: records.Found,
        clock: Clock,
        grouping: Grouping,
        alarm: Callable[[str, str], None],
    ) -> None:
        self._alarm = alarm
        self.node = node
        self.database = database
        self.timeline = Timeline(clock, found.running)
        self._found = found
        self._grouping = grouping
        self._spools: dict[str, Spool] = {}
        self._lanes: dict[int, tuple[Lane, Spool]] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_messages = 0
        self._waiting_bytes = 0
        self._settled: set[int] = set()
        self._stale: dict[str, set[int]] = {}
        self._since = 0.0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._unsure = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._volume = (1, 1)

    @classmethod
    async def open(
        cls,
        path: Path,
        node: str,
        *,
        max_bytes: int = 1280 * 1024 * 1024,
        grouping: Grouping | None = None,
        clock: Clock | None = None,
        upkeep_s: float = 1.0,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        calm: Callable[[str], None] = lambda slug: None,
    ) -> SpoolStore:
        """Open the file, making it on first use. `node`: who the messages are from. `max_bytes`: of the file, for all
        destinations together. `upkeep_s`: how often what is too old is looked for.

        Raises:
            StorageError: another process has it, it is another program's or a newer one's, or it cannot be used.
        """
        database = await Database.open(
            path,
            schema(),
            max_bytes=max_bytes,
            alarm=alarm,
            calm=calm,
            lost="what waited in it is taken over as far as it can be read",
        )
        try:
            first = secrets.randbits(63 - EPOCH_BITS) << EPOCH_BITS
            await database.write(partial(records.begin, first_epoch=first), reserve=True)
            if database.prepared.quarantined is not None:
                saved = await salvage(database.prepared.quarantined, database)
                alarm("spool_salvaged", f"{saved} messages of the damaged spool {path} could be read and still wait")
            found = await database.read(records.found, limit_s=600)
        except BaseException:
            await database.close()
            raise
        store = cls(database, node, found, clock or Clock(), grouping or Grouping(), alarm)
        store._look_at_volume()
        store._tasks = [
            asyncio.create_task(store._commit_on(), name="spool: group commits"),
            asyncio.create_task(store._keep_up(upkeep_s), name="spool: upkeep"),
        ]
        return store

    async def spool(self, destination: str, rules: SpoolRules | None = None) -> Spool:
        """The spool for a destination, made on first use; `rules` replace those that it has. Raises StorageError."""
        spool = self._spools.get(destination)
        if spool is None:
            numbers = await self.database.write(
                partial(records.add_lanes, destination=destination, priorities=range(PRIORITIES)), reserve=True
            )
            # Somebody else may have asked for it meanwhile.
            spool = self._spools.get(destination) or self._enter(destination, rules or SpoolRules(), numbers)
        if rules is not None:
            spool.set_rules(rules)
        return spool

    def _enter(self, destination: str, rules: SpoolRules, numbers: dict[int, int]) -> Spool:
        lanes = lanes_of(destination, self._found, numbers)
        spool = self._spools[destination] = Spool(self, destination, rules, lanes)
        for (name, reason), (messages, _) in self._found.losses.items():
            if name == destination:
                spool.lose(reason, messages)
        self._lanes |= {lane.id: (lane, spool) for lane in lanes}
        return spool

    @property
    def spools(self) -> tuple[Spool, ...]:
        return tuple(self._spools.values())

    def forsaken(self) -> dict[str, int]:
        """Messages for destinations that nobody has asked for since the start: somebody should say what is to become
        of them."""
        left: dict[str, int] = {}
        for lane, (destination, _) in self._found.lanes.items():
            if destination not in self._spools and (messages := self._found.usage[lane].messages):
                left[destination] = left.get(destination, 0) + messages
        return left

    def status(self) -> list[SpoolStatus]:
        return [spool.status() for spool in self._spools.values()]

    async def close(self) -> None:
        """Commit what waits, let go of the file. Deliveries must have ended."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._full.set()
        committing, upkeep = self._tasks
        await committing
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
        with suppress(StorageError):
            await self._keep_time()
        await self.database.close()

    # What spools ask for

    def refuse(self, spool: Spool, error: SpoolFull) -> asyncio.Future[Any]:
        spool.refuse(error.reason)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    @property
    def room_for_appends(self) -> int:
        """Bytes that may still be appended before the disk has caught up."""
        return MAX_WAITING_BYTES - self._waiting_bytes

    def append(
        self, spool: Spool, messages: Sequence[Message], *, each: bool = False, arrived: Arrived | None = None
    ) -> asyncio.Future[Any]:
        """Done when it is on disk, with what `admission` says of it: ids, verdicts with `each`, or a `Receipt`."""
        if self._closing:
            return self.refuse(spool, SpoolFull("the spool is closed: the node is stopping", reason="spool_closed"))
        size = sum([message.size for message in messages])
        if self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES:
            text = f"{self._waiting_bytes} bytes wait for the disk already"
            return self.refuse(spool, SpoolFull(text, reason="spool_busy"))
        loop = asyncio.get_running_loop()
        append = Append(spool.destination, messages, self.timeline.running(), self.timeline.wall(), each, arrived)
        waiting = _Waiting(spool, append, size, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_messages += len(messages)
        self._waiting_bytes += size
        self._soon(self._waiting_messages >= self._grouping.messages)
        return waiting.future

    def settle(self, numbers: Iterable[int]) -> None:
        self._settled.update(numbers)
        self._soon(len(self._settled) >= MAX_COMMIT)

    def expire(self, spool: Spool, numbers: Iterable[int]) -> None:
        self._stale.setdefault(spool.destination, set()).update(numbers)
        self._soon(False)

    async def page(self, lane: Lane, after: int, limit: int) -> Page:
        return await self.database.read(
            partial(records.page, lane=lane.id, after=after, limit=limit, max_bytes=PAGE_BYTES)
        )

    async def put_aside(self, spool: Spool, lane: Lane, numbers: Sequence[int]) -> None:
        """Quarantine damaged records; they are counted as `corrupt`."""
        work = partial(records.put_aside, numbers=numbers, now=self.timeline.wall())
        await self._lose(spool, "corrupt", work, reserve=False)

    async def lose(self, spool: Spool, numbers: Collection[int], reason: str) -> int:
        """Delete these, whatever has become of them, and count them as `reason`."""
        return await self._lose(spool, reason, partial(records.remove, numbers=numbers))

    async def drop(self, spool: Spool, lane: Lane, after: int, chosen: Callable[[Record], bool]) -> tuple[int, int]:
        """How many of the next few were dropped, and how far that was (0: to the end)."""
        numbers, through = await self.database.read(partial(records.select, lane=lane.id, after=after, chosen=chosen))
        numbers = [number for number in numbers if number not in lane.taken]
        count = await self._lose(spool, "dropped", partial(records.remove, numbers=numbers)) if numbers else 0
        return count, through

    async def _lose(self, spool: Spool, reason: str, work: Callable[..., Removal], *, reserve: bool = True) -> int:
        """Delete and count it in one transaction. Returns how many."""

        def both(connection: Any) -> Removal:
            removed = work(connection)
            entries = [entry for some in removed.values() for entry in some]
            if entries:
                sums = len(entries), sum(size for _, size in entries)
                records.count_losses(connection, {(spool.destination, reason): sums})
            return removed

        removed = await self.database.write(both, reserve=reserve)
        self._removed(removed)
        count = sum(len(entries) for entries in removed.values())
        if count:
            spool.lose(reason, count)
        return count

    # Group commits

    def _soon(self, full: bool) -> None:
        if not self._wake.is_set():
            self._since = asyncio.get_running_loop().time()
            self._wake.set()
        if full:
            self._full.set()

    async def _commit_on(self) -> None:
        while True:
            await self._wake.wait()
            if not self._full.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._since + self._grouping.seconds):
                        await self._full.wait()
            self._wake.clear()
            self._full.clear()
            group = self._next_group()
            settled, self._settled = self._settled, set()
            stale, self._stale = self._stale, {}
            if group or settled or stale:
                await self._commit(group, settled, stale)
            if self._closing and not self._waiting:
                return
            if self._waiting or self._settled or self._stale or self._closing:
                self._soon(self._closing or self._waiting_messages >= self._grouping.messages)

    def _next_group(self) -> list[_Waiting]:
        count = taken = 0
        for waiting in self._waiting:
            if taken and taken + len(waiting.append.messages) > MAX_COMMIT:
                break
            taken += len(waiting.append.messages)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_messages -= taken
        self._waiting_bytes -= sum(waiting.size for waiting in group)
        return group

    async def _commit(self, group: list[_Waiting], settled: set[int], stale: Mapping[str, set[int]]) -> None:
        try:
            if self._unsure:
                await self._look_again()
            try:
                outcome = await self.database.write(Commit(self._plan(group, settled, stale)).run)
                self._came(outcome, group, settled)
            except StorageError as error:
                if error.reason != "storage_full":
                    raise
                await self._commit_when_full(group, settled, stale)
        except GatewayError as error:
            if isinstance(error, StorageError) and error.reason != "storage_full":
                # The disk may hold it all the same: what is there is looked at before anything more is written.
                self._unsure = True
            self._settled |= settled
            for destination, numbers in stale.items():
                self._stale.setdefault(destination, set()).update(numbers)
            self._refuse_all(group, error)
        except Exception as error:
            # A bug. Whoever appended gets it; the others must not wait for ever.
            self._unsure = True
            self._alarm("spool_failed", f"{self.database.path}: {error!r}")
            self._refuse_all(group, error)

    async def _commit_when_full(self, group: list[_Waiting], settled: set[int], stale: Mapping[str, set[int]]) -> None:
        """The file can grow no more: delete first, then append to what that gave, then make room by policy."""
        if settled or stale:
            self._came(await self.database.write(Commit(self._plan([], settled, stale)).run, reserve=True), [], settled)
            settled.clear()
        try:
            outcome = await self.database.write(Commit(self._plan(group, (), {})).run)
        except StorageError as error:
            if error.reason != "storage_full":
                raise
            plan = replace(self._plan(group, (), {}), make_room=True)
            outcome = await self.database.write(Commit(plan).run, reserve=True)
        self._came(outcome, group, ())

    def _refuse_all(self, group: list[_Waiting], error: Exception) -> None:
        for waiting in group:
            refusal = error
            if isinstance(error, StorageError):
                waiting.spool.refuse(error.reason)
                if error.reason == "storage_full":
                    refusal = SpoolFull(error.text, reason="storage_full")
            if not waiting.future.done():
                waiting.future.set_exception(refusal)

    def _plan(self, group: list[_Waiting], settled: Collection[int], stale: Mapping[str, set[int]]) -> Plan:
        spools = {waiting.spool.destination: waiting.spool for waiting in group}
        return Plan(
            settled=settled,
            appends=[waiting.append for waiting in group],
            grounds={name: spool.ground(*self._volume) for name, spool in spools.items()},
            heads={lane.id: lane.head for spool in spools.values() for lane in spool.lanes},
            stale=stale,
        )

    def _came(self, outcome: Outcome, group: list[_Waiting], settled: Collection[int]) -> None:
        """It is on disk: bring the sums up to date and tell whoever waits."""
        for entries in outcome.settled.values():
            lane, spool = self._lanes[entries[0][0] >> LANE_SHIFT]
            spool.delivered += len(entries)
        self._removed(outcome.settled)
        self._removed(outcome.evicted)
        for number in settled:
            self._lanes[number >> LANE_SHIFT][0].release((number,))
        for lane_id, (messages, size) in outcome.stored.items():
            lane, spool = self._lanes[lane_id]
            lane.stored(messages, size, outcome.heads[lane_id])
            spool.appended += messages
            spool.stir()
        for (destination, reason), (messages, _) in outcome.losses.items():
            self._spools[destination].lose(reason, messages)
        for destination, messages in outcome.again.items():
            self._spools[destination].came_again += messages
        for waiting, result in zip(group, outcome.results, strict=True):
            if isinstance(result, SpoolFull):
                waiting.spool.refuse(result.reason)
            if waiting.future.done():
                continue
            if isinstance(result, SpoolFull):
                waiting.future.set_exception(result)
            elif isinstance(result, Receipt):
                waiting.future.set_result(result)
            else:
                waiting.future.set_result([self._told(waiting.spool, verdict) for verdict in result])

    def _told(self, spool: Spool, verdict: Verdict) -> MessageId | SpoolFull | None:
        if isinstance(verdict, tuple):
            return MessageId(self.node, *verdict)
        if verdict is not None:
            spool.refuse(verdict.reason)
        return verdict

    def _removed(self, removed: Removal) -> None:
        for lane_id, entries in removed.items():
            self._lanes[lane_id][0].removed(entries)

    async def _look_again(self) -> None:
        """Count anew what is on disk, after a commit of which nobody knows."""
        heads = await self.database.write(recover(self._lanes.keys()), reserve=True)
        found = await self.database.read(records.found, limit_s=600)
        for lane_id, (lane, spool) in self._lanes.items():
            lane.recovered(found.usage.get(lane_id, records.Usage()), heads[lane_id])
            spool.stir()
        self._unsure = False

    # Upkeep

    async def _keep_up(self, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        kept = before = loop.time()
        while True:
            await asyncio.sleep(every_s)
            now = loop.time()
            self._look_at_volume()
            for spool in self._spools.values():
                spool.rate(max(1e-3, now - before))
            before = now
            # Whatever fails here fails the next append too, and says so there.
            with suppress(StorageError):
                await self._look_at_oldest()
                for spool in self.spools:
                    await self._expire(spool)
                if now - kept >= KEEP_TIME_S:
                    kept = now
                    await self._keep_time()

    def _look_at_volume(self) -> None:
        with suppress(OSError):
            volume = os.statvfs(self.database.path.parent)
            self._volume = volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize

    async def _look_at_oldest(self) -> None:
        lanes = [lane for lane, _ in self._lanes.values() if lane.messages]
        if not lanes:
            return
        found = await self.database.read(lambda connection: [records.oldest(connection, lane.id) for lane in lanes])
        for lane, oldest in zip(lanes, found, strict=True):
            lane.oldest = oldest

    async def _expire(self, spool: Spool) -> None:
        limit = int(spool.rules.max_age_s * 1000)
        for lane in spool.lanes:
            while lane.messages and lane.oldest is not None and self.timeline.age(*lane.oldest) > limit:
                numbers = await self.database.read(
                    partial(records.expired, lane=lane.id, limit=EXPIRE_PAGE, age=self.timeline.age, max_age=limit)
                )
                # What is in flight may have arrived.
                numbers = [number for number in numbers if number not in lane.taken]
                if not numbers or not await self._lose(spool, "expired", partial(records.remove, numbers=numbers)):
                    break
                lane.oldest = await self.database.read(partial(records.oldest, lane=lane.id))

    async def _keep_time(self) -> None:
        await self.database.write(partial(records.keep_time, running=self.timeline.running()), reserve=True)
        await self.database.write(posts.forget, reserve=True)


def schema() -> Schema:
    return Schema.of_package(APPLICATION_ID, "gateway.spool")
