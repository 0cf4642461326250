"""TLS-PSK (RFC 4279): keys that devices share with the node, in place of certificates and clocks.

The file has one `identity:key` a line, the key in hexadecimal; empty lines and those that begin with `#` say nothing.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError

#: Authenticated encryption alone. None that MicroPython has, too, is forward secret.
CIPHERS: Final = "PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256"
#: The key is all that protects a connection: shorter ones can be guessed from a recorded handshake.
MIN_KEY_BYTES: Final = 16
_MAX_IDENTITY_BYTES: Final = 128


def read(path: Path) -> dict[str, bytes]:
    """The keys by identity. Raises ConfigError naming the file and the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"tls.psk_file {path} cannot be read: {why}") from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            identity, _, key = line.strip().rpartition(":")
            # Never the line itself: this text goes into logs.
            where = f"tls.psk_file {path}, line {number}"
            if not identity or len(identity.encode()) > _MAX_IDENTITY_BYTES:
                raise ConfigError(f"{where}: it is identity:key, the identity of at most {_MAX_IDENTITY_BYTES} bytes")
            if identity in keys:
                raise ConfigError(f"{where}: {identity} has a key already")
            try:
                keys[identity] = bytes.fromhex(key)
            except ValueError:
                raise ConfigError(f"{where}: the key is not hexadecimal") from None
            if len(keys[identity]) < MIN_KEY_BYTES:
                raise ConfigError(f"{where}: a key has {MIN_KEY_BYTES} bytes at least (openssl rand -hex 32)")
    return keys


def accept(context: ssl.SSLContext, keys: Mapping[str, bytes]) -> None:
    """Let in who has one of the keys, besides who trusts the certificate. Raises ConfigError."""
    # Known to Python 3.13 and later alone.
    server: Any = context
    if not hasattr(server, "set_psk_server_callback"):
        version = ".".join(map(str, sys.version_info[:2]))
        raise ConfigError(f"tls.psk_file needs Python 3.13 or later, and this is {version}")
    # An empty key is refused by the library.
    server.set_psk_server_callback(lambda identity: keys.get(identity or "", b""))
