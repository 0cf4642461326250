"""One-time tokens with which a device gets its first credential.

A token works `uses` times and no longer than its life; of many that come at once exactly as many get through, because
uses are counted in the transaction that makes the device. It opens nothing else: it is no credential (fault 64).
Whoever holds a wrong one is told one text; the reason is in the audit.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.control import bearer, validation
from gateway.control.audit import Actor, Audit
from gateway.control.changes import Change, Changes
from gateway.control.credentials import Credentials
from gateway.control.device_keys import public_key_of
from gateway.control.devices import OWN_NAME, Device, Devices, NewDevice
from gateway.control.identity import Identity
from gateway.control.paging import Filter, Listing, Page, exactly
from gateway.control.registry import Registry
from gateway.control.table import Readable, Table, public
from gateway.errors import EnrolmentRefused, InvalidChange, NotAllowed
from gateway.policy.principal import Kind

PREFIX = "ge"
REFUSED = "this enrolment is not accepted"
SINGLE_USE_S = 15 * 60.0
SHARED_S = 7 * 86_400.0
MAX_USES = 10_000


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`device_id`: for which device; None: whichever comes. The rest is what the device will be."""

    id: str
    device_id: str | None
    kind: Kind
    profile: str
    labels: dict[str, str]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    routes: tuple[str, ...]
    uses: int
    used: int
    expires_at: float
    created_at: float
    created_by: str
    revoked_at: float | None
    version: int


