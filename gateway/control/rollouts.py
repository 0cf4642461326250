"""Rollouts: a firmware for the devices that a selector fits, a percentage of them at first.

What operators do with them is here; what devices say is in `rollout_reports`, and what follows from that in
`rollout_steps`. `on_change` is told of each rollout that has changed, once that is on disk.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.control import validation
from gateway.control.audit import Actor
from gateway.control.changes import Change, Changes
from gateway.control.devices import grouped, labelled
from gateway.control.firmware import Firmwares
from gateway.control.paging import Listing, Page, exactly
from gateway.control.rollout_steps import AGAIN, FAILURES, Phase, Progress, Rollout, Step, place_of
from gateway.control.table import Readable, Table, public
from gateway.errors import AlreadyExists, InvalidChange
from gateway.policy.principal import Kind

MAX_CONFIRM_S = 7 * 86_400.0
MAX_FAILURES = 1_000_000
#: Devices that are looked at in one piece.
AT_ONCE = 1000

_FAILED = ", ".join(f"'{step}'" for step in sorted(FAILURES))
_FIELDS = tuple(Progress.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class NewRollout:
    """`labels`: each a name, or name=value; a device must have all of them, and be in all `groups`."""

    firmware: str
    labels: Sequence[str] = ()
    groups: Sequence[str] = ()
    profile: str = ""
    percentage: float = 100.0
    max_failures: int = 3
    confirm_s: float = 600.0


ROLLOUTS: Table[Rollout] = Table(
    Rollout,
    "rollout",
    Listing(
        "rollouts",
        "id",
        {"created_at": "created_at", "id": "id"},
        {"firmware": exactly("firmware_id"), "board": exactly("board"), "state": exactly("state")},
        ("id", "firmware_id", "board", "firmware_version", "labels", "groups", "profile"),
    ),
)
PROGRESS: Table[Progress] = Table(
    Progress,
    "device of this rollout",
    Listing(
        "rollout_devices",
        "device_id",
        {"id": "device_id", "updated_at": "updated_at"},
        {"rollout": exactly("rollout_id"), "state": exactly("state")},
        ("device_id", "reason"),
    ),
)


def _percentage(value: object) -> float:
    share = validation.number(value, "/percentage", 0, 100)
    if not share:
        raise InvalidChange("a percentage is above 0: pause it to reach nobody", "/percentage")
    return share


_CHANGES: Mapping[str, Callable[[object], object]] = {
    "percentage": _percentage,
    "max_failures": lambda value: int(validation.number(value, "/max_failures", 0, MAX_FAILURES)),
    "confirm_s": lambda value: validation.number(value, "/confirm_s", 1, MAX_CONFIRM_S),
}


class Rollouts(Readable[Rollout]):
    """The rollouts of one control plane."""

    def __init__(self, changes: Changes, firmware: Firmwares, wall: Callable[[], float]) -> None:
        self.on_change: Callable[[Rollout], None] = lambda rollout: None
        #: Bytes that devices have of what they download, by rollout and device, where the disk does not know it yet.
        self.received: dict[tuple[str, str], int] = {}
        self._changes = changes
        self._database = changes.database
        self._table = ROLLOUTS
        self._firmware = firmware
        self._wall = wall

    async def counts(self, rollout_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """How many devices of each rollout are at which step."""

        def work(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
            return {each: counted(connection, each) for each in rollout_ids}

        return await self._database.read(work)

    async def devices(
        self,
        rollout_id: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sort: str = "id",
        q: str | None = None,
        state: Step | None = None,
    ) -> Page[Progress]:
        """The devices that have been offered it. Raises NotFound."""

        def work(connection: sqlite3.Connection) -> Page[Progress]:
            ROLLOUTS.get(connection, rollout_id)
            filters = {"rollout": rollout_id, "state": state}
            page = PROGRESS.page(connection, cursor, limit, sort, q, filters)
            items = [replace(item, received=self._received(item)) for item in page.items]
            return Page(tuple(items), page.next)

        return await self._database.read(work)

    def _received(self, item: Progress) -> int:
        return max(item.received, self.received.get((item.rollout_id, item.device_id), 0))

    async def reached(self, rollout: Rollout) -> AsyncIterator[Sequence[str]]:
        """Ids of registered devices that it reaches, whatever their board, some at a time."""
        after: str | None = ""
        while after is not None:
            inside, after = await self._database.read(
                lambda connection, at=after: _selected(connection, rollout, at)  # type: ignore[misc]
            )
            yield inside

    async def create(self, new: NewRollout, *, by: Actor, dry_run: bool = False) -> Rollout:
        """Begin it. Raises NotFound for the firmware, InvalidChange."""
        labels = validation.texts(new.labels, "/labels")
        if any(label.startswith("=") for label in labels):
            raise InvalidChange("a label is a name, or name=value", "/labels")
        values = {
            "labels": labels,
            "groups": validation.texts(new.groups, "/groups"),
            "profile": validation.text(new.profile, "/profile"),
            **{name: check(getattr(new, name)) for name, check in _CHANGES.items()},
        }

        def work(connection: sqlite3.Connection) -> Change[Rollout]:
            firmware = self._firmware.require(connection, new.firmware)
            if not self._firmware.usable(firmware):
                raise AlreadyExists("the image of this firmware is damaged: upload it again", reason="image_damaged")
            now = self._wall()
            rollout = Rollout(
                id=secrets.token_hex(6),
                firmware_id=firmware.id,
                board=firmware.board,
                firmware_version=firmware.version,
                state=Phase.RUNNING,
                reason="",
                forgiven=0,
                created_at=now,
                created_by=by.id,
                updated_at=now,
                version=1,
                **values,  # type: ignore[arg-type]
            )
            ROLLOUTS.insert(connection, rollout)
            return self._change(rollout, None)

        return await self._changes.make(by, "rollout.create", work, dry_run=dry_run)

    async def update(
        self,
        rollout_id: str,
        changes: Mapping[str, object],
        *,
        by: Actor,
        expect: int | None = None,
        dry_run: bool = False,
    ) -> Rollout:
        """Change percentage, max_failures or confirm_s. Raises NotFound, StaleVersion, InvalidChange, AlreadyExists."""
        validation.only(changes, _CHANGES)
        values = {name: _CHANGES[name](value) for name, value in changes.items()}

        def work(connection: sqlite3.Connection) -> Change[Rollout]:
            old = _standing(connection, rollout_id, expect)
            return self._put(connection, old, **values)

        return await self._changes.make(by, "rollout.update", work, dry_run=dry_run)

    async def pause(self, rollout_id: str, *, by: Actor, dry_run: bool = False) -> Rollout:
        """Offer it to nobody, and break downloads off; they go on where they were. Raises NotFound, AlreadyExists."""

        def work(connection: sqlite3.Connection) -> Change[Rollout]:
            old = _standing(connection, rollout_id)
            return self._put(connection, old, state=Phase.PAUSED, reason=f"by {by.id}")

        return await self._changes.make(by, "rollout.pause", work, dry_run=dry_run, reserve=True)

    async def resume(self, rollout_id: str, *, retry: bool = False, by: Actor, dry_run: bool = False) -> Rollout:
        """Let it go on; failures until now are forgiven. `retry`: offer it to devices that failed again.

        Raises NotFound, AlreadyExists.
        """

        def work(connection: sqlite3.Connection) -> Change[Rollout]:
            old = _standing(connection, rollout_id)
            if retry:
                connection.execute(
                    "UPDATE rollout_devices SET state = 'offered', received = 0, reason = ?, started_at = NULL, "
                    f"trial_at = NULL, ended_at = NULL, updated_at = ? WHERE rollout_id = ? AND state IN ({_FAILED})",
                    (AGAIN, self._wall(), rollout_id),
                )
            return self._put(connection, old, state=Phase.RUNNING, reason="", forgiven=failures(connection, rollout_id))

        return await self._changes.make(by, "rollout.resume", work, dry_run=dry_run)

    async def abort(self, rollout_id: str, *, by: Actor, dry_run: bool = False) -> Rollout:
        """End it for good. Devices that have not begun their trial stay as they are. Raises NotFound, AlreadyExists."""

        def work(connection: sqlite3.Connection) -> Change[Rollout]:
            old = _standing(connection, rollout_id)
            return self._put(connection, old, state=Phase.ABORTED, reason=f"by {by.id}")

        return await self._changes.make(by, "rollout.abort", work, dry_run=dry_run, reserve=True)

    def stop(self, connection: sqlite3.Connection, old: Rollout, reason: str) -> Change[Rollout]:
        """Pause it by itself, within a transaction."""
        return self._put(connection, old, state=Phase.PAUSED, reason=reason)

    async def write_received(self) -> None:
        """Put on disk how far downloads are; it is no change that anybody made."""
        if not self.received:
            return
        received, self.received = self.received, {}

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE rollout_devices SET received = max(received, ?), updated_at = ? "
                "WHERE rollout_id = ? AND device_id = ? AND state = 'downloading'",
                [(count, self._wall(), *key) for key, count in received.items()],
            )

        await self._database.write(work)

    async def prune(self, before: float) -> None:
        """Forget rollouts that were aborted before this time, and their devices."""

        def work(connection: sqlite3.Connection) -> None:
            old = "SELECT id FROM rollouts WHERE state = 'aborted' AND updated_at < ?"
            connection.execute(f"DELETE FROM rollout_devices WHERE rollout_id IN ({old})", (before,))
            connection.execute("DELETE FROM rollouts WHERE state = 'aborted' AND updated_at < ?", (before,))

        await self._database.write(work)

    def _put(self, connection: sqlite3.Connection, old: Rollout, **values: object) -> Change[Rollout]:
        new = replace(old, **values, updated_at=self._wall(), version=old.version + 1)  # type: ignore[arg-type]
        ROLLOUTS.put(connection, new)
        return self._change(new, old)

    def _change(self, new: Rollout, old: Rollout | None) -> Change[Rollout]:
        return Change(
            new,
            f"rollout:{new.id}",
            before=None if old is None else public(old),
            after=public(new),
            then=lambda: self.on_change(new),
        )


def failures(connection: sqlite3.Connection, rollout_id: str) -> int:
    """How many devices of a rollout have failed."""
    (count,) = connection.execute(
        f"SELECT count(*) FROM rollout_devices WHERE rollout_id = ? AND state IN ({_FAILED})", (rollout_id,)
    ).fetchone()
    return int(count)


def counted(connection: sqlite3.Connection, rollout_id: str) -> dict[str, int]:
    """How many devices are at which step; every step is there."""
    rows = connection.execute(
        "SELECT state, count(*) FROM rollout_devices WHERE rollout_id = ? GROUP BY state", (rollout_id,)
    )
    return {step.value: 0 for step in Step} | {row[0]: row[1] for row in rows}


def put_progress(connection: sqlite3.Connection, progress: Progress) -> None:
    marks = ", ".join("?" * len(_FIELDS))
    values = tuple(getattr(progress, name) for name in _FIELDS)
    connection.execute(f"INSERT OR REPLACE INTO rollout_devices ({', '.join(_FIELDS)}) VALUES ({marks})", values)


def _standing(connection: sqlite3.Connection, rollout_id: str, expect: int | None = None) -> Rollout:
    rollout = ROLLOUTS.get(connection, rollout_id, expect)
    if rollout.state is Phase.ABORTED:
        raise AlreadyExists(f"rollout {rollout_id} is aborted: start another one", reason="rollout_aborted")
    return rollout


def _selected(connection: sqlite3.Connection, rollout: Rollout, after: str) -> tuple[list[str], str | None]:
    """Of the next devices, those that it reaches; and behind which others come."""
    conditions = [*(labelled(label) for label in rollout.labels), *(grouped(group) for group in rollout.groups)]
    if rollout.profile:
        conditions.append(("profile = ?", (rollout.profile,)))
    where = "".join(f" AND {condition}" for condition, _ in conditions)
    values = [value for _, given in conditions for value in given]
    rows = connection.execute(
        f"SELECT id FROM devices WHERE id > ? AND kind = ? AND enabled{where} ORDER BY id LIMIT ?",
        (after, Kind.DEVICE.value, *values, AT_ONCE),
    )
    ids = [row["id"] for row in rows]
    inside = [each for each in ids if place_of(rollout.firmware_id, each) < rollout.percentage]
    return inside, ids[-1] if len(ids) == AT_ONCE else None
