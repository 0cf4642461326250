"""What devices prove themselves with: the tokens that they were given, and the keys with which they can renew them.

A token is in the hands of its device alone; what is kept is its id, so that it can be revoked, and its times. Rotation
gives a new one and lets the older ones end after an overlap, in which either works.
"""

from __future__ import annotations

import math
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gateway.control import validation
from gateway.control.access_rules import AccessRules
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.device_keys import DeviceProofs, public_key_of
from gateway.control.devices import Device, Devices
from gateway.control.identity import Identity
from gateway.control.paging import Filter, Listing, Page, exactly
from gateway.control.registry import Registry
from gateway.control.table import Table, public
from gateway.errors import InvalidChange, NotAllowed, TokenError

TOKEN, KEY, SECRET = "token", "key", "secret"
MAX_KEYS = 8

_ALIVE = "(revoked_at IS NULL AND (ends_at IS NULL OR ends_at > ?) AND (expires_at IS NULL OR expires_at > ?))"


@dataclass(frozen=True, slots=True)
class Credential:
    """`type`: token, key (a public key for renewal) or secret (the same for a device without one). `ends_at`: when a
    rotation lets it end; `revoked_at`: when somebody ended it."""

    id: str
    device_id: str
    type: str
    key_id: str
    token_id: str
    issued_at: float
    expires_at: float | None
    ends_at: float | None
    revoked_at: float | None
    reason: str
    public_key: str | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, shown this once."""

    credential: Credential
    expires_at: float
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """A challenge of this node and a device's answer to it (`device_keys`)."""

    challenge: str
    answer: str = field(repr=False)


def _active(wall: Callable[[], float]) -> Filter:
    def condition(value: object) -> tuple[str, tuple[object, ...]]:
        now = wall()
        return (_ALIVE if value else f"NOT {_ALIVE}"), (now, now)

    return condition


