"""Keys of the shared table, in the alphabet of a NATS key-value bucket (`[-/_=.A-Za-z0-9]`).

`n.<node>` a central's lease, `e.<edge>` who holds an edge, `s.<edge>` what it offers, `d.<edge>.<shard>` a part of its
devices. A name that is more than letters, digits, `-` and `_` is written as `=` and its base64url, so that a dot always
ends a name.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from gateway.federation.table.store import RecordInvalid

NODE, EDGE, SERVICES, DEVICES = "n", "e", "s", "d"
MAX_NAME_BYTES = 255

_NUMBER = re.compile(r"(0|[1-9][0-9]{0,4})\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")


class Key(NamedTuple):
    """`shard` is -1 but for DEVICES."""

    kind: str
    name: str
    shard: int = -1


def token(name: str) -> str:
    """A name as one token of a key. Raises RecordInvalid for an empty or a longer one than 255 bytes."""
    if _PLAIN.match(name) and len(name) <= MAX_NAME_BYTES:
        return name
    octets = name.encode()
    if not 0 < len(octets) <= MAX_NAME_BYTES:
        raise RecordInvalid(f"a name has 1 to {MAX_NAME_BYTES} bytes, not {len(octets)}")
    return "=" + base64.urlsafe_b64encode(octets).decode().rstrip("=")


def node_key(name: str) -> str:
    return f"{NODE}.{token(name)}"


def edge_key(name: str) -> str:
    return f"{EDGE}.{token(name)}"


def services_key(name: str) -> str:
    return f"{SERVICES}.{token(name)}"


def devices_key(name: str, shard: int) -> str:
    return f"{DEVICES}.{token(name)}.{shard}"


def parse(key: str) -> Key:
    """Raises RecordInvalid for what is no key of the table."""
    kind, *rest = key.split(".")
    if kind == DEVICES and len(rest) == 2 and _NUMBER.match(rest[1]):
        return Key(kind, _name(rest[0]), int(rest[1]))
    if kind in (NODE, EDGE, SERVICES) and len(rest) == 1:
        return Key(kind, _name(rest[0]))
    raise RecordInvalid(f"{key!r} is no key of the table")


def _name(part: str) -> str:
    if not part.startswith("="):
        if not part:
            raise RecordInvalid("a key has an empty name")
        return part
    text = part[1:]
    try:
        name = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        name = ""
    # One key for a name: the decoder takes others for the same, and some that are none.
    if not name or token(name) != part:
        raise RecordInvalid(f"{part!r} is no name")
    return name
