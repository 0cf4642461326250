"""Secrets that are carried whole: `gk_<id>_<secret>` and the like.

The id finds the row; of the secret, 256 random bits, only the SHA-256 is kept: it needs no slow hash, because nobody
can guess it. Digests are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_PARTS = re.compile(r"(g[a-z])_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
#: What an unknown id is compared with, so that it takes as long as a known one.
NOBODY = b"\x00" * 32


@dataclass(frozen=True, slots=True)
class Bearer:
    """A new secret. `text` is shown once."""

    id: str
    digest: bytes
    text: str = field(repr=False)


def new(prefix: str, bearer_id: str | None = None) -> Bearer:
    chosen = bearer_id or secrets.token_hex(8)
    secret = secrets.token_urlsafe(32)
    return Bearer(chosen, digest_of(secret), f"{prefix}_{chosen}_{secret}")


def read(prefix: str, text: str) -> tuple[str, str] | None:
    """(id, secret) of a text of this kind, or None."""
    parts = _PARTS.fullmatch(text)
    return (parts[2], parts[3]) if parts is not None and parts[1] == prefix else None


def digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def matches(secret: str, digest: bytes | None) -> bool:
    return hmac.compare_digest(digest_of(secret), NOBODY if digest is None else digest)
