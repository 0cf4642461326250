"""Many devices with one key: each claims its credential with the fleet's key and a serial number that is on the list.

The key alone opens nothing. A serial is claimed once; claiming it again, after a factory reset, needs an operator who
releases it (fault 64).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.control import bearer, validation
from gateway.control.audit import Actor, Audit
from gateway.control.changes import Change, Changes
from gateway.control.device_keys import public_key_of
from gateway.control.devices import OWN_NAME, Devices
from gateway.control.enrolments import REFUSED, Enrolled, Enrolments, template
from gateway.control.paging import Listing, Page
from gateway.control.table import Table, public
from gateway.errors import EnrolmentRefused, InvalidChange, NotFound
from gateway.policy.principal import Kind

PREFIX = "gf"
MAX_SERIALS = 100_000

_SERIAL = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """`serials`: how many are on the list, `claimed`: how many of them have their device."""

    id: str
    name: str
    kind: Kind
    profile: str
    labels: dict[str, str]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    routes: tuple[str, ...]
    expires_at: float | None
    created_at: float
    created_by: str
    revoked_at: float | None
    version: int
    serials: int = 0
    claimed: int = 0


@dataclass(frozen=True, slots=True)
class NewFleet:
    name: str
    serials: Sequence[str] = ()
    kind: Kind = Kind.DEVICE
    profile: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] = ()
    services: Sequence[str] = OWN_NAME
    routes: Sequence[str] = ()
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Serial:
    serial: str
    device_id: str | None
    claimed_at: float | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A fleet as it is stored."""

    id: str
    name: str
    kind: Kind
    profile: str
    labels: dict[str, str]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    routes: tuple[str, ...]
    expires_at: float | None
    created_at: float
    created_by: str
    revoked_at: float | None
    version: int


_SERIALS = Table(Serial, "serial", Listing("serials", "serial", {"serial": "serial"}, {}))


