"""Who this node is: its id, the key that signs its tokens, its certificate authority, its listeners' certificate.

All of it lives in ``<data>/identity``, made on the first start:

    node-id           a UUID
    signing-key.pem   Ed25519, signs tokens
    ca-key.pem        EC P-256, signs the listeners' certificate
    ca.pem, ca.der    the authority's certificate, for clients (DER is what microcontrollers read)
    listener.pem      the listeners' key and certificate in one file, so that a renewal replaces both in one step

The rules:

* The directory appears whole, by one rename, or not at all; each later change is one rename. A lock makes two processes
  that start at once agree on one identity.
* A file that is damaged, missing or unreadable is a ``StorageError`` with its path and what to do. Nothing of an
  identity is ever replaced in silence: tokens and devices depend on it. Only the listeners' certificate is renewed,
  and the two forms of the authority's certificate are kept alike.
* Private keys are 0600, directories 0700 (fault 76). No key is logged or shown.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.control.certificates import (
    LISTENER_DAYS,
    certificate_names,
    is_host_name,
    issue_authority,
    issue_listener,
    needs_renewal,
    new_key,
)
from gateway.control.restoring import IDENTITY, finish
from gateway.errors import StorageError
from gateway.policy.principal import Kind
from gateway.policy.tokens import AUDIENCE, MAX_LIFETIME_S, TOKEN_TYPE, VerificationKey, mint

NODE_ID = "node-id"
SIGNING_KEY = "signing-key.pem"
AUTHORITY_KEY = "ca-key.pem"
AUTHORITY = "ca.pem"
AUTHORITY_DER = "ca.der"
LISTENER = "listener.pem"

_PRIVATE = (SIGNING_KEY, AUTHORITY_KEY, LISTENER)


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of one data directory. ``directory`` is where its files are."""

    directory: Path
    node_id: str
    signing_key: Ed25519PrivateKey = field(repr=False)
    kid: str

    @classmethod
    def open(cls, data: Path, names: Iterable[str] | None = None, now: float | None = None) -> Identity:
        """Read the identity in ``data``, making it on first use, and renew the listeners' certificate where it is due.

        ``names`` are what the certificate is for, besides localhost and the host's own name; ``None``, for whoever only
        wants to sign, leaves a certificate's names as they are. ``now`` is in seconds since the epoch.

        Raises:
            StorageError: the directory cannot be used, or a file in it is damaged, missing or unreadable.
            ConfigError: a name is neither a host name nor an address.
        """
        moment = time.time() if now is None else now
        wanted = None if names is None else (*_own_names(), *names)
        directory = data / IDENTITY
        try:
            _prepare(data)
            with locked(data / "identity.lock"):
                finish(data)
                if not directory.exists():
                    _create(directory, wanted or _own_names(), moment)
                identity = _read(directory)
                _maintain(directory, wanted, moment)
                return identity
        except OSError as error:
            hint = f" The data directory {data} must belong to uid {os.geteuid()}, as which this runs, and be writable."
            raise StorageError(
                f"{error.filename or data}: {error.strerror or error}.{'' if error.errno == errno.ENOSPC else hint}"
            ) from error

    @property
    def issuer(self) -> str:
        """The ``iss`` of the tokens that this node signs."""
        return f"gateway:{self.node_id}"

    @property
    def certificate_path(self) -> Path:
        """PEM with the listeners' certificate; the same file as ``key_path``."""
        return self.directory / LISTENER

    @property
    def key_path(self) -> Path:
        return self.directory / LISTENER

    @property
    def ca_path(self) -> Path:
        """PEM with the certificate that clients trust; ``ca_der_path`` is the same in DER."""
        return self.directory / AUTHORITY

    @property
    def ca_der_path(self) -> Path:
        return self.directory / AUTHORITY_DER

    def verification_keys(self) -> tuple[VerificationKey, ...]:
        """The keys that vouch for this node's tokens."""
        return (VerificationKey(self.kid, "EdDSA", self.signing_key.public_key(), self.issuer),)

    def renew_certificate(self, now: float) -> None:
        """Issue the listeners' certificate anew, with a new key, for the names that it has.

        Raises:
            StorageError: a file of the identity is damaged, missing or unreadable, or cannot be written.
        """
        self._renew(now, only_if_due=False)

    def renew_if_due(self, now: float) -> bool:
        """As `renew_certificate`, where its end is near; returns whether that was so."""
        return self._renew(now, only_if_due=True)

    def issue(self, names: Iterable[str], days: int, now: float) -> bytes:
        """A key, and for it a certificate of this authority, in one PEM: for a server beside the node whose clients are
        to trust what devices trust.

        Raises:
            StorageError: a file of the identity is damaged, missing or unreadable.
            ConfigError: a name is neither a host name nor an address.
        """
        authority_key = _private_key(self.directory / AUTHORITY_KEY)
        assert isinstance(authority_key, EllipticCurvePrivateKey)
        return _listener(names, _certificate(self.directory / AUTHORITY), authority_key, now, days)

    def _renew(self, now: float, *, only_if_due: bool) -> bool:
        try:
            with locked(self.directory.with_name("identity.lock")):
                authority_key = _private_key(self.directory / AUTHORITY_KEY)
                assert isinstance(authority_key, EllipticCurvePrivateKey)
                current = _certificate(self.directory / LISTENER)
                authority = _certificate(self.directory / AUTHORITY)
                if only_if_due and not needs_renewal(current, None, authority, now):
                    return False
                content = _listener(certificate_names(current), authority, authority_key, now)
                write(self.directory / LISTENER, content)
                return True
        except OSError as error:
            raise StorageError(f"{error.filename or self.directory}: {error.strerror or error}") from error

    def mint(
        self,
        subject: str,
        kind: Kind | str,
        services: Sequence[str],
        routes: Sequence[str],
        ttl_s: float,
        now: float,
        *,
        audience: str = AUDIENCE,
        groups: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        token_id: str | None = None,
        token_type: str = TOKEN_TYPE,
        max_lifetime: float = MAX_LIFETIME_S,
    ) -> str:
        """A token of this node; see ``policy.tokens.mint``.

        Raises:
            TokenError: what is asked for cannot be in a token.
        """
        return mint(
            self.signing_key,
            self.kid,
            self.issuer,
            audience,
            subject,
            kind,
            services,
            routes,
            ttl_s,
            now,
            groups=groups,
            labels=labels,
            token_id=token_id,
            token_type=token_type,
            max_lifetime=max_lifetime,
        )

    def secret_for(self, purpose: str) -> bytes:
        """32 bytes that only this identity can make, different for each purpose (RFC 5869): nothing to store."""
        private = self.signing_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return HKDF(SHA256(), 32, salt=None, info=f"gateway {purpose}".encode()).derive(private)


