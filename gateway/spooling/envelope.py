"""A request as it lies in a spool: how it was asked, by whom, its metadata and its data.

The principal is kept whole, because a message is delivered with the rights that its sender has then, which hang on
the token that it had. What is here was written by this program, on a disk whose records have checksums.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from functools import lru_cache

from gateway.errors import StorageError
from gateway.policy.principal import Kind, Principal

VERSION = 1
#: Version, interaction, bytes of the principal, bytes of the metadata.
_HEAD = struct.Struct(">BBHI")


@dataclass(frozen=True, slots=True)
class Envelope:
    """`interaction`: the frame type of the request. `metadata`: composite."""

    interaction: int
    principal: Principal
    metadata: bytes
    data: bytes


def seal(envelope: Envelope) -> bytes:
    principal = _written(envelope.principal)
    head = _HEAD.pack(VERSION, envelope.interaction, len(principal), len(envelope.metadata))
    return b"".join((head, principal, envelope.metadata, envelope.data))


def unseal(payload: bytes) -> Envelope:
    """Raises StorageError for what a newer program has written, or nobody has."""
    try:
        version, interaction, size, metadata = _HEAD.unpack_from(payload)
        if version != VERSION:
            raise ValueError(f"version {version}")
        at = _HEAD.size + size
        principal = _read(payload[_HEAD.size : at])
        return Envelope(interaction, principal, payload[at : at + metadata], payload[at + metadata :])
    except (struct.error, ValueError, TypeError, KeyError) as error:
        raise StorageError(f"a message that is none: {error}", reason="envelope") from error


@lru_cache(1024)
def _written(principal: Principal) -> bytes:
    return json.dumps(asdict(principal), separators=(",", ":")).encode()


@lru_cache(1024)
def _read(text: bytes) -> Principal:
    fields = json.loads(text)
    for name in ("services", "routes", "groups"):
        fields[name] = tuple(fields[name])
    fields["labels"] = tuple((key, value) for key, value in fields["labels"])
    fields["kind"] = Kind(fields["kind"])
    return Principal(**fields)