class Credentials:
    """The credentials of one control plane."""

    def __init__(
        self,
        changes: Changes,
        registry: Registry,
        devices: Devices,
        identity: Identity,
        proofs: DeviceProofs,
        rules: Callable[[], AccessRules],
        wall: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._devices = devices
        self._identity = identity
        self._proofs = proofs
        self._rules = rules
        self._wall = wall
        self._listing = Listing(
            "credentials",
            "id",
            {"issued_at": "issued_at", "id": "id"},
            {"device_id": exactly("device_id"), "type": exactly("type"), "active": _active(wall)},
            ("id", "device_id", "token_id", "key_id"),
        )
        self._table = Table(Credential, "credential", self._listing)

    def load(self, connection: sqlite3.Connection) -> list[Credential]:
        """Tokens that end before they expire, for the registry."""
        rows = connection.execute(
            "SELECT * FROM credentials WHERE type = ? AND (ends_at IS NOT NULL OR revoked_at IS NOT NULL)", (TOKEN,)
        )
        return [self._table.of(row) for row in rows]

    async def get(self, credential_id: str) -> Credential:
        """Raises NotFound."""
        return await self._database.read(lambda connection: self._table.get(connection, credential_id))

    async def list(
        self,
        device_id: str | None = None,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sort: str = "-issued_at",
        active: bool | None = None,
        type: str | None = None,
    ) -> Page[Credential]:
        filters = {"device_id": device_id, "active": active, "type": type}
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort, None, filters)
        )

    async def issue(self, device_id: str, *, ttl_s: float | None = None, by: Actor, dry_run: bool = False) -> Issued:
        """A token for a device. Raises NotFound, NotAllowed (it is disabled), InvalidChange."""

        def work(connection: sqlite3.Connection) -> Change[Issued]:
            issued = self.mint(connection, self._devices.require(connection, device_id), ttl_s)
            return Change(issued, f"device:{device_id}", after=public(issued.credential))

        return await self._changes.make(by, "credential.issue", work, dry_run=dry_run)

    async def rotate(
        self,
        device_id: str,
        *,
        ttl_s: float | None = None,
        overlap_s: float = 300.0,
        by: Actor,
        dry_run: bool = False,
    ) -> Issued:
        """A new token; the older ones end after `overlap_s` seconds. Raises as `issue`."""
        validation.number(overlap_s, "/overlap_s", 0, self._rules().max_lifetime_s)

        def work(connection: sqlite3.Connection) -> Change[Issued]:
            device = self._devices.require(connection, device_id)
            now = self._wall()
            older = self._alive(connection, device_id, TOKEN)
            ended = [replace(one, ends_at=min(now + overlap_s, one.ends_at or math.inf)) for one in older]
            for one in ended:
                self._table.put(connection, one)
            issued = self.mint(connection, device, ttl_s)
            details = {"credential": issued.credential.id, "older": len(ended), "overlap_s": overlap_s}
            return Change(issued, f"device:{device_id}", details=details, then=lambda: self._end(ended))

        return await self._changes.make(by, "credential.rotate", work, dry_run=dry_run)

    async def add_key(self, device_id: str, public_key: str, *, by: Actor, dry_run: bool = False) -> Credential:
        """Register a device's public key, with which it can renew. Raises NotFound, InvalidChange."""
        key_id, text = public_key_of(public_key)

        def work(connection: sqlite3.Connection) -> Change[Credential]:
            self._devices.require(connection, device_id)
            credential = self.insert_key(connection, device_id, key_id, text)
            return Change(credential, f"device:{device_id}", after=public(credential))

        return await self._changes.make(by, "credential.add_key", work, dry_run=dry_run)

    async def revoke(self, credential_id: str, *, reason: str = "", by: Actor, dry_run: bool = False) -> Credential:
        """End a credential now. Raises NotFound."""
        validation.text(reason, "/reason")

        def work(connection: sqlite3.Connection) -> Change[Credential]:
            old = self._table.get(connection, credential_id)
            new = replace(old, revoked_at=old.revoked_at or self._wall(), reason=reason or old.reason)
            self._table.put(connection, new)
            return Change(
                new,
                f"device:{old.device_id}",
                before=public(old),
                after=public(new),
                then=lambda: self._end([new]),
            )

        return await self._changes.make(by, "credential.revoke", work, dry_run=dry_run, reserve=True)

    async def renew(self, device_id: str, token_id: str, proof: Proof | None = None, *, by: Actor) -> Issued:
        """A new token for a device that has one, or had one and proves that it has the key.

        Tokens that have run out are forgotten with it. Without a proof it is no change that anybody made, and not
        audited: the credential tells of it.

        Raises:
            NotFound: the device is not registered.
            NotAllowed: the token was not issued here, or the device is disabled, or the proof does not hold.
        """

        def work(connection: sqlite3.Connection) -> Change[Issued]:
            device = self._devices.require(connection, device_id)
            known = self.by_token(connection, token_id)
            if known is None or known.device_id != device_id:
                raise NotAllowed("this token was not issued to a registered device", reason="renewal_unknown_token")
            if proof is not None and not self._proven(connection, device_id, proof):
                raise NotAllowed("the proof does not hold", reason="renewal_proof")
            connection.execute(
                "DELETE FROM credentials WHERE device_id = ? AND type = ? AND expires_at < ?",
                (device_id, TOKEN, self._wall()),
            )
            issued = self.mint(connection, device)
            return Change(issued, f"device:{device_id}", after=public(issued.credential))

        if proof is None:
            return await self._database.write(lambda connection: work(connection).result)
        return await self._changes.make(by, "credential.renew", work)

    def _proven(self, connection: sqlite3.Connection, device_id: str, proof: Proof) -> bool:
        return any(
            self._proofs.holds(proof.challenge, proof.answer, device_id, credential.id, credential.public_key)
            for credential in self.for_renewal(connection, device_id)
        )

    # Within a transaction

    def mint(self, connection: sqlite3.Connection, device: Device, ttl_s: float | None = None) -> Issued:
        """A token for a device, with what its record allows. Raises NotAllowed, InvalidChange."""
        rules = self._rules()
        if not device.enabled:
            raise NotAllowed(f"device {device.id!r} is disabled", reason="device_disabled")
        longest = rules.max_lifetime_s
        ttl = min(rules.device_ttl_s, longest) if ttl_s is None else validation.number(ttl_s, "/ttl_s", 1, longest)
        # A token issued in the second of a revocation must not fall under it.
        now = max(self._wall(), math.ceil(self._registry.not_before(device.id)))
        token_id = secrets.token_urlsafe(12)
        try:
            token = self._identity.mint(
                device.id,
                device.kind,
                device.services,
                device.routes,
                ttl,
                now,
                audience=rules.audience,
                groups=device.groups,
                labels=device.labels,
                token_id=token_id,
                max_lifetime=rules.max_lifetime_s,
            )
        except TokenError as error:
            raise InvalidChange(error.text, "/labels") from error
        expires_at = float(int(now) + int(ttl))
        credential = Credential(
            id=secrets.token_hex(8),
            device_id=device.id,
            type=TOKEN,
            key_id=self._identity.kid,
            token_id=token_id,
            issued_at=float(int(now)),
            expires_at=expires_at,
            ends_at=None,
            revoked_at=None,
            reason="",
            public_key=None,
        )
        self._table.insert(connection, credential)
        return Issued(credential, expires_at, token)

    def insert_key(self, connection: sqlite3.Connection, device_id: str, key_id: str, public_key: str) -> Credential:
        if len(self._alive(connection, device_id, KEY)) >= MAX_KEYS:
            raise InvalidChange(f"a device has at most {MAX_KEYS} keys; revoke one", "/public_key")
        return self._table.insert(connection, self._for_renewal(device_id, KEY, key_id, public_key))

    def insert_secret(self, connection: sqlite3.Connection, device_id: str) -> tuple[Credential, str]:
        """A secret for a device that has no key, and its text, shown this once."""
        credential = self._table.insert(connection, self._for_renewal(device_id, SECRET, "", None))
        return credential, self._proofs.secret(device_id, credential.id)

    def for_renewal(self, connection: sqlite3.Connection, device_id: str) -> tuple[Credential, ...]:
        """The keys and secrets with which a device can renew now."""
        return (*self._alive(connection, device_id, KEY), *self._alive(connection, device_id, SECRET))

    def by_token(self, connection: sqlite3.Connection, token_id: str) -> Credential | None:
        row = connection.execute(
            "SELECT * FROM credentials WHERE token_id = ? AND type = ?", (token_id, TOKEN)
        ).fetchone()
        return None if row is None else self._table.of(row)

    def end_older(self, connection: sqlite3.Connection, device_id: str) -> Callable[[], None]:
        """End everything that a device has; the returned call tells the registry once that is committed."""
        now = self._wall()
        ended = [
            replace(one, revoked_at=now, reason="device was claimed again")
            for type in (TOKEN, KEY, SECRET)
            for one in self._alive(connection, device_id, type)
        ]
        for one in ended:
            self._table.put(connection, one)
        return lambda: self._end(ended)

    def _for_renewal(self, device_id: str, type: str, key_id: str, public_key: str | None) -> Credential:
        return Credential(
            id=secrets.token_hex(8),
            device_id=device_id,
            type=type,
            key_id=key_id,
            token_id="",
            issued_at=self._wall(),
            expires_at=None,
            ends_at=None,
            revoked_at=None,
            reason="",
            public_key=public_key,
        )

    def secret_of(self, connection: sqlite3.Connection, device_id: str) -> str | None:
        """The id of the newest secret that a device has; None where it has none."""
        alive = self._alive(connection, device_id, SECRET)
        return max(alive, key=lambda one: (one.issued_at, one.id)).id if alive else None

    def _alive(self, connection: sqlite3.Connection, device_id: str, type: str) -> tuple[Credential, ...]:
        now = self._wall()
        rows = connection.execute(
            f"SELECT * FROM credentials WHERE device_id = ? AND type = ? AND {_ALIVE}", (device_id, type, now, now)
        )
        return tuple(self._table.of(row) for row in rows)

    def _end(self, credentials: Sequence[Credential]) -> None:
        for credential in credentials:
            self.take_over(credential)

    def take_over(self, credential: Credential) -> None:
        """Tell the registry when a token ends, where that is before it expires."""
        ends = [at for at in (credential.ends_at, credential.revoked_at) if at is not None]
        if credential.type == TOKEN and ends:
            self._registry.token_ends(credential.token_id, min(ends), credential.device_id)

    async def prune(self, before: float) -> None:
        """Forget tokens that expired before then."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            rows = connection.execute(
                "DELETE FROM credentials WHERE expires_at IS NOT NULL AND expires_at < ? RETURNING token_id", (before,)
            )
            return [str(row["token_id"]) for row in rows.fetchall()]

        def forget(token_ids: Sequence[str]) -> None:
            for token_id in token_ids:
                self._registry.token_forgiven(token_id)

        await self._database.write(work, committed=forget)
