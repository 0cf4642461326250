"""A request as it lies in a spool: how it was asked, by whom, its metadata and its data.

The principal is kept whole, because a message is delivered with the rights that its sender has then, which hang on
the token that it had. What another node has handed over keeps where it was accepted (`Origin`). What is here was
written by this program, on a disk whose records have checksums.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from functools import lru_cache
from typing import NamedTuple

from gateway.errors import StorageError
from gateway.policy.principal import Kind, Principal

VERSION = 1
#: With an origin behind the principal.
VERSION_ORIGIN = 2
#: Version, interaction, bytes of the principal, bytes of the metadata.
_HEAD = struct.Struct(">BBHI")
#: Bytes of the origin.
_MORE = struct.Struct(">H")


class Origin(NamedTuple):
    """Where a message was accepted, for whoever has it now: the node (id and name), the message's id there, its age in
    ms when it left, whether its receiver may have had it before, whether its receiver must answer."""

    node_id: str
    node: str
    epoch: int
    seq: int
    age_ms: int
    redelivered: bool
    acknowledge: bool

    def written(self) -> bytes:
        return json.dumps(self, separators=(",", ":")).encode()


class Envelope(NamedTuple):
    """`interaction`: the frame type of the request. `who`: the principal, as it is written. `metadata`: composite.
    `came`: the origin as it is written; empty for what was accepted by this node."""

    interaction: int
    who: bytes
    metadata: bytes
    data: bytes
    came: bytes = b""

    @property
    def principal(self) -> Principal:
        """Raises StorageError."""
        try:
            return _read(self.who)
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(f"a message that is none: {error}", reason="envelope") from error

    @property
    def origin(self) -> Origin | None:
        """Raises StorageError."""
        try:
            return Origin(*json.loads(self.came)) if self.came else None
        except (ValueError, TypeError) as error:
            raise StorageError(f"a message that is none: {error}", reason="envelope") from error


def opening(interaction: int, who: bytes, metadata: bytes, came: bytes = b"") -> bytes:
    """All of an envelope but its data, which go behind it."""
    head = _HEAD.pack(VERSION_ORIGIN if came else VERSION, interaction, len(who), len(metadata))
    return b"".join((head, who, _MORE.pack(len(came)), came, metadata) if came else (head, who, metadata))


def seal(envelope: Envelope) -> bytes:
    return opening(envelope.interaction, envelope.who, envelope.metadata, envelope.came) + envelope.data


def unseal(payload: bytes) -> Envelope:
    """Raises StorageError for what a newer program has written, or nobody has."""
    try:
        version, interaction, size, metadata = _HEAD.unpack_from(payload)
        at = _HEAD.size + size
        who = payload[_HEAD.size : at]
        came = b""
        if version == VERSION_ORIGIN:
            (length,) = _MORE.unpack_from(payload, at)
            came = payload[at + _MORE.size : at + _MORE.size + length]
            at += _MORE.size + length
        elif version != VERSION:
            raise ValueError(f"version {version}")
        if at + metadata > len(payload):
            raise ValueError("it is cut short")
        return Envelope(interaction, who, payload[at : at + metadata], payload[at + metadata :], came)
    except (struct.error, ValueError) as error:
        raise StorageError(f"a message that is none: {error}", reason="envelope") from error


@lru_cache(1024)
def written(principal: Principal) -> bytes:
    return json.dumps(asdict(principal), separators=(",", ":")).encode()


@lru_cache(1024)
def _read(text: bytes) -> Principal:
    fields = json.loads(text)
    for name in ("services", "routes", "groups"):
        fields[name] = tuple(fields[name])
    fields["labels"] = tuple((key, value) for key, value in fields["labels"])
    fields["kind"] = Kind(fields["kind"])
    return Principal(**fields)
