"""Values of the shared table: JSON of at most 64 KiB, the same bytes for the same state.

    n.<node>          {"e": epoch, "a": url, "z": zone, "v": version, "sh": shard keys it keeps}
    e.<edge>          {"c": central, "ce": its epoch, "e": epoch of the edge, "sh": shards}
    s.<edge>          {"e": epoch, "s": {service: {"i": index, "n": count bucket, "w": weight, "ver": …, "tags": {…}}}}
    d.<edge>.<shard>  {"e": epoch, "r": [[device, claim stamp, service index or list of them], …]}

A record counts only while its epoch is the edge's, and the edge's central is alive with the epoch `ce`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from gateway.federation.table.store import RecordInvalid

MAX_VALUE_BYTES = 64 * 1024
#: Seconds that a central lives without a refresh: above the longest election of the engine and a refresh.
LEASE_S = 12
#: Seconds that every other record lives; it is written again at half of it.
RECORD_S = 3600
#: A shard is to hold between these two numbers of devices.
SHARD_LEAST, SHARD_MOST = 16, 64
MAX_SHARDS = 1 << 16

Services = int | tuple[int, ...]
"""Indices into the edge's services: one, or any other number of them."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    epoch: int
    url: str = ""
    zone: str = ""
    version: int = 1
    shards: int = 0

    def encode(self) -> bytes:
        return _encoded({"e": self.epoch, "a": self.url, "z": self.zone, "v": self.version, "sh": self.shards})

    @classmethod
    def decode(cls, value: bytes) -> NodeRecord:
        held = _object(value)
        return cls(
            _count(held, "e"), _text(held, "a"), _text(held, "z"), _count(held, "v"), _count(held, "sh", default=0)
        )


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    central: str
    central_epoch: int
    epoch: int
    shards: int = 1

    def encode(self) -> bytes:
        return _encoded({"c": self.central, "ce": self.central_epoch, "e": self.epoch, "sh": self.shards})

    @classmethod
    def decode(cls, value: bytes) -> EdgeRecord:
        held = _object(value)
        central = _text(held, "c")
        shards = _count(held, "sh")
        if not central or not _is_power_of_two(shards) or shards > MAX_SHARDS:
            raise RecordInvalid("an edge's record names no central, or a number of shards that is no power of two")
        return cls(central, _count(held, "ce"), _count(held, "e"), shards)


@dataclass(frozen=True, slots=True)
class Offer:
    """One service of an edge: how many serve it there (as it was told; the table keeps `bucket` of it)."""

    count: int = 1
    weight: int = 1
    version: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServicesRecord:
    """`indices` are what shards name the services by."""

    epoch: int
    offers: Mapping[str, Offer]
    indices: Mapping[str, int]

    def encode(self) -> bytes:
        services: dict[str, dict[str, Any]] = {}
        for name, offer in self.offers.items():
            document: dict[str, Any] = {"i": self.indices[name], "n": bucket(offer.count), "w": offer.weight}
            services[name] = document
            if offer.version:
                document["ver"] = offer.version
            if offer.tags:
                document["tags"] = dict(offer.tags)
        return _encoded({"e": self.epoch, "s": services})

    @classmethod
    def decode(cls, value: bytes) -> ServicesRecord:
        held = _object(value)
        services = held.get("s")
        if not isinstance(services, dict):
            raise RecordInvalid("a record of services has none")
        offers, indices = {}, {}
        for name, document in services.items():
            if not isinstance(document, dict):
                raise RecordInvalid("a service is no object")
            tags = document.get("tags", {})
            if not isinstance(tags, dict) or not all(isinstance(each, str) for each in tags.values()):
                raise RecordInvalid("tags are no texts")
            indices[name] = _count(document, "i")
            offers[name] = Offer(
                _count(document, "n"), _count(document, "w", default=1), _text(document, "ver", default=""), tags
            )
        return cls(_count(held, "e"), offers, indices)


