"""What devices are to be configured with: one document for a device, for those with certain labels, a fleet, or all.

The most specific document that stands is a device's, whole: nothing is merged. `target` says whose it is, from the most
specific:

    device:<id>          one device
    labels:<k>=<v>,...   those that have all of these labels; more labels go first, then the text that sorts first
    fleet:<id>           those that came in by a fleet's key
    all                  every registered device

Each document that is set has a number of its own (`version`), unique over all targets: when it was set, in Unix ms, or
one more than the last. So a number says what a device has, whichever document that came from, and a device only
compares whether two are the same. Nor does a node use one again that it gave before it was restored from a backup, or
that another node has given.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control import validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, Page, exactly, flag
from gateway.control.table import Table
from gateway.errors import InvalidChange, NotFound, StaleVersion

#: Of a document, as compact JSON. What a small device can take whole, beside what it does.
MAX_BYTES = 4096
#: Objects and lists within each other; MicroPython reads JSON by recursion.
MAX_DEPTH = 8
#: Each is looked at for each device that asks.
MAX_SELECTORS = 200
MAX_LABELS = 8
#: Versions of a target that can be gone back to.
KEPT_VERSIONS = 100
MAX_REASON = 200
ALL = "all"

_SELECTED = re.compile(r"[A-Za-z0-9_.-]{1,64}=[A-Za-z0-9_.-]{1,64}")
_NAMED = re.compile(r"(device|fleet):([A-Za-z0-9_-]{1,64})")
_WHAT = "a target is device:ID, labels:KEY=VALUE,…, fleet:ID or all"


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A document as it was set. `standing`: it is the one of its target now."""

    version: int
    target: str
    document: dict[str, Any]
    standing: bool
    at: float
    by: str
    comment: str


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What a device said of `version`, and when. `applied`: the version that it took last, None for none yet."""

    device_id: str
    version: int
    ok: bool
    reason: str
    at: float
    applied: int | None
    applied_at: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that two documents do not share; None where it is not there. `pointer`: RFC 6901."""

    pointer: str
    before: Any
    after: Any


_LISTING = Listing(
    "device_configs",
    "version",
    {"version": "version", "target": "target", "at": "at"},
    {"target": exactly("target"), "standing": flag("standing")},
    ("target", "comment"),
)
_REPORTS = Listing(
    "device_config_reports",
    "device_id",
    {"device_id": "device_id", "at": "at"},
    {"ok": flag("ok"), "version": exactly("version")},
    ("device_id", "reason"),
)


