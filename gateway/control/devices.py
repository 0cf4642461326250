"""Registered devices, and services that are registered like them.

A device's id is the subject of its tokens. `services` and `routes` bound what those tokens may do: a change holds for
live connections at once. To delete a device is to refuse every token that it was given until then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.control import validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, at_least, below, exactly, flag
from gateway.control.registry import Registry
from gateway.control.revocations import Revocations
from gateway.control.table import Readable, Table, public
from gateway.errors import AlreadyExists, ControlError, InvalidChange
from gateway.policy.principal import Kind

OWN_NAME = ("{sub}", "{sub}.*")
MAX_BULK = 10_000
EXPORTED_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Device:
    """`services`, `routes`: patterns that its tokens cannot go beyond. `version` grows with each change."""

    id: str
    kind: Kind
    profile: str
    labels: dict[str, str]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    routes: tuple[str, ...]
    enabled: bool
    firmware: str
    notes: str
    created_at: float
    updated_at: float
    last_seen_at: float | None
    not_before: float | None
    version: int


@dataclass(frozen=True, slots=True)
class NewDevice:
    id: str
    kind: Kind = Kind.DEVICE
    profile: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] = ()
    services: Sequence[str] = OWN_NAME
    routes: Sequence[str] = ()
    firmware: str = ""
    notes: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """`never_seen`: those that have never connected."""

    total: int
    disabled: int
    never_seen: int


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of one device of many: `device`, or the error why not."""

    index: int
    id: str
    device: Device | None = None
    error: ControlError | None = None


def labelled(value: str) -> tuple[str, tuple[object, ...]]:
    name, equals, wanted = value.partition("=")
    if equals:
        return "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)", (name, wanted)
    return "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ?)", (name,)


def grouped(value: str) -> tuple[str, tuple[object, ...]]:
    return "EXISTS (SELECT 1 FROM json_each(groups) WHERE value = ?)", (value,)


