"""Messages: as they are given to a spool, as they wait in it, and the checksum over what is on disk."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from gateway.spool.rules import DEFAULT_PRIORITY, PRIORITIES

#: What a record costs on disk besides its key and payload, about.
OVERHEAD_BYTES = 48
LANE_SHIFT = 40
_FACTS = struct.Struct("<qqqqqqI")


class MessageId(NamedTuple):
    """Unique among all nodes. `seq` counts from 1 without a hole in an epoch: one class in one run of a node."""

    node: str
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.node}/{self.epoch:x}/{self.seq}"


class Post(NamedTuple):
    """The id that a device gave what it posts: `seq` rises in an epoch, and one is answered before the next is sent."""

    subject: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Message:
    """`key`: messages of one key and class are delivered in order; empty: in any order. `priority`: 0 goes first.
    `ttl_s`: seconds until it is of no use, besides the spool's own limit of age. `post`: whoever sent it may send it
    again, and means one.

    Raises:
        ValueError: a value is out of its range.
    """

    payload: bytes
    key: bytes = b""
    priority: int = DEFAULT_PRIORITY
    ttl_s: float | None = None
    post: Post | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.priority < PRIORITIES:
            raise ValueError(f"priority is 0 to {PRIORITIES - 1}")
        if self.ttl_s is not None and not 0 < self.ttl_s < 1e9:
            raise ValueError("ttl_s must be above 0")

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.key) + OVERHEAD_BYTES


class Record(NamedTuple):
    """A row of `messages`; see the migration for what the columns are."""

    number: int
    epoch: int
    seq: int
    running: int
    wall: int
    ttl: int | None
    lane: int | None
    crc: int
    key: bytes
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.key) + OVERHEAD_BYTES


class Waiting(NamedTuple):
    """A message in a spool. `age_s`: seconds since it was accepted, when it was read. `historical`: it was accepted
    before the spool last had a link, so that whoever gets it can tell it from what happens now. `ttl_s`: its own
    limit of age, where it has one."""

    id: MessageId
    number: int
    priority: int
    key: bytes
    payload: bytes
    age_s: float
    historical: bool = False
    ttl_s: float | None = None

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.key) + OVERHEAD_BYTES


class Opened(NamedTuple):
    """A message that waits. `subject`: who sent it; `interaction`: fireAndForget or requestResponse."""

    subject: str
    interaction: str
    route: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one class and one epoch, by rising `seq`, to be taken in this order and in one transaction.

    `floor`: whatever is below it in this epoch is settled, delivered or not, and never comes (again). `oldest_epoch`:
    the same of the epochs below it in this lane.
    """

    node: str
    lane: str
    epoch: int
    oldest_epoch: int
    floor: int
    priority: int
    messages: tuple[Waiting, ...]

    @property
    def size(self) -> int:
        return sum(message.size for message in self.messages)


def checksum(
    number: int, epoch: int, seq: int, running: int, wall: int, ttl: int | None, key: bytes, payload: bytes
) -> int:
    """CRC-32 over all that is stored of a message."""
    facts = _FACTS.pack(number, epoch, seq, running, wall, -1 if ttl is None else ttl, len(key))
    return zlib.crc32(payload, zlib.crc32(key, zlib.crc32(facts)))


def is_sound(record: Record) -> bool:
    """Whether the record is what was written. Whatever a damaged page says the columns are, it does not raise."""
    try:
        return record.crc == checksum(*record[:6], record.key, record.payload)
    except (TypeError, struct.error, ValueError):
        return False