@dataclass(frozen=True, slots=True)
class NewEnrolment:
    device_id: str | None = None
    kind: Kind = Kind.DEVICE
    profile: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] = ()
    services: Sequence[str] = OWN_NAME
    routes: Sequence[str] = ()
    uses: int = 1
    ttl_s: float = SINGLE_USE_S


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a device gets: its token, the authority to trust, and where it brought no key a secret to renew with."""

    device: Device
    expires_at: float
    ca_pem: str
    token: str = field(repr=False)
    credential_id: str = ""
    secret: str | None = field(default=None, repr=False)


def _active(wall: Callable[[], float]) -> Filter:
    def condition(value: object) -> tuple[str, tuple[object, ...]]:
        alive = "(revoked_at IS NULL AND used < uses AND expires_at > ?)"
        return (alive if value else f"NOT {alive}"), (wall(),)

    return condition


def template(new: Any) -> dict[str, Any]:
    """The checked values that a device will be made with. Raises InvalidChange."""
    return {
        "kind": validation.member(Kind, new.kind, "/kind", validation.DEVICE_KINDS | {Kind.NODE}),
        "profile": validation.text(new.profile, "/profile"),
        "labels": validation.labels(new.labels, "/labels"),
        "groups": validation.texts(new.groups, "/groups"),
        "services": validation.patterns(new.services, "/services"),
        "routes": validation.patterns(new.routes, "/routes"),
    }


class Enrolments(Readable[Enrolment]):
    """The enrolments of one control plane."""

    def __init__(
        self,
        changes: Changes,
        registry: Registry,
        audit: Audit,
        devices: Devices,
        credentials: Credentials,
        identity: Identity,
        wall: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._audit = audit
        self._devices = devices
        self._credentials = credentials
        self._identity = identity
        self._wall = wall
        self._table = Table(
            Enrolment,
            "enrolment",
            Listing(
                "enrolments",
                "id",
                {"created_at": "created_at", "expires_at": "expires_at", "id": "id"},
                {"active": _active(wall), "kind": exactly("kind")},
                ("id", "profile", "labels", "groups"),
            ),
        )

    async def list_for_nodes(self, **how: Any) -> Page[Enrolment]:
        """Those with which nodes join, as `list`."""
        return await self.list(**{"sort": "id", **how, "kind": Kind.NODE.value})

    async def create(self, new: NewEnrolment, *, by: Actor, dry_run: bool = False) -> tuple[Enrolment, str]:
        """An enrolment and its token, shown this once. Raises InvalidChange."""
        if not isinstance(new.uses, int) or isinstance(new.uses, bool) or not 1 <= new.uses <= MAX_USES:
            raise InvalidChange(f"uses are from 1 to {MAX_USES}", "/uses")
        if new.device_id is not None:
            validation.identifier(new.device_id, "/device_id")
            if new.uses != 1:
                raise InvalidChange("one device enrols once", "/uses")
        longest = SINGLE_USE_S if new.uses == 1 else SHARED_S
        ttl = validation.number(new.ttl_s, "/ttl_s", 1, longest)
        values = template(new)
        made = bearer.new(PREFIX)

        def work(connection: sqlite3.Connection) -> Change[Enrolment]:
            now = self._wall()
            enrolment = Enrolment(
                id=made.id,
                device_id=new.device_id,
                **values,
                uses=new.uses,
                used=0,
                expires_at=now + ttl,
                created_at=now,
                created_by=by.id,
                revoked_at=None,
                version=1,
            )
            self._table.insert(connection, enrolment, secret=made.digest)
            then = None if dry_run else lambda: self._tell(enrolment, made.digest)
            return Change(enrolment, f"enrolment:{made.id}", after=public(enrolment), then=then)

        return await self._changes.make(by, "enrolment.create", work, dry_run=dry_run), made.text

    async def revoke(
        self, enrolment_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False
    ) -> Enrolment:
        """Let nobody enrol with it any more. Raises NotFound, StaleVersion."""

        def work(connection: sqlite3.Connection) -> Change[Enrolment]:
            old = self._table.get(connection, enrolment_id, expect)
            new = replace(old, revoked_at=old.revoked_at or self._wall(), version=old.version + 1)
            self._table.put(connection, new)
            return Change(
                new,
                f"enrolment:{enrolment_id}",
                before=public(old),
                after=public(new),
                then=None if dry_run else lambda: self._tell(new),
            )

        return await self._changes.make(by, "enrolment.revoke", work, dry_run=dry_run, reserve=True)

    async def redeem(
        self,
        token: str,
        *,
        device_id: str | None = None,
        public_key: str | None = None,
        firmware: str = "",
        ttl_s: float | None = None,
        by: Actor,
    ) -> Enrolled:
        """Make the device and its first credential.

        A device that exists is given a credential only by an enrolment that names it; whatever it had ends then.

        Raises:
            EnrolmentRefused: the token is unknown, used up, expired or revoked, or for another device.
            InvalidChange: the id, the key or the life asked for is none; the token is not used up by that.
        """
        if device_id is not None:
            validation.identifier(device_id, "/device_id")
        key = None if public_key is None else public_key_of(public_key)
        parts = bearer.read(PREFIX, token)

        def work(connection: sqlite3.Connection) -> Change[Enrolled]:
            enrolment = self._redeemable(connection, parts)
            if enrolment.kind is Kind.NODE:
                raise EnrolmentRefused(REFUSED, reason="enrolment_unknown")
            if enrolment.device_id is not None and device_id not in (None, enrolment.device_id):
                raise EnrolmentRefused(REFUSED, reason="enrolment_other_device")
            name = enrolment.device_id or device_id or f"device-{secrets.token_hex(4)}"
            standing = self._devices.find(connection, name)
            if standing is not None and enrolment.device_id is None:
                raise EnrolmentRefused(REFUSED, reason="enrolment_device_exists")
            used = replace(enrolment, used=enrolment.used + 1, version=enrolment.version + 1)
            self._table.put(connection, used)
            enrolled, then = self.admit(connection, standing, name, enrolment, key, firmware, ttl_s)
            details = {
                "enrolment": enrolment.id,
                "device": public(enrolled.device),
                "credential": enrolled.credential_id,
            }

            def known() -> None:
                then()
                if used.used >= used.uses:
                    self._registry.enrolling(used.id, None)

            return Change(enrolled, f"device:{name}", details=details, then=known)

        try:
            return await self._changes.make(by, "enrolment.redeem", work)
        except EnrolmentRefused as refused:
            await self._audit.record(
                by,
                "enrolment.redeem",
                f"enrolment:{parts[0]}" if parts else "enrolment",
                outcome="refused",
                reason=refused.reason,
            )
            raise

    def use_for_node(self, connection: sqlite3.Connection, parts: tuple[str, str] | None) -> Enrolment:
        """Use up one of the uses of a node's enrolment, within a transaction. Raises EnrolmentRefused."""
        enrolment = self._redeemable(connection, parts)
        if enrolment.kind is not Kind.NODE:
            raise EnrolmentRefused(REFUSED, reason="enrolment_unknown")
        self._table.put(connection, replace(enrolment, used=enrolment.used + 1, version=enrolment.version + 1))
        return enrolment

    def load(self, connection: sqlite3.Connection) -> None:
        """Tell the registry which nodes may ask to join, and which devices for their credential."""
        alive = "revoked_at IS NULL AND (kind = ? OR (used < uses AND expires_at > ?))"
        for row in connection.execute(f"SELECT * FROM enrolments WHERE {alive}", (Kind.NODE.value, self._wall())):
            self._tell(self._table.of(row), row["secret"])

    def _tell(self, enrolment: Enrolment, digest: bytes | None = None) -> None:
        tell = self._registry.joining if enrolment.kind is Kind.NODE else self._registry.enrolling
        if digest is not None and enrolment.revoked_at is None:
            tell(enrolment.id, (digest, enrolment.expires_at))
        elif enrolment.revoked_at is not None:
            tell(enrolment.id, None)

    def admit(
        self,
        connection: sqlite3.Connection,
        standing: Device | None,
        name: str,
        made_from: Any,
        key: tuple[str, str] | None,
        firmware: str,
        ttl_s: float | None,
    ) -> tuple[Enrolled, Callable[[], None]]:
        """The device `name` and its first credential, within a transaction; the call is for after the commit."""
        end_older: Callable[[], None] | None = None
        if standing is None:
            device = self._devices.insert(
                connection,
                NewDevice(
                    name,
                    made_from.kind,
                    made_from.profile,
                    made_from.labels,
                    made_from.groups,
                    made_from.services,
                    made_from.routes,
                    firmware,
                ),
            )
        else:
            device = standing
            end_older = self._credentials.end_older(connection, name)
        secret: str | None = None
        if key is not None:
            renewal = self._credentials.insert_key(connection, name, *key)
        else:
            renewal, secret = self._credentials.insert_secret(connection, name)
        try:
            issued = self._credentials.mint(connection, device, ttl_s)
        except NotAllowed as error:
            raise EnrolmentRefused(REFUSED, reason=error.reason) from error

        def then() -> None:
            if end_older is not None:
                end_older()
            self._registry.device(device)

        ca = self._identity.ca_path.read_text()
        return Enrolled(device, issued.expires_at, ca, issued.token, renewal.id, secret), then

    def _redeemable(self, connection: sqlite3.Connection, parts: tuple[str, str] | None) -> Enrolment:
        row = None
        if parts is not None:
            row = connection.execute("SELECT * FROM enrolments WHERE id = ?", (parts[0],)).fetchone()
        known = bearer.matches(parts[1] if parts else "", None if row is None else row["secret"])
        if row is None or not known:
            raise EnrolmentRefused(REFUSED, reason="enrolment_unknown")
        enrolment = self._table.of(row)
        if enrolment.revoked_at is not None:
            raise EnrolmentRefused(REFUSED, reason="enrolment_revoked")
        if enrolment.expires_at <= self._wall():
            raise EnrolmentRefused(REFUSED, reason="enrolment_expired")
        if enrolment.used >= enrolment.uses:
            raise EnrolmentRefused(REFUSED, reason="enrolment_used_up")
        return enrolment
