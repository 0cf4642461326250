"""The nkey of a node or an administrator: an Ed25519 seed in a file that only its owner reads."""

from __future__ import annotations

import os
from pathlib import Path

import nkeys

from gateway.errors import FederationError


def public_key(file: Path) -> str:
    """The public part, which the NATS servers are told. Raises FederationError for a file that is no seed."""
    try:
        return str(nkeys.from_seed(bytearray(file.read_bytes().strip())).public_key, "ascii")
    except (OSError, nkeys.NkeysError, ValueError) as error:
        raise FederationError(f"{file} holds no nkey: {error}", reason="engine_denied") from None


def make(file: Path) -> str:
    """Writes a new seed where there is none yet; the public part. Raises FederationError."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(seed)
    except OSError as error:
        raise FederationError(f"{file} cannot be written: {error.strerror}", reason="engine_denied") from None
    return public_key(file)
