"""What is told over a link about routes, as bytes: a number, then one frame of the broker protocol.

    u64 number | ROUTE_JOIN      a route that is there, or has changed; its time is the stamp of a hybrid clock
               | ROUTE_REMOVE    one that is not any more
               | BROKER_INFO     a node behind this one, with an empty name when it is not any more; with the tag
                                 `digest`, what all of it must add up to by now; with the tag `state`, whether this
                                 link is in use, and the `epoch` of the child's life; with `version` and `devices`,
                                 what a node is, the teller itself or one behind it (`About`)

The digest does not depend on the order: the exclusive or of one hash a route, so each side keeps it as routes come and
go. Knows no link and no table.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.errors import FrameError
from gateway.policy.principal import Kind
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB
from gateway.wire import brokering
from gateway.wire.brokering import MAX_TAG_BYTES, BrokerInfo, RouteJoin, RouteRemove, Tags

#: The kind of the principal that serves a route.
KIND = "x.gateway.kind"
DIGEST, COUNT, STATE, EPOCH, NAME = "digest", "routes", "state", "epoch", "name"
ACTIVE, STANDBY = "active", "standby"
VERSION, DEVICES = "version", "devices"

_NUMBER = struct.Struct(">Q")
_IMPLICIT = frozenset({SUB, ROUTE_ID, SERVICE_NAME, KIND})

#: Digits of a count that is believed.
_COUNT_DIGITS: Final = 9

Item = RouteJoin | RouteRemove | BrokerInfo


class About(NamedTuple):
    """What a node is said to be: the version that it runs, and how many devices are connected to it; a node of before
    says neither."""

    version: str | None = None
    devices: int | None = None

    @classmethod
    def of(cls, said: Mapping[str, str]) -> About:
        """What tags say; a count that is none is left out."""
        devices = said.get(DEVICES, "")
        fits = devices.isascii() and devices.isdecimal() and len(devices) <= _COUNT_DIGITS
        return cls(said.get(VERSION), int(devices) if fits else None)


@dataclass(frozen=True, slots=True)
class Told:
    """One route as it is told. `node`: the 16 bytes of the node that its connection is on; `stamp`: when that
    connection came, by the hybrid clock of that node (`federation.table.stamp`)."""

    route_id: bytes
    node: bytes
    stamp: int
    service: str
    subject: str
    kind: str
    tags: Tags

    @property
    def hash(self) -> int:
        parts = [
            self.route_id,
            self.node,
            self.stamp.to_bytes(8, "big"),
            self.service.encode(),
            self.subject.encode(),
            self.kind.encode(),
        ]
        parts += [f"{key}={value}".encode() for key, value in sorted(self.tags)]
        whole = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big")

    def frame(self) -> RouteJoin:
        tags = [*self.tags, (SUB, self.subject), (KIND, self.kind)]
        return RouteJoin(self.node, self.route_id, self.stamp, self.service, tuple(tags))

    @classmethod
    def of(cls, frame: RouteJoin) -> Told:
        """Raises FrameError when it lacks what a link's route must say."""
        values = dict(frame.tags)
        kind = values.get(KIND, "")
        if kind not in _KINDS:
            raise FrameError("ROUTE_JOIN of a link names no kind of principal")
        own = tuple((key, value) for key, value in frame.tags if key not in _IMPLICIT)
        return cls(frame.route_id, frame.broker_id, frame.timestamp_ms, frame.service, values.get(SUB, ""), kind, own)


_KINDS = frozenset(str(kind) for kind in Kind)


def fits(tags: Tags) -> bool:
    """Whether tags can be told at all: a client may have sent some that are longer than the frame has room for."""
    return all(0 < len(key.encode()) <= MAX_TAG_BYTES and len(value.encode()) <= MAX_TAG_BYTES for key, value in tags)


def encode(number: int, frame: Item) -> bytes:
    return _NUMBER.pack(number) + brokering.encode(frame)


def decode(data: bytes) -> tuple[int, Item]:
    """Raises FrameError."""
    if len(data) < _NUMBER.size:
        raise FrameError("an item of a route stream is cut short")
    frame = brokering.decode(data[_NUMBER.size :])
    if not isinstance(frame, RouteJoin | RouteRemove | BrokerInfo):
        raise FrameError(f"{frame.frame_type.name} in a route stream")
    return _NUMBER.unpack_from(data)[0], frame


def digest_info(node: bytes, now_ms: int, digest: int, count: int) -> BrokerInfo:
    return BrokerInfo(node, now_ms, ((DIGEST, f"{digest:016x}"), (COUNT, str(count))))


def node_info(node: bytes, now_ms: int, name: str | None, about: About) -> BrokerInfo:
    """A node behind the teller, with an empty name when it is not any more; without a name the teller itself."""
    tags: list[tuple[str, str]] = [] if name is None else [(NAME, name)]
    if about.version is not None:
        tags.append((VERSION, about.version))
    if about.devices is not None:
        tags.append((DEVICES, str(about.devices)))
    return BrokerInfo(node, now_ms, tuple(tags))