class DeviceConfigs:
    """The documents of one control plane, and what devices said of them."""

    SORTS = tuple(_LISTING.sorts)

    def __init__(self, changes: Changes, wall: Callable[[], float]) -> None:
        #: Told whose document may be another one now; None: anybody's. Called in the loop, must not raise.
        self.on_change: Callable[[frozenset[str] | None], None] = lambda devices: None
        self._changes = changes
        self._database = changes.database
        self._wall = wall
        self._table = Table(DeviceConfig, "device configuration", _LISTING)
        self._reports = Table(DeviceReport, "report of the device", _REPORTS)

    # What stands, and what stood

    async def list(
        self, *, cursor: str | None = None, limit: int = 50, sort: str = "target", q: str | None = None
    ) -> Page[DeviceConfig]:
        """The documents that stand."""
        filters = {"standing": True}
        return await self._database.read(
            lambda connection: self._table.page(connection, cursor, limit, sort, q, filters)
        )

    async def history(self, target: str, *, cursor: str | None = None, limit: int = 50) -> Page[DeviceConfig]:
        """The versions of a target, newest first. Raises NotFound where there never was one, InvalidChange."""
        filters = {"target": read_target(target)}

        def work(connection: sqlite3.Connection) -> Page[DeviceConfig]:
            page = self._table.page(connection, cursor, limit, "-version", None, filters)
            if not page.items and cursor is None:
                raise NotFound(f"there is no configuration of {target}")
            return page

        return await self._database.read(work)

    async def get(self, target: str) -> DeviceConfig:
        """The document that stands for a target. Raises NotFound, InvalidChange."""
        target = read_target(target)
        return await self._database.read(lambda connection: self._standing(connection, target))

    async def version(self, target: str, version: int) -> DeviceConfig:
        """Raises NotFound, InvalidChange."""
        target = read_target(target)
        return await self._database.read(lambda connection: self._version(connection, target, version))

    async def of_device(self, device_id: str) -> tuple[DeviceConfig | None, int, DeviceReport | None]:
        """What a device is to have, the version of its own document (0: it has none), and what it said last.

        Raises NotFound.
        """

        def work(connection: sqlite3.Connection) -> tuple[DeviceConfig | None, int, DeviceReport | None]:
            _known(connection, f"device:{device_id}")
            version = desired(connection, [device_id])[device_id]
            own = self._find(connection, f"device:{device_id}")
            config = self._table.get(connection, version) if version else None
            return config, 0 if own is None else own.version, self._reports.find(connection, device_id)

        return await self._database.read(work)

    # Changes

    async def put(
        self,
        target: str,
        document: Mapping[str, Any],
        *,
        by: Actor,
        comment: str = "",
        expect: int | None = None,
        dry_run: bool = False,
    ) -> DeviceConfig:
        """Set a target's document. `expect`: the version that stands, 0 for none, None for whatever does. What is the
        same as before is a new version, too: devices that refused it try again.

        Raises InvalidChange, NotFound for a device or fleet that is not there, StaleVersion.
        """
        target, text = read_target(target), written(document)
        validation.text(comment, "/comment", most=validation.MAX_NOTES)
        work = self._setting(target, lambda connection: text, comment, by, expect)
        return await self._changes.make(by, "device_config.set", work, dry_run=dry_run)

    async def roll_back(
        self, target: str, version: int, *, by: Actor, expect: int | None = None, dry_run: bool = False
    ) -> DeviceConfig:
        """Set what was set as this version. Raises NotFound, StaleVersion, InvalidChange."""
        target = read_target(target)

        def old(connection: sqlite3.Connection) -> str:
            return written(self._version(connection, target, version).document)

        work = self._setting(target, old, f"rollback to {version}", by, expect)
        return await self._changes.make(by, "device_config.roll_back", work, dry_run=dry_run)

    async def withdraw(self, target: str, *, by: Actor, expect: int | None = None, dry_run: bool = False) -> None:
        """Let no document of this target stand: the next less specific one holds. Devices for which none is left
        keep what they have. Raises NotFound, StaleVersion, InvalidChange."""
        target = read_target(target)

        def work(connection: sqlite3.Connection) -> Change[None]:
            old = self._standing(connection, target)
            _match(target, old, expect)
            connection.execute("UPDATE device_configs SET standing = 0 WHERE version = ?", (old.version,))
            return Change(None, _object(target), before=_audited(old), then=lambda: self.on_change(_whose(target)))

        await self._changes.make(by, "device_config.withdraw", work, dry_run=dry_run, reserve=True)

    def _setting(
        self,
        target: str,
        text: Callable[[sqlite3.Connection], str],
        comment: str,
        by: Actor,
        expect: int | None,
    ) -> Callable[[sqlite3.Connection], Change[DeviceConfig]]:
        def work(connection: sqlite3.Connection) -> Change[DeviceConfig]:
            _known(connection, target)
            old = self._find(connection, target)
            _match(target, old, expect)
            if old is None and target.startswith("labels:") and len(_selectors(connection)) >= MAX_SELECTORS:
                raise InvalidChange(f"there are {MAX_SELECTORS} selectors already; withdraw one", "/target")
            connection.execute("UPDATE device_configs SET standing = 0 WHERE target = ? AND standing", (target,))
            row = connection.execute(
                "INSERT INTO device_configs VALUES (?, ?, ?, 1, ?, ?, ?) RETURNING *",
                (self._next(connection), target, text(connection), self._wall(), by.id, comment),
            ).fetchone()
            connection.execute(
                "DELETE FROM device_configs WHERE target = ? AND version <= (SELECT version FROM device_configs "
                "WHERE target = ? ORDER BY version DESC LIMIT 1 OFFSET ?)",
                (target, target, KEPT_VERSIONS),
            )
            new = self._table.of(row)
            return Change(
                new,
                _object(target),
                before=None if old is None else _audited(old),
                after=_audited(new),
                then=lambda: self.on_change(_whose(target)),
            )

        return work

    def _next(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'device_configs'").fetchone()
        return max(0 if row is None else row["seq"] + 1, int(self._wall() * 1000))

    def _find(self, connection: sqlite3.Connection, target: str) -> DeviceConfig | None:
        row = connection.execute("SELECT * FROM device_configs WHERE target = ? AND standing", (target,)).fetchone()
        return None if row is None else self._table.of(row)

    def _standing(self, connection: sqlite3.Connection, target: str) -> DeviceConfig:
        found = self._find(connection, target)
        if found is None:
            raise NotFound(f"there is no configuration of {target}")
        return found

    def _version(self, connection: sqlite3.Connection, target: str, version: int) -> DeviceConfig:
        found = self._table.find(connection, version)
        if found is None or found.target != target:
            raise NotFound(f"{target} has no version {version}; the last {KEPT_VERSIONS} are kept")
        return found

    # What devices are told, and what they say

    async def wanted(self, devices: Sequence[str]) -> dict[str, tuple[int, str] | None]:
        """What each of these devices is to have: a version and its document as JSON; (0, "") where there is none, None
        for who is not registered."""

        def work(connection: sqlite3.Connection) -> dict[str, tuple[int, str] | None]:
            found: dict[str, tuple[int, str] | None] = dict.fromkeys(devices)
            texts: dict[int, str] = {}
            for device, version in desired(connection, devices).items():
                if version not in texts:
                    row = connection.execute(
                        "SELECT document FROM device_configs WHERE version = ?", (version,)
                    ).fetchone()
                    texts[version] = "" if row is None else row["document"]
                found[device] = (version, texts[version])
            return found

        return await self._database.read(work)

    async def report(self, device_id: str, version: int, ok: bool, reason: str) -> bool:
        """Keep what a device says of a version. Returns whether it is new. Raises NotFound."""
        reason = "".join(each if each.isprintable() else " " for each in reason)[:MAX_REASON]

        def said(connection: sqlite3.Connection) -> bool:
            _known(connection, f"device:{device_id}")
            old = self._reports.find(connection, device_id)
            return old is not None and (old.version, old.ok, old.reason) == (version, ok, reason)

        def work(connection: sqlite3.Connection) -> bool:
            _known(connection, f"device:{device_id}")
            now = self._wall()
            connection.execute(
                "INSERT INTO device_config_reports VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET "
                "version = excluded.version, ok = excluded.ok, reason = excluded.reason, at = excluded.at, "
                "applied = IFNULL(excluded.applied, applied), applied_at = IFNULL(excluded.applied_at, applied_at)",
                (device_id, version, ok, reason, now, version if ok else None, now if ok else None),
            )
            return True

        # Each connection of a device says it once more: that costs no write.
        if await self._database.read(said):
            return False
        return await self._database.write(work)

    async def reports(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sort: str = "device_id",
        q: str | None = None,
        **filters: object,
    ) -> tuple[Page[DeviceReport], dict[str, int]]:
        """What devices have said, and which version each of them is to have."""

        def work(connection: sqlite3.Connection) -> tuple[Page[DeviceReport], dict[str, int]]:
            page = self._reports.page(connection, cursor, limit, sort, q, filters)
            return page, desired(connection, [report.device_id for report in page.items])

        return await self._database.read(work)


def desired(connection: sqlite3.Connection, devices: Iterable[str]) -> dict[str, int]:
    """The version that each of these devices is to have, 0 for none; without those that are not registered."""
    selectors = _selectors(connection)
    general = _version_of(connection, ALL)
    found = {}
    for device in devices:
        row = connection.execute("SELECT labels FROM devices WHERE id = ?", (device,)).fetchone()
        if row is None:
            continue
        labels = json.loads(row["labels"])
        found[device] = (
            _version_of(connection, f"device:{device}")
            or next((version for pairs, version in selectors if pairs <= labels.items()), 0)
            or _of_fleet(connection, device)
            or general
        )
    return found


def _version_of(connection: sqlite3.Connection, target: str) -> int:
    row = connection.execute("SELECT version FROM device_configs WHERE target = ? AND standing", (target,)).fetchone()
    return 0 if row is None else int(row["version"])


def _of_fleet(connection: sqlite3.Connection, device: str) -> int:
    row = connection.execute(
        "SELECT fleet_id FROM serials WHERE device_id = ? ORDER BY claimed_at DESC, fleet_id LIMIT 1", (device,)
    ).fetchone()
    return 0 if row is None else _version_of(connection, f"fleet:{row['fleet_id']}")


def _selectors(connection: sqlite3.Connection) -> list[tuple[set[tuple[str, str]], int]]:
    """The selectors that stand, as pairs with their version, in the order in which they win."""
    rows = connection.execute(
        "SELECT target, version FROM device_configs WHERE standing AND target >= 'labels:' AND target < 'labels;'"
    ).fetchall()
    read = [(row["target"], _pairs(row["target"]), int(row["version"])) for row in rows]
    return [(set(pairs), version) for _, pairs, version in sorted(read, key=lambda each: (-len(each[1]), each[0]))]


def _pairs(target: str) -> list[tuple[str, str]]:
    pairs = (pair.partition("=") for pair in target.removeprefix("labels:").split(","))
    return [(key, value) for key, _, value in pairs]


def read_target(text: str) -> str:
    """A target in the form that is kept, with its labels in order. Raises InvalidChange."""
    if text == ALL or _NAMED.fullmatch(text):
        return text
    kind, _, selector = text.partition(":")
    labels = selector.split(",")
    if kind != "labels" or not all(map(_SELECTED.fullmatch, labels)):
        raise InvalidChange(f"{_WHAT}; labels have A-Z a-z 0-9 _ . - here", "/target")
    if len(labels) > MAX_LABELS or len({label.partition("=")[0] for label in labels}) < len(labels):
        raise InvalidChange(f"a selector has at most {MAX_LABELS} labels, each once", "/target")
    return f"labels:{','.join(sorted(labels))}"


def written(document: Mapping[str, Any]) -> str:
    """A document as devices get it. Raises InvalidChange where a device could not read it."""
    if not isinstance(document, Mapping):
        raise InvalidChange("a configuration is a JSON object", "/document")
    if _depth(document) > MAX_DEPTH:
        raise InvalidChange(f"a configuration has at most {MAX_DEPTH} levels", "/document")
    try:
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise InvalidChange(f"this is no JSON: {error}", "/document") from error
    if size > MAX_BYTES:
        raise InvalidChange(f"a configuration has at most {MAX_BYTES} bytes of compact JSON, not {size}", "/document")
    return text


def _depth(value: object, so_far: int = 0) -> int:
    if so_far > MAX_DEPTH or not isinstance(value, Mapping | list | tuple):
        return so_far
    inner = value.values() if isinstance(value, Mapping) else value
    return max((_depth(each, so_far + 1) for each in inner), default=so_far + 1)


def differences(before: Any, after: Any, pointer: str = "") -> list[Difference]:
    """What differs between two documents, by the names in the newer one and then those that have gone."""
    if before == after and type(before) is type(after):
        return []
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [Difference(pointer, before, after)]
    found = []
    for name in {**after, **before}:
        at = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        found += differences(before.get(name), after.get(name), at)
    return found


def _known(connection: sqlite3.Connection, target: str) -> None:
    """Raises NotFound for a device or fleet that is not there."""
    noun, _, name = target.partition(":")
    if noun in ("device", "fleet"):
        table = "devices" if noun == "device" else "fleets"
        if connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", (name,)).fetchone() is None:
            raise NotFound(f"there is no {noun} {name!r}")


def _match(target: str, old: DeviceConfig | None, expect: int | None) -> None:
    standing = 0 if old is None else old.version
    if expect is not None and expect != standing:
        raise StaleVersion(f"the configuration of {target} has changed: it has version {standing}, not {expect}")


def _object(target: str) -> str:
    return target if target.startswith("device:") else f"device_config:{target}"


def _whose(target: str) -> frozenset[str] | None:
    return frozenset({target.removeprefix("device:")}) if target.startswith("device:") else None


def _audited(config: DeviceConfig) -> dict[str, Any]:
    return {"target": config.target, "version": config.version, "document": config.document}