def among(ids: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    return "id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)


def not_among(ids: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    return "id NOT IN (SELECT value FROM json_each(?))", (json.dumps(ids),)


_SEEN = "IFNULL(last_seen_at, 0)"
_LISTING = Listing(
    "devices",
    "id",
    {
        "id": "id",
        "created_at": "created_at",
        "updated_at": "updated_at",
        "last_seen_at": _SEEN,
        "profile": "profile",
        "firmware": "firmware",
    },
    {
        "profile": exactly("profile"),
        "kind": exactly("kind"),
        "firmware": exactly("firmware"),
        "enabled": flag("enabled"),
        "group": grouped,
        "label": labelled,
        "among": among,
        "not_among": not_among,
        "seen_since": at_least(_SEEN),
        "seen_before": below(_SEEN),
    },
    ("id", "profile", "labels", "groups", "firmware", "notes"),
)

_CHECKS: dict[str, Callable[[Any], object]] = {
    "kind": lambda value: validation.member(Kind, value, "/kind", validation.DEVICE_KINDS),
    "profile": lambda value: validation.text(value, "/profile"),
    "labels": lambda value: validation.labels(value, "/labels"),
    "groups": lambda value: validation.texts(value, "/groups"),
    "services": lambda value: validation.patterns(value, "/services"),
    "routes": lambda value: validation.patterns(value, "/routes"),
    "enabled": lambda value: validation.flag(value, "/enabled"),
    "firmware": lambda value: validation.text(value, "/firmware"),
    "notes": lambda value: validation.text(value, "/notes", most=validation.MAX_NOTES),
}


class Devices(Readable[Device]):
    """The devices of one control plane."""

    ordered = "id"

    SORTS = tuple(_LISTING.sorts)
    FILTERS = tuple(_LISTING.filters)

    def __init__(
        self, changes: Changes, registry: Registry, revocations: Revocations, wall: Callable[[], float]
    ) -> None:
        self._changes = changes
        self._database = changes.database
        self._registry = registry
        self._revocations = revocations
        self._wall = wall
        self._table = Table(Device, "device", _LISTING)
        self._seen: dict[str, tuple[float, str | None]] = {}

    def load(self, connection: sqlite3.Connection) -> list[Device]:
        """Every device, for the registry."""
        return [self._table.of(row) for row in connection.execute("SELECT * FROM devices")]

    async def count(self, *, q: str | None = None, **filters: object) -> int:
        return await self._database.read(lambda connection: _LISTING.count(connection, q, filters))

    async def counts(self) -> DeviceCounts:
        """Of all of them, by one look at the table."""
        # Not on disk yet; whoever was seen before is in here as well.
        here = json.dumps(list(self._seen))

        def work(connection: sqlite3.Connection) -> DeviceCounts:
            row = connection.execute(
                "SELECT count(*), IFNULL(sum(NOT enabled), 0), IFNULL(sum(last_seen_at IS NULL"
                " AND id NOT IN (SELECT value FROM json_each(?))), 0) FROM devices",
                (here,),
            ).fetchone()
            return DeviceCounts(*row)

        return await self._database.read(work)

    async def export(self, names: Sequence[str]) -> AsyncIterator[str]:
        """Every device by id, with these of its values: JSON lines, many at a time, as SQLite writes them."""
        last = ""
        while True:
            lines, last = await self._database.read(
                lambda connection, after=last: self._table.json_lines(connection, names, after, EXPORTED_AT_ONCE)  # type: ignore[misc]
            )
            if not lines:
                return
            yield lines

    async def create(self, new: NewDevice, *, by: Actor, dry_run: bool = False) -> Device:
        """Raises AlreadyExists, InvalidChange."""

        def work(connection: sqlite3.Connection) -> Change[Device]:
            device = self.insert(connection, new)
            return Change(
                device, f"device:{device.id}", after=public(device), then=lambda: self._registry.device(device)
            )

        return await self._changes.make(by, "device.create", work, dry_run=dry_run)

    async def create_many(
        self, devices: Sequence[NewDevice], *, by: Actor, dry_run: bool = False
    ) -> Sequence[BulkOutcome]:
        """Create those that can be, all in one transaction; say of each what became of it."""
        if len(devices) > MAX_BULK:
            raise InvalidChange(f"at most {MAX_BULK} devices at a time")

        def work(connection: sqlite3.Connection) -> Change[Sequence[BulkOutcome]]:
            outcomes: list[BulkOutcome] = []
            for index, new in enumerate(devices):
                try:
                    outcomes.append(BulkOutcome(index, new.id, self.insert(connection, new)))
                except ControlError as error:
                    outcomes.append(BulkOutcome(index, new.id, error=error))
            created = [outcome.device for outcome in outcomes if outcome.device is not None]

            def then() -> None:
                for device in created:
                    self._registry.device(device)

            details = {
                "count": len(created),
                "created": [device.id for device in created],
                "refused": len(outcomes) - len(created),
            }
            return Change(tuple(outcomes), "devices", details=details, then=then)

        return await self._changes.make(by, "device.create_many", work, dry_run=dry_run)

    def insert(self, connection: sqlite3.Connection, new: NewDevice) -> Device:
        """Add a device within a transaction. Raises AlreadyExists, InvalidChange."""
        device_id = validation.identifier(new.id, "/id")
        values: dict[str, Any] = {name: check(getattr(new, name)) for name, check in _CHECKS.items()}
        if self._table.find(connection, device_id) is not None:
            raise AlreadyExists(f"there is a device {device_id!r} already")
        now = self._wall()
        return self._table.insert(
            connection,
            Device(
                id=device_id,
                **values,
                created_at=now,
                updated_at=now,
                last_seen_at=None,
                not_before=None,
                version=1,
            ),
        )

    def find(self, connection: sqlite3.Connection, device_id: str) -> Device | None:
        return self._table.find(connection, device_id)

    def require(self, connection: sqlite3.Connection, device_id: str) -> Device:
        """Raises NotFound."""
        return self._table.get(connection, device_id)

    async def update(
        self,
        device_id: str,
        changes: Mapping[str, object],
        *,
        by: Actor,
        expect: int | None = None,
        dry_run: bool = False,
        action: str = "device.update",
    ) -> Device:
        """Change some of its values. Raises NotFound, StaleVersion, InvalidChange."""
        validation.only(changes, _CHECKS)
        values: dict[str, Any] = {name: _CHECKS[name](value) for name, value in changes.items()}

        def work(connection: sqlite3.Connection) -> Change[Device]:
            old = self._table.get(connection, device_id, expect)
            new = replace(old, **values, updated_at=self._wall(), version=old.version + 1)
            self._table.put(connection, new)
            return Change(
                new,
                f"device:{device_id}",
                before=public(old),
                after=public(new),
                then=lambda: self._registry.device(new),
            )

        # Whoever is disabled or loses rights must lose them even when the disk is full.
        return await self._changes.make(by, action, work, dry_run=dry_run, reserve=True)

    async def disable(self, device_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> Device:
        """Refuse its tokens and close its connections, until it is enabled."""
        return await self.update(
            device_id, {"enabled": False}, by=by, expect=expect, dry_run=dry_run, action="device.disable"
        )

    async def enable(self, device_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> Device:
        return await self.update(
            device_id, {"enabled": True}, by=by, expect=expect, dry_run=dry_run, action="device.enable"
        )

    async def delete(self, device_id: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> None:
        """Forget it, and refuse every token that it has. Raises NotFound, StaleVersion."""

        def work(connection: sqlite3.Connection) -> Change[None]:
            device = self._table.get(connection, device_id, expect)
            self._table.delete(connection, device_id)
            revoked = self._revocations.revoke(connection, "subject", device_id, reason="device deleted", by=by)

            def then() -> None:
                self._seen.pop(device_id, None)
                self._revocations.take_over(revoked)
                self._registry.no_device(device_id)

            return Change(None, f"device:{device_id}", before=public(device), then=then)

        await self._changes.make(by, "device.delete", work, dry_run=dry_run, reserve=True)

    # Who was seen: kept in memory and written now and then; it is no change that anybody made.

    def seen(self, device_id: str, at: float, firmware: str | None = None) -> None:
        """Remember that a device was here; `write_seen` puts it on disk."""
        _, known = self._seen.get(device_id, (0.0, None))
        self._seen[device_id] = (at, known if firmware is None else firmware)

    async def write_seen(self) -> None:
        if not self._seen:
            return
        seen, self._seen = self._seen, {}
        entries = json.dumps([[device_id, at, firmware] for device_id, (at, firmware) in seen.items()])

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE devices SET last_seen_at = seen.at, firmware = IFNULL(seen.firmware, devices.firmware) FROM ("
                "SELECT value ->> 0 AS id, value ->> 1 AS at, value ->> 2 AS firmware FROM json_each(?)"
                ") AS seen WHERE devices.id = seen.id",
                (entries,),
            )

        await self._database.write(work)
