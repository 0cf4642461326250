"""What the servers of a NATS cluster and the central nodes need on disk to know each other.

    the keyring's     ca.pem, ca-key.pem, admin.nk, NODE.nk        for no server and no node
    a server's        ca.pem, server.pem, accounts.conf            server.pem: its key and certificate
    a node's          nats-ca.pem, nats.nk

Nothing is made anew that is there and in order, so it may be done again: what a server or a node has lost comes back
from the keyring. Certificates are for servers among each other, too. Whoever holds the keyring can make a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.control.certificates import issue_authority, issue_listener, needs_renewal, new_key
from gateway.control.identity import pem, write
from gateway.errors import StorageError
from gateway.federation.nats import bucket, credentials

ADMINISTRATOR = "admin"
AUTHORITY, AUTHORITY_KEY, SERVER, ACCOUNTS = "ca.pem", "ca-key.pem", "server.pem", "accounts.conf"
NODES_AUTHORITY, NODES_KEY = "nats-ca.pem", "nats.nk"
#: Their names lead to nobody outside, and nobody restarts a cluster to renew a certificate: ten years.
SERVER_DAYS = 3653


class Keyring:
    """`directory` is its own; `now` in seconds since the epoch."""

    def __init__(self, directory: Path, now: float) -> None:
        self.directory = directory
        self._now = now
        self.changed: list[str] = []

    def fill(self, servers: Mapping[str, Path], nodes: Mapping[str, Path], table: str) -> None:
        """Bring all files about; the directories are there. `table`: the bucket. `changed` has what was written, by the
        names of servers and nodes. Raises StorageError, FederationError."""
        try:
            self._authority()
            public = {name: self._nkey(name) for name in (ADMINISTRATOR, *nodes)}
            authority = (self.directory / AUTHORITY).read_bytes()
            for name, directory in nodes.items():
                self._put(name, directory / NODES_AUTHORITY, authority)
                self._put(name, directory / NODES_KEY, (self.directory / f"{name}.nk").read_bytes())
            accounts = bucket.users(table, [(name, public[name]) for name in nodes], public[ADMINISTRATOR])
            for name, directory in servers.items():
                self._put(name, directory / AUTHORITY, authority)
                self._put(name, directory / ACCOUNTS, accounts.encode())
                self._certificate(name, directory / SERVER)
        except OSError as error:
            raise StorageError(f"{error.filename or self.directory}: {error.strerror or error}") from error

    def _authority(self) -> None:
        if not (self.directory / AUTHORITY_KEY).exists():
            write(self.directory / AUTHORITY_KEY, pem(new_key()))
        key = self._authority_key()
        path = self.directory / AUTHORITY
        if not path.exists():
            write(path, issue_authority(key, "gateway NATS CA").public_bytes(Encoding.PEM), 0o644)

    def _authority_key(self) -> EllipticCurvePrivateKey:
        path = self.directory / AUTHORITY_KEY
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except ValueError:
            key = None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise StorageError(
                f"{path} holds no EC key: empty {self.directory}, and all is made anew; then restart servers and nodes"
            )
        return key

    def _nkey(self, name: str) -> str:
        path = self.directory / f"{name}.nk"
        return credentials.public_key(path) if path.exists() else credentials.make(path)

    def _certificate(self, name: str, path: Path) -> None:
        authority = x509.load_pem_x509_certificate((self.directory / AUTHORITY).read_bytes())
        try:
            due = needs_renewal(x509.load_pem_x509_certificate(path.read_bytes()), (name,), authority, self._now)
        except (FileNotFoundError, ValueError):
            due = True
        if due:
            key = new_key()
            certificate = issue_listener(
                key, (name,), authority, self._authority_key(), self._now, days=SERVER_DAYS, dials=True
            )
            self._put(name, path, pem(key) + certificate.public_bytes(Encoding.PEM))

    def _put(self, name: str, path: Path, content: bytes) -> None:
        if path.exists() and path.read_bytes() == content:
            return
        write(path, content)
        if name not in self.changed:
            self.changed.append(name)
