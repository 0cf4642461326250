"""The TLS context of the listeners: 1.2 and 1.3, forward secrecy and authenticated encryption only.

TLS 1.2 stays because MicroPython has nothing newer.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Build the context from PEM files. Raises ConfigError naming the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS certificate {certificate} with key {key} cannot be used: {error}") from error
    return context