class Fleets:
    """The fleets of one control plane."""

    def __init__(
        self,
        changes: Changes,
        audit: Audit,
        devices: Devices,
        enrolments: Enrolments,
        wall: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._audit = audit
        self._devices = devices
        self._enrolments = enrolments
        self._wall = wall
        self._table = Table(
            _Row, "fleet", Listing("fleets", "id", {"created_at": "created_at", "id": "id"}, {}, ("id", "name"))
        )

    async def get(self, fleet_id: str) -> Fleet:
        """Raises NotFound."""
        return await self._database.read(lambda connection: _counted(connection, self._table.get(connection, fleet_id)))

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, sort: str = "-created_at", q: str | None = None
    ) -> Page[Fleet]:
        def work(connection: sqlite3.Connection) -> Page[Fleet]:
            page = self._table.page(connection, cursor, limit, sort, q)
            return Page(tuple(_counted(connection, row) for row in page.items), page.next)

        return await self._database.read(work)

    async def serials(self, fleet_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[Serial]:
        """Raises NotFound."""

        def work(connection: sqlite3.Connection) -> Page[Serial]:
            self._table.get(connection, fleet_id)
            rows = connection.execute(
                "SELECT * FROM serials WHERE fleet_id = ? AND serial > ? ORDER BY serial LIMIT ?",
                (fleet_id, cursor or "", limit + 1),
            ).fetchall()
            items = tuple(_SERIALS.of(row) for row in rows[:limit])
            return Page(items, items[-1].serial if len(rows) > limit else None)

        return await self._database.read(work)

    async def create(self, new: NewFleet, *, by: Actor, dry_run: bool = False) -> tuple[Fleet, str]:
        """A fleet and its key, shown this once. Raises InvalidChange."""
        values = template(new)
        name = validation.text(new.name, "/name", empty=False)
        serials = _checked(new.serials)
        ttl = None if new.ttl_s is None else validation.number(new.ttl_s, "/ttl_s", 1, 10 * 366 * 86_400)
        made = bearer.new(PREFIX)

        def work(connection: sqlite3.Connection) -> Change[Fleet]:
            now = self._wall()
            row = _Row(
                id=made.id,
                name=name,
                **values,
                expires_at=None if ttl is None else now + ttl,
                created_at=now,
                created_by=by.id,
                revoked_at=None,
                version=1,
            )
            self._table.insert(connection, row, secret=made.digest)
            _add(connection, made.id, serials)
            return Change(_counted(connection, row), f"fleet:{made.id}", after=public(row) | {"serials": len(serials)})

        return await self._changes.make(by, "fleet.create", work, dry_run=dry_run), made.text

    async def add_serials(self, fleet_id: str, serials: Sequence[str], *, by: Actor, dry_run: bool = False) -> Fleet:
        """Raises NotFound, InvalidChange."""
        checked = _checked(serials)

        def work(connection: sqlite3.Connection) -> Change[Fleet]:
            old = self._table.get(connection, fleet_id)
            new = replace(old, version=old.version + 1)
            self._table.put(connection, new)
            added = _add(connection, fleet_id, checked)
            return Change(_counted(connection, new), f"fleet:{fleet_id}", details={"added": added})

        return await self._changes.make(by, "fleet.add_serials", work, dry_run=dry_run)

    async def release(self, fleet_id: str, serial: str, *, by: Actor, dry_run: bool = False) -> Serial:
        """Let a serial be claimed once more. Raises NotFound."""

        def work(connection: sqlite3.Connection) -> Change[Serial]:
            row = connection.execute(
                "UPDATE serials SET claimed_at = NULL WHERE fleet_id = ? AND serial = ? RETURNING *",
                (fleet_id, serial),
            ).fetchone()
            if row is None:
                raise NotFound(f"fleet {fleet_id!r} has no serial {serial!r}")
            return Change(_SERIALS.of(row), f"fleet:{fleet_id}", details={"serial": serial})

        return await self._changes.make(by, "fleet.release", work, dry_run=dry_run)

    async def revoke(self, fleet_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> Fleet:
        """Let nobody claim with its key any more. Devices that have claimed stay. Raises NotFound, StaleVersion."""

        def work(connection: sqlite3.Connection) -> Change[Fleet]:
            old = self._table.get(connection, fleet_id, expect)
            new = replace(old, revoked_at=old.revoked_at or self._wall(), version=old.version + 1)
            self._table.put(connection, new)
            return Change(_counted(connection, new), f"fleet:{fleet_id}", before=public(old), after=public(new))

        return await self._changes.make(by, "fleet.revoke", work, dry_run=dry_run, reserve=True)

    async def claim(
        self,
        key: str,
        serial: str,
        *,
        public_key: str | None = None,
        firmware: str = "",
        ttl_s: float | None = None,
        by: Actor,
    ) -> Enrolled:
        """Make the device of this serial and its first credential; its id is the serial.

        Raises:
            EnrolmentRefused: the key is unknown, expired or revoked, or the serial is not on the list or claimed.
            InvalidChange: the public key or the life asked for is none.
        """
        parts = bearer.read(PREFIX, key)
        proof = None if public_key is None else public_key_of(public_key)

        def work(connection: sqlite3.Connection) -> Change[Enrolled]:
            fleet = self._claimable(connection, parts)
            listed = connection.execute(
                "SELECT * FROM serials WHERE fleet_id = ? AND serial = ?", (fleet.id, serial)
            ).fetchone()
            if listed is None:
                raise EnrolmentRefused(REFUSED, reason="enrolment_serial_unknown")
            if listed["claimed_at"] is not None:
                raise EnrolmentRefused(REFUSED, reason="enrolment_serial_claimed")
            connection.execute(
                "UPDATE serials SET device_id = ?, claimed_at = ? WHERE fleet_id = ? AND serial = ?",
                (serial, self._wall(), fleet.id, serial),
            )
            standing = self._devices.find(connection, serial)
            if standing is not None and listed["device_id"] != serial:
                # It is somebody's who never claimed it here: nobody gets at it by being on a list.
                raise EnrolmentRefused(REFUSED, reason="enrolment_device_exists")
            enrolled, then = self._enrolments.admit(connection, standing, serial, fleet, proof, firmware, ttl_s)
            details = {"fleet": fleet.id, "device": public(enrolled.device), "credential": enrolled.credential_id}
            return Change(enrolled, f"device:{serial}", details=details, then=then)

        try:
            return await self._changes.make(by, "fleet.claim", work)
        except EnrolmentRefused as refused:
            name = f"fleet:{parts[0]}" if parts else "fleet"
            await self._audit.record(
                by, "fleet.claim", name, outcome="refused", reason=refused.reason, details={"serial": serial[:64]}
            )
            raise

    def _claimable(self, connection: sqlite3.Connection, parts: tuple[str, str] | None) -> _Row:
        row = None
        if parts is not None:
            row = connection.execute("SELECT * FROM fleets WHERE id = ?", (parts[0],)).fetchone()
        known = bearer.matches(parts[1] if parts else "", None if row is None else row["secret"])
        if row is None or not known:
            raise EnrolmentRefused(REFUSED, reason="enrolment_unknown")
        fleet = self._table.of(row)
        if fleet.revoked_at is not None:
            raise EnrolmentRefused(REFUSED, reason="enrolment_revoked")
        if fleet.expires_at is not None and fleet.expires_at <= self._wall():
            raise EnrolmentRefused(REFUSED, reason="enrolment_expired")
        return fleet


def _checked(serials: Sequence[str]) -> tuple[str, ...]:
    if isinstance(serials, str) or len(serials) > MAX_SERIALS:
        raise InvalidChange(f"this is a list of at most {MAX_SERIALS} serials", "/serials")
    for at, serial in enumerate(serials):
        if not isinstance(serial, str) or _SERIAL.fullmatch(serial) is None:
            raise InvalidChange("a serial has 1 to 64 of A-Z a-z 0-9 _ -", f"/serials/{at}")
    return tuple(dict.fromkeys(serials))


def _add(connection: sqlite3.Connection, fleet_id: str, serials: Sequence[str]) -> int:
    cursor = connection.executemany(
        "INSERT OR IGNORE INTO serials VALUES (?, ?, NULL, NULL)", [(fleet_id, serial) for serial in serials]
    )
    return max(cursor.rowcount, 0)


def _counted(connection: sqlite3.Connection, row: _Row) -> Fleet:
    total, claimed = connection.execute(
        "SELECT count(*), count(claimed_at) FROM serials WHERE fleet_id = ?", (row.id,)
    ).fetchone()
    return Fleet(**{name: getattr(row, name) for name in _Row.__dataclass_fields__}, serials=total, claimed=claimed)