class ShardRecord:
    """A part of an edge's devices, in columns: a million routes do not each have an object.

    `services` is one value where all devices have the same, else one for each device.
    """

    __slots__ = ("devices", "epoch", "services", "stamps")

    def __init__(
        self, epoch: int, devices: tuple[str, ...], stamps: array[int], services: Services | list[Services]
    ) -> None:
        self.epoch = epoch
        self.devices = devices
        self.stamps = stamps
        self.services = services

    @staticmethod
    def encode(epoch: int, rows: Iterable[tuple[str, int, Services]]) -> bytes:
        return _encoded({"e": epoch, "r": sorted(rows)})

    @classmethod
    def decode(cls, value: bytes) -> ShardRecord:
        held = _object(value)
        epoch = _count(held, "e")
        rows: Any = held.get("r")
        if rows == []:
            return cls(epoch, (), array("Q"), ())
        try:
            devices, stamps, served = zip(*rows, strict=True)
            column = array("Q", stamps)
        except (TypeError, ValueError, OverflowError):
            raise RecordInvalid("a shard's rows are not device, stamp and services") from None
        if set(map(type, devices)) != {str} or "" in devices:
            raise RecordInvalid("a shard names a device by something else than a text")
        if len(set(devices)) != len(devices):
            raise RecordInvalid("a shard names a device twice")
        if not set(map(type, served)) <= {int, list}:
            raise RecordInvalid("a shard names services by something else than indices")
        services = [each if type(each) is int else _indices(each) for each in served]
        same = services.count(services[0]) == len(services)
        return cls(epoch, devices, column, services[0] if same else services)

    def services_of(self, position: int) -> tuple[int, ...]:
        held = self.services[position] if isinstance(self.services, list) else self.services
        return (held,) if isinstance(held, int) else held


def served_otherwise(old: ShardRecord, new: ShardRecord) -> list[str]:
    """The devices that are in both, with other services than before."""
    if old.services == new.services and (not isinstance(old.services, list) or old.devices == new.devices):
        return []
    before = {device: old.services_of(position) for position, device in enumerate(old.devices)}
    after = ((device, new.services_of(position)) for position, device in enumerate(new.devices))
    return [device for device, services in after if before.get(device, services) != services]


def shard_of(device: str, shards: int) -> int:
    """`shards` is a power of two."""
    return crc32(device.encode("utf-8", "surrogatepass")) & (shards - 1)


def shards_for(devices: int, shards: int) -> int:
    """How many shards an edge with so many devices is to have, which has `shards` now."""
    while devices > shards * SHARD_MOST and shards < MAX_SHARDS:
        shards *= 2
    while shards > 1 and devices < shards * SHARD_LEAST:
        shards //= 2
    return shards


def bucket(count: int) -> int:
    """The largest power of two that is not above a count: it changes seldom enough to be told to everybody."""
    return 1 << (count.bit_length() - 1) if count > 0 else 0


def _encoded(document: object) -> bytes:
    text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    value = text.encode("utf-8", "surrogatepass")
    if len(value) > MAX_VALUE_BYTES:
        raise RecordInvalid(f"a value of {len(value)} bytes is above {MAX_VALUE_BYTES}", reason="record_too_large")
    return value


def _object(value: bytes) -> dict[str, Any]:
    if len(value) > MAX_VALUE_BYTES:
        raise RecordInvalid(f"a value of {len(value)} bytes is above {MAX_VALUE_BYTES}", reason="record_too_large")
    try:
        held = json.loads(value)
    except (ValueError, RecursionError):
        raise RecordInvalid("a value is no JSON") from None
    if not isinstance(held, dict):
        raise RecordInvalid("a value is no JSON object")
    return held


def _count(held: dict[str, Any], name: str, default: int | None = None) -> int:
    value = held.get(name, default)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise RecordInvalid(f"{name!r} of a record is no number")
    return value


def _text(held: dict[str, Any], name: str, default: str | None = None) -> str:
    value = held.get(name, default)
    if not isinstance(value, str):
        raise RecordInvalid(f"{name!r} of a record is no text")
    return value


def _indices(held: list[Any]) -> tuple[int, ...]:
    if not all(type(each) is int for each in held):
        raise RecordInvalid("a shard names services by something else than indices")
    return tuple(held)


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
