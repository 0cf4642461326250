"""One group commit: what was acknowledged leaves, what was appended is admitted or refused, in one transaction.

Runs in the writer's thread on values that the loop handed over, and returns what became of them; it changes nothing
that is not in the database, so that a transaction that fails has changed nothing at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.errors import SpoolFull
from gateway.spool import posts, records
from gateway.spool.inbox import Arrived, Receipt, receive
from gateway.spool.message import LANE_SHIFT, Message, Record, checksum
from gateway.spool.records import Removal
from gateway.spool.rules import SpoolRules, WhenFull

#: Evicted beyond what is needed when the file itself is full: only whole pages can be used again.
PAGES_BYTES = 64 * 1024
#: Looked at before anything is written, because most volumes have far more than a group commit needs.
NEAR_FULL_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Head:
    """Where a lane goes on: `number` and `seq` of its next message. `epoch` 0: it has none in this run yet."""

    lane: int
    number: int
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Ground:
    """A destination as its appends find it: bytes in use, bytes of the volume that it may still use, lanes by priority,
    numbers that are on their way."""

    destination: str
    rules: SpoolRules
    used: int
    spare: int
    lanes: Sequence[int]
    kept: Collection[int]


#: What became of one message: its (epoch, seq); None: taken and dropped; or why it is refused.
Verdict = tuple[int, int] | None | SpoolFull


@dataclass(frozen=True, slots=True)
class Append:
    """All of it or nothing; with `each`, every message by itself. `running` and `wall`: when, in ms. `arrived`: it came
    from another store, each message once: marks and messages in one transaction."""

    destination: str
    messages: Sequence[Message]
    running: int
    wall: int
    each: bool = False
    arrived: Arrived | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`stale`: messages by destination that outlived their own limit. `make_room`: the file is full, whatever the sums
    say."""

    settled: Collection[int]
    appends: Sequence[Append]
    grounds: Mapping[str, Ground]
    heads: Mapping[int, Head]
    stale: Mapping[str, Collection[int]] = field(default_factory=dict)
    make_room: bool = False


@dataclass(slots=True)
class Outcome:
    """`results`: for each append the verdicts, or why all of it is refused; the receipt of what has `arrived`. `again`:
    posts by destination that had come before."""

    results: list[list[Verdict] | Receipt | SpoolFull] = field(default_factory=list)
    heads: dict[int, Head] = field(default_factory=dict)
    stored: dict[int, tuple[int, int]] = field(default_factory=dict)
    settled: Removal = field(default_factory=dict)
    evicted: Removal = field(default_factory=dict)
    losses: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)


