"""Messages as they go from one node's spool to another's over a link: the data of a `gateway.spool` request.

    u8 version | u16 lane | u16 target | i64 epoch, oldest epoch, floor | u32 messages | lane | target | messages
    message: i64 seq | i64 age in ms | i64 ms that are left of its life (-1: no limit) | u8 flags
             | u16 key | u32 envelope | key | envelope

What the fields mean is `gateway.spool.message.Batch`'s; a consignment without messages asks how things stand. The
answer is JSON: `settled` (cumulative: all of the epoch up to it is on disk there or never comes), `refused` (numbers
that will not be taken, and why), `left` (whether some of what this node sent waits there still). Knows no link.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.errors import FederationError, FrameError

VERSION: Final = 1
_HEAD = struct.Struct(">BHHqqqI")
_ITEM = struct.Struct(">qqqBHI")
_REDELIVERED, _ACKNOWLEDGE = 1, 2


class Item(NamedTuple):
    """`age_ms`: since it was accepted by the node that sends it now. `acknowledge`: its receiver must answer."""

    seq: int
    age_ms: int
    left_ms: int | None
    redelivered: bool
    acknowledge: bool
    key: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Consignment:
    """`target`: the service that it is for."""

    lane: str
    target: str
    epoch: int
    oldest_epoch: int
    floor: int
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Answer:
    settled: int
    refused: dict[int, str]
    left: bool

    def encode(self) -> bytes:
        refused = [[seq, why] for seq, why in self.refused.items()]
        return json.dumps({"settled": self.settled, "refused": refused, "left": self.left}).encode()

    @classmethod
    def of(cls, document: Any) -> Answer:
        """Raises FederationError."""
        try:
            refused = {int(seq): str(why) for seq, why in document["refused"]}
            return cls(int(document["settled"]), refused, bool(document["left"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FederationError("gateway.spool answered what is no answer", reason="spool_answer") from error


def encode(consignment: Consignment) -> bytes:
    lane, target = consignment.lane.encode(), consignment.target.encode()
    epochs = consignment.epoch, consignment.oldest_epoch, consignment.floor
    parts = [_HEAD.pack(VERSION, len(lane), len(target), *epochs, len(consignment.items)), lane, target]
    for item in consignment.items:
        flags = (_REDELIVERED if item.redelivered else 0) | (_ACKNOWLEDGE if item.acknowledge else 0)
        left = -1 if item.left_ms is None else item.left_ms
        parts += (
            _ITEM.pack(item.seq, item.age_ms, left, flags, len(item.key), len(item.envelope)),
            item.key,
            item.envelope,
        )
    return b"".join(parts)


def decode(data: bytes) -> Consignment:
    """Raises FrameError."""
    try:
        version, lane_size, target_size, epoch, oldest, floor, count = _HEAD.unpack_from(data)
        if version != VERSION:
            raise FrameError(f"a consignment of version {version}; this node knows {VERSION}")
        at = _HEAD.size
        lane = data[at : at + lane_size].decode()
        at += lane_size
        target = data[at : at + target_size].decode()
        at += target_size
        items = []
        for _ in range(count):
            seq, age, left, flags, key_size, size = _ITEM.unpack_from(data, at)
            at += _ITEM.size
            key = data[at : at + key_size]
            at += key_size
            envelope = data[at : at + size]
            at += size
            redelivered, acknowledge = bool(flags & _REDELIVERED), bool(flags & _ACKNOWLEDGE)
            items.append(Item(seq, max(0, age), None if left < 0 else left, redelivered, acknowledge, key, envelope))
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"a consignment that is none: {error}") from error
    if at != len(data) or not _rising(items) or not floor > 0 or oldest > epoch:
        raise FrameError("a consignment that is none: its parts do not fit")
    return Consignment(lane, target, epoch, oldest, floor, items)


def _rising(items: Iterable[Item]) -> bool:
    last = 0
    for item in items:
        if item.seq <= last:
            return False
        last = item.seq
    return True
