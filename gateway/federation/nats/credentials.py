"""The nkey of a node or an administrator: an Ed25519 seed in a file that only its owner reads.

As text, a key is base32 of its kind, 32 bytes and CRC-16/XMODEM, least byte first; a seed has its own kind in the first
five bits and that of its public key in the next eight (nkeys, github.com/nats-io/nkeys). Written here because the
library for it has no wheel, and the image takes nothing else.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import FederationError

_SEED, _USER = 18 << 3, 20 << 3
_SEED_OF_USER = bytes((_SEED | _USER >> 5, (_USER & 31) << 3))


class Nkey:
    """What a server knows a user by. `public_key` is its text, `U…`."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = _text(bytes((_USER,)) + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def read(cls, file: Path) -> Nkey:
        """Raises FederationError for a file that is no seed of a user."""
        try:
            text = file.read_bytes().strip()
            raw = base64.b32decode(text + b"=" * (-len(text) % 8))
        except OSError as error:
            raise FederationError(f"{file} cannot be read: {error.strerror}", reason="engine_denied") from None
        except ValueError:
            raw = b""
        if len(raw) != 36 or raw[:2] != _SEED_OF_USER or _sum(raw[:-2]) != raw[-2:]:
            raise FederationError(f"{file} holds no nkey of a user: a seed begins with SU", reason="engine_denied")
        return cls(raw[2:-2])

    def sign(self, nonce: str) -> bytes:
        """What a server is answered to its nonce."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def public_key(file: Path) -> str:
    """The public part, which the NATS servers are told. Raises FederationError for a file that is no seed."""
    return Nkey.read(file).public_key


def make(file: Path) -> str:
    """Writes a new seed where there is none yet; the public part. Raises FederationError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(_text(_SEED_OF_USER + os.urandom(32)).encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise FederationError(f"{file} cannot be written: {error.strerror}", reason="engine_denied") from None
    return public_key(file)


def _text(raw: bytes) -> str:
    return base64.b32encode(raw + _sum(raw)).rstrip(b"=").decode()


def _sum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