def _prepare(data: Path) -> None:
    """Make the data directory, or see that nobody else can put files into it."""
    try:
        data.mkdir(mode=0o700, parents=True)
        return
    except FileExistsError:
        pass
    mode = data.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise StorageError(f"{data} is not a directory")
    if mode & 0o002:
        raise StorageError(
            f"{data} can be written by every user, who could replace its keys: chmod 700 {data}, "
            "or name a directory in it that does not exist yet"
        )


def _own_names() -> tuple[str, ...]:
    """The host's name, where a certificate can hold it: nobody chose it for that."""
    name = socket.gethostname()
    return (name,) if is_host_name(name) else ()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else makes, renews or restores an identity meanwhile; others wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(directory: Path, names: Iterable[str], now: float) -> None:
    node_id = str(uuid.uuid4())
    authority_key = new_key()
    authority = issue_authority(authority_key, f"gateway CA {node_id}")
    unfinished = directory.with_name("identity.new")
    # What a start that was killed left here was never in use.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    write(unfinished / NODE_ID, node_id.encode() + b"\n")
    write(unfinished / SIGNING_KEY, pem(Ed25519PrivateKey.generate()))
    write(unfinished / AUTHORITY_KEY, pem(authority_key))
    write(unfinished / AUTHORITY, authority.public_bytes(Encoding.PEM), 0o644)
    write(unfinished / AUTHORITY_DER, authority.public_bytes(Encoding.DER), 0o644)
    write(unfinished / LISTENER, _listener(names, authority, authority_key, now))
    unfinished.rename(directory)
    _sync(directory.parent)


def _read(directory: Path) -> Identity:
    for name in _PRIVATE:
        _keep_private(directory / name)
    try:
        node_id = str(uuid.UUID(_content(directory / NODE_ID).decode().strip()))
    except ValueError as error:
        raise _damaged(directory / NODE_ID, "holds no UUID") from error
    signing_key = _private_key(directory / SIGNING_KEY)
    if not isinstance(signing_key, Ed25519PrivateKey):
        raise _damaged(directory / SIGNING_KEY, "holds no Ed25519 key")
    public = signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Identity(directory, node_id, signing_key, hashlib.sha256(public).hexdigest()[:16])


def _maintain(directory: Path, names: Iterable[str] | None, now: float) -> None:
    """Renew the listeners' certificate where it is due, and see that the authority's files belong together."""
    authority_key = _private_key(directory / AUTHORITY_KEY)
    if not isinstance(authority_key, EllipticCurvePrivateKey):
        raise _damaged(directory / AUTHORITY_KEY, "holds no EC key")
    authority = _certificate(directory / AUTHORITY)
    if authority.public_key() != authority_key.public_key():
        raise _damaged(directory / AUTHORITY, f"is not the certificate of {AUTHORITY_KEY}")
    der = authority.public_bytes(Encoding.DER)
    if not (directory / AUTHORITY_DER).exists() or _content(directory / AUTHORITY_DER) != der:
        write(directory / AUTHORITY_DER, der, 0o644)
    listener = directory / LISTENER
    due = True
    present: tuple[str, ...] = ()
    if listener.exists():
        certificate = _certificate(listener)
        if certificate.public_key() != _private_key(listener).public_key():
            raise _damaged(listener, "holds a key and a certificate that do not belong together")
        due = needs_renewal(certificate, names, authority, now)
        present = certificate_names(certificate)
    if due:
        wanted = names if names is not None else present or _own_names()
        write(listener, _listener(wanted, authority, authority_key, now))


def _listener(
    names: Iterable[str],
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    now: float,
    days: int = LISTENER_DAYS,
) -> bytes:
    key = new_key()
    certificate = issue_listener(key, names, authority, authority_key, now, days=days)
    return pem(key) + certificate.public_bytes(Encoding.PEM)


def pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put the whole file there in one step that outlives a power cut, or leave the old one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.rename(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_private(path: Path) -> None:
    """Take a private key back from other users' eyes: a restored backup often comes with wider modes."""
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except FileNotFoundError:
        return


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error


def _private_key(path: Path) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "holds no private key that can be read") from error
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise _damaged(path, "holds a key of another kind")
    return key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_content(path))
    except ValueError as error:
        raise _damaged(path, "holds no certificate that can be read") from error


def _damaged(path: Path, what: str) -> StorageError:
    return StorageError(
        f"{path} {what}. Restore {path.parent} from a backup; or move it away and start with a new identity: "
        "the tokens issued so far end, and clients need the new ca.pem.",
        reason="identity_damaged",
    )
