"""What a Mosquitto beside this node needs on disk: a certificate, a password for each of two users, who may do what.

All of it is made on the first start and kept on later ones. In the broker's directory:

    server.pem          key and certificate, signed by the node's authority, for ten years
    ca.pem              that authority
    passwords           Mosquitto's password file; users of yours stay
    acl                 a copy of yours: Mosquitto wants a file that nobody else can read
    health/mosquitto_sub   what its health check logs in with

In the node's data directory: `mosquitto/password`, with which the bridge logs in. Where a password or its entry is
missing, or the one is not of the other, both are made anew. Passwords are 256 bits at random, and are shown nowhere.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.control.certificates import needs_renewal
from gateway.control.identity import Identity, write
from gateway.errors import StorageError

#: As whom the node's bridge and the health check log in.
BRIDGE: Final = "gateway"
HEALTH: Final = "health"
#: Nobody restarts a broker to renew a certificate.
DAYS: Final = 3653

# mosquitto_passwd's own: PBKDF2 with SHA-512, 101 rounds, 12 bytes of salt. What is hashed here is random.
_KIND, _ROUNDS, _SALT_BYTES = "7", 101, 12


def set_up(
    identity: Identity, data: Path, directory: Path, names: Iterable[str], acl: bytes | None, now: float
) -> list[str]:
    """Make what is missing in `directory`, which is Mosquitto's, and in `data`, which is the node's.

    `names` are what the certificate is for. Returns what was made or replaced, for a person; `acl` of None leaves that
    file alone.

    Raises:
        StorageError: a file cannot be read or written; the text names it and the user.
        ConfigError: a name is neither a host name nor an address.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = [
            *_certificate(identity, directory, tuple(names), now),
            *_users(data / "mosquitto" / "password", directory),
        ]
        if acl is not None and _put(directory / "acl", acl):
            done.append("acl")
        return done
    except OSError as error:
        mine = error.errno in (errno.EACCES, errno.EPERM)
        hint = f" for uid {os.geteuid()}: {directory} and {data} must belong to it" if mine else ""
        raise StorageError(f"{error.filename or directory}: {error.strerror or error}{hint}") from error


def hashed(password: str, salt: bytes) -> str:
    """As it is in a password file."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"${_KIND}${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def matches(password: str, entry: str) -> bool:
    """Whether an entry of a password file is of this password, and one of those that are made here."""
    try:
        _, kind, rounds, salt, _ = entry.split("$")
        expected = hashed(password, base64.b64decode(salt, validate=True))
    except ValueError:
        return False
    return (kind, rounds) == (_KIND, str(_ROUNDS)) and hmac.compare_digest(expected, entry)


def _certificate(identity: Identity, directory: Path, names: tuple[str, ...], now: float) -> list[str]:
    server = directory / "server.pem"
    authority = identity.ca_path.read_bytes()
    _put(directory / "ca.pem", authority)
    try:
        shown = x509.load_pem_x509_certificate(server.read_bytes())
        if not needs_renewal(shown, names, x509.load_pem_x509_certificate(authority), now):
            return []
    except (FileNotFoundError, ValueError):
        pass
    _put(server, identity.issue(names, DAYS, now))
    return ["certificate"]


def _users(own: Path, directory: Path) -> list[str]:
    """The two users: each has an entry that is of the password in its file."""
    passwords, health = directory / "passwords", directory / "health" / "mosquitto_sub"
    entries = dict(line.partition(":")[::2] for line in _text(passwords).splitlines() if line)
    made = []
    for user, known in ((BRIDGE, _text(own).strip()), (HEALTH, _text(health).rpartition("-P ")[2].strip())):
        if known and matches(known, entries.get(user, "")):
            continue
        password = secrets.token_urlsafe(32)
        entries[user] = hashed(password, secrets.token_bytes(_SALT_BYTES))
        if user == BRIDGE:
            _put(own, f"{password}\n".encode())
        else:
            _put(health, f"-u {HEALTH}\n-P {password}\n".encode())
        made.append(f"password of {user}")
    if made:
        _put(passwords, "".join(f"{user}:{entry}\n" for user, entry in entries.items()).encode())
    return made


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _put(path: Path, content: bytes) -> bool:
    """Put the whole file there, for its owner alone; False where it is there already."""
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    write(path, content)
    return True