class Commit:
    """A work for `Database.write`: `Commit(plan).run`. May be run again after it failed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def run(self, connection: sqlite3.Connection) -> Outcome:
        plan = self._plan
        self._connection = connection
        self._outcome = Outcome(heads={lane: replace(head) for lane, head in plan.heads.items()})
        self._rows: list[Record] = []
        self._used = {name: ground.used for name, ground in plan.grounds.items()}
        self._destination = {lane: name for name, ground in plan.grounds.items() for lane in ground.lanes}
        if plan.settled:
            self._outcome.settled = removed = records.remove(connection, plan.settled)
            self._freed(removed)
        for destination, numbers in plan.stale.items():
            self._evicted(records.remove(connection, numbers), destination, "expired")
        self._added = 0
        self._free = 0
        if any(ground.spare < NEAR_FULL_BYTES for ground in plan.grounds.values()):
            # Half of what the free pages hold: records do not fill pages.
            self._free = records.free_bytes(connection) // 2
        for append in plan.appends:
            ground = plan.grounds[append.destination]
            if append.arrived is not None:
                self._outcome.results.append(self._receive(append, append.arrived, ground))
            elif append.each and any(message.post is not None for message in append.messages):
                self._outcome.results.append([self._admit_post(each, append, ground) for each in append.messages])
            else:
                self._outcome.results.append(self._admit(append, ground))
        self._write()
        if self._outcome.losses:
            records.count_losses(connection, self._outcome.losses)
        return self._outcome

    def _receive(self, append: Append, arrived: Arrived, ground: Ground) -> Receipt | SpoolFull:
        """What is new of it is admitted, or none of it has come."""
        by_seq = dict(zip(arrived.seqs, append.messages, strict=True))
        fresh: list[Message] = []
        self._connection.execute("SAVEPOINT arrival")
        result: Receipt | SpoolFull
        try:
            result = receive(self._connection, arrived, lambda _, seq: fresh.append(by_seq[seq]))
        except SpoolFull as error:
            result = error
        if fresh and not isinstance(result, SpoolFull):
            verdicts = self._admit(replace(append, messages=fresh, arrived=None), ground)
            if isinstance(verdicts, SpoolFull):
                result = verdicts
        if isinstance(result, SpoolFull):
            self._connection.execute("ROLLBACK TO arrival")
        self._connection.execute("RELEASE arrival")
        return result

    def _admit_post(self, message: Message, append: Append, ground: Ground) -> Verdict:
        """Take it if it has not come before, with the mark by which it is known then. One by one, because what is
        refused must leave none."""
        post = message.post
        if post is not None and posts.has_come(self._connection, post):
            self._outcome.again[ground.destination] = self._outcome.again.get(ground.destination, 0) + 1
            return None
        verdicts = self._admit(replace(append, messages=(message,)), ground)
        if isinstance(verdicts, SpoolFull):
            return verdicts
        if post is not None and not isinstance(verdicts[0], SpoolFull):
            posts.remember(self._connection, post, append.running)
        return verdicts[0]

    def _admit(self, append: Append, ground: Ground) -> list[Verdict] | SpoolFull:
        verdicts = self._admit_all(append, ground)
        if isinstance(verdicts, SpoolFull) and append.each:
            if len(append.messages) == 1:
                return [verdicts]
            return [
                each if isinstance(each, SpoolFull) else each[0]
                for message in append.messages
                for each in (self._admit_all(replace(append, messages=(message,)), ground),)
            ]
        return verdicts

    def _admit_all(self, append: Append, ground: Ground) -> list[Verdict] | SpoolFull:
        need = sum([message.size for message in append.messages])
        room = self._room(ground)
        policy = ground.rules.when_full
        if need > room or self._plan.make_room:
            if policy is WhenFull.DROP_NEWEST:
                return self._what_fits(append, ground, 0 if self._plan.make_room else room)
            if policy is WhenFull.REJECT or need > ground.rules.max_bytes:
                return self._refusal(ground)
            if not self._make_room(
                append, ground, 2 * need + PAGES_BYTES if self._plan.make_room else need - room, need
            ):
                return self._refusal(ground)
        return self._take(append.messages, append, ground)

    def _room(self, ground: Ground) -> int:
        return min(ground.rules.max_bytes - self._used[ground.destination], self._spare(ground))

    def _spare(self, ground: Ground) -> int:
        return max(0, ground.spare) + self._free - self._added

    def _refusal(self, ground: Ground) -> SpoolFull:
        if self._plan.make_room:
            return SpoolFull("the spool's file is full and nothing may make room", reason="storage_full")
        if self._spare(ground) < ground.rules.max_bytes - self._used[ground.destination]:
            return SpoolFull(
                f"the volume has less than {ground.rules.min_free:.0%} free; nothing more is taken for "
                f"{ground.destination}",
                reason="volume_full",
            )
        return SpoolFull(
            f"the spool for {ground.destination} holds {self._used[ground.destination]} of {ground.rules.max_bytes} "
            "bytes",
            reason="spool_full",
        )

    def _what_fits(self, append: Append, ground: Ground, room: int) -> list[Verdict]:
        results: list[Verdict] = []
        for message in append.messages:
            if message.size <= room:
                room -= message.size
                results += self._take((message,), append, ground)
            else:
                self._lost(ground.destination, "dropped_newest", 1, message.size)
                results.append(None)
        return results

    def _take(self, messages: Sequence[Message], append: Append, ground: Ground) -> list[Verdict]:
        ids: list[Verdict] = []
        running, wall = append.running, append.wall
        conflates = ground.rules.when_full is WhenFull.CONFLATE
        taken = 0
        for message in messages:
            lane = ground.lanes[message.priority]
            head = self._outcome.heads[lane]
            if not head.epoch:
                head.epoch = records.next_epoch(self._connection)
            number, epoch, seq = head.number, head.epoch, head.seq
            head.number = number + 1
            head.seq = seq + 1
            ttl = None if message.ttl_s is None else max(1, int(message.ttl_s * 1000))
            key, payload = message.key, message.payload
            gauge = lane if conflates and key else None
            crc = checksum(number, epoch, seq, running, wall, ttl, key, payload)
            self._rows.append(Record(number, epoch, seq, running, wall, ttl, gauge, crc, key, payload))
            size = message.size
            taken += size
            stored, total = self._outcome.stored.get(lane, (0, 0))
            self._outcome.stored[lane] = stored + 1, total + size
            ids.append((epoch, seq))
        self._used[ground.destination] += taken
        self._added += taken
        return ids

    def _write(self) -> None:
        records.insert(self._connection, self._rows)
        self._rows = []

    def _make_room(self, append: Append, ground: Ground, wanted: int, need: int) -> bool:
        """Whether there is room now. Where there is not, nothing was deleted in vain."""
        self._write()
        self._connection.execute("SAVEPOINT room")
        if ground.rules.when_full is WhenFull.DROP_OLDEST:
            reason, removed = "evicted", self._drop_oldest(append, ground, wanted)
        else:
            reason, removed = "conflated", self._conflate(append, ground, wanted)
        enough = _size(removed) >= (need if self._plan.make_room else wanted)
        if enough:
            self._evicted(removed, ground.destination, reason)
            self._added -= _size(removed)
        else:
            self._connection.execute("ROLLBACK TO room")
        self._connection.execute("RELEASE room")
        return enough

    def _drop_oldest(self, append: Append, ground: Ground, wanted: int) -> Removal:
        removed: Removal = {}
        for priority in range(len(ground.lanes) - 1, min(message.priority for message in append.messages) - 1, -1):
            missing = wanted - _size(removed)
            if missing <= 0:
                break
            removed |= records.remove_oldest(self._connection, ground.lanes[priority], missing, ground.kept)
        return removed

    def _conflate(self, append: Append, ground: Ground, wanted: int) -> Removal:
        removed: Removal = {}
        keys = {(ground.lanes[message.priority], message.key) for message in append.messages if message.key}
        for lane, key in keys:
            _add(removed, records.remove_earlier(self._connection, lane, key, ground.kept))
        for lane in reversed(ground.lanes):
            missing = wanted - _size(removed)
            if missing <= 0:
                break
            _add(removed, records.remove_superseded(self._connection, lane, missing, ground.kept))
        return removed

    def _evicted(self, removed: Removal, destination: str, reason: str) -> None:
        for lane, entries in removed.items():
            self._lost(destination, reason, len(entries), sum(size for _, size in entries))
            self._outcome.evicted.setdefault(lane, []).extend(entries)
        self._freed(removed)

    def _freed(self, removed: Removal) -> None:
        for lane, entries in removed.items():
            # What is acknowledged may be of a destination that nothing was appended to.
            if (destination := self._destination.get(lane)) is not None:
                self._used[destination] -= sum(size for _, size in entries)

    def _lost(self, destination: str, reason: str, messages: int, size: int) -> None:
        before = self._outcome.losses.get((destination, reason), (0, 0))
        self._outcome.losses[destination, reason] = before[0] + messages, before[1] + size


def _size(removed: Removal) -> int:
    return sum(size for entries in removed.values() for _, size in entries)


def _add(removed: Removal, more: Removal) -> None:
    for lane, entries in more.items():
        removed.setdefault(lane, []).extend(entries)


def recover(lanes: Collection[int]) -> Callable[[sqlite3.Connection], dict[int, Head]]:
    """Where lanes go on after a commit whose outcome is not known. Their next message begins an epoch."""

    def work(connection: sqlite3.Connection) -> dict[int, Head]:
        return {
            lane: Head(lane, max(records.last_of(connection, lane), lane << LANE_SHIFT) + 1, 0, 1) for lane in lanes
        }

    return work
