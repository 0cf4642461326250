"""TLS of the listeners: 1.2 and 1.3, forward secrecy and authenticated encryption only.

TLS 1.2 stays because MicroPython has nothing newer.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from gateway.errors import ConfigError
from gateway.transport import shared_keys

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_CERTIFICATE = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")
_KEY = (b"PRIVATE KEY-----",)
_LOCKED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")

#: What tells one content of a file from the next: when it was written, where, how long it is.
_Stamp = tuple[int, int, int]


def server_context(certificate: Path, key: Path, psk_file: Path | None = None) -> ssl.SSLContext:
    """Build the context from PEM files, and from the keys of who needs no certificate.

    Raises ConfigError naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS if psk_file is None else f"{_CIPHERS}:{shared_keys.CIPHERS}")
    if psk_file is not None:
        shared_keys.accept(context, shared_keys.read(psk_file))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a passphrase is refused: without one here, a start at a terminal would ask for it.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        why = _unusable(certificate, key, error)
        raise ConfigError(f"TLS certificate {certificate} with key {key} cannot be used: {why}") from error
    return context


def _unusable(certificate: Path, key: Path, error: OSError) -> str:
    """Why, in words: the library's own error names neither the file nor, for half of the mistakes, the mistake."""
    for path, what, marks in ((certificate, "certificate", _CERTIFICATE), (key, "private key", _KEY)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return f"{path} does not exist"
        except OSError as problem:
            return f"{path}: {problem.strerror or problem} for uid {os.geteuid()}"
        if not content.strip():
            return f"{path} is empty"
        if any(mark in content for mark in _LOCKED):
            return f"{path} has a passphrase, which nobody can be asked for: write it without one"
        if not any(mark in content for mark in marks):
            return f"{path} holds no {what} in PEM"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return f"what is in one of them is damaged ({error})"


class Certificate:
    """A certificate chain and its key, in files that may be replaced while the node runs; with them the file of the
    keys that some devices have in place of it.

    `context` is for the next connection; it is replaced whole, so that a pair of which only one half is there yet never
    gets into use. Raises ConfigError where the pair cannot be used.
    """

    def __init__(self, path: Path, key: Path, psk_file: Path | None = None) -> None:
        self.path = path
        self.key = key
        self.psk_file = psk_file
        self.context = server_context(path, key, psk_file)
        self._used = self._seen = self._stamps()

    def refresh(self, *, only_if_changed: bool = False) -> bool:
        """Read the files again; True when what they hold is in use from now on.

        With `only_if_changed` a change is read at the second look that finds it, so that whoever replaces one file and
        then the other is not caught between; what cannot be used is read once. Raises ConfigError, and the old pair
        stays in use.
        """
        stamps = self._stamps()
        if only_if_changed:
            seen, self._seen = self._seen, stamps
            if stamps == self._used or stamps != seen:
                return False
        self._used = self._seen = stamps
        self.context = server_context(self.path, self.key, self.psk_file)
        return True

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(path) for path in (self.path, self.key, self.psk_file) if path is not None)


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
