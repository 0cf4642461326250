"""What devices say of their updates, and what they are told: the devices' side of rollouts.

A report is read against the device's rollouts (`rollout_steps`); only one that says something new is written. How each
device ended is audited with it, and a rollout that too many devices have failed pauses in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.control import validation
from gateway.control.audit import SYSTEM, Actor, Audit, AuditEntry
from gateway.control.credentials import Credentials
from gateway.control.device_keys import DeviceProofs
from gateway.control.devices import Devices
from gateway.control.firmware import Firmware, Firmwares, word
from gateway.control.rollout_steps import (
    FAILURES,
    IDLE,
    OVER,
    PENDING,
    Phase,
    Progress,
    Report,
    Rollout,
    Step,
    Traits,
    followed,
    has_failed,
    heard,
    moved,
    offered,
    overdue,
)
from gateway.control.rollouts import PROGRESS, ROLLOUTS, Rollouts, failures, put_progress
from gateway.errors import InvalidChange, NotAllowed, NotFound
from gateway.storage.database import Database

#: Rollouts of one device that a report is read against, the latest first.
REMEMBERED = 32
MAX_REASON = 200
_STATES = (IDLE, *(step.value for step in Step if step is not Step.OFFERED))


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that a device may have: of which rollout, and which file."""

    rollout_id: str
    sha256: str
    size: int


@dataclass(slots=True)
class _Verdict:
    """What a report leads to. `put`, `gone`: progress that is written, and that is removed."""

    put: list[tuple[Progress, Rollout]] = field(default_factory=list)
    gone: list[Progress] = field(default_factory=list)
    rollout: Rollout | None = None
    firmware: Firmware | None = None
    credential: str | None = None

    @property
    def changes(self) -> bool:
        return bool(self.put or self.gone)


@dataclass(slots=True)
class _Done:
    """What is told once it is on disk."""

    verdict: _Verdict
    entries: list[AuditEntry] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)


class RolloutReports:
    """The devices of one control plane, as far as their firmware goes."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        devices: Devices,
        credentials: Credentials,
        proofs: DeviceProofs,
        firmware: Firmwares,
        rollouts: Rollouts,
        wall: Callable[[], float],
    ) -> None:
        self._database = database
        self._audit = audit
        self._devices = devices
        self._credentials = credentials
        self._proofs = proofs
        self._firmware = firmware
        self._rollouts = rollouts
        self._wall = wall

    async def report(self, device_id: str, report: Report, *, by: Actor) -> dict[str, Any] | None:
        """Take a report; the update that the device is to have now, as it is told, or None."""
        verdict = await self._database.read(lambda connection: self._judge(connection, device_id, report))
        if verdict.changes:
            done = await self._database.write(
                lambda connection: self._written(connection, self._judge(connection, device_id, report), by),
                committed=self._told,
            )
            verdict = done.verdict
        if report.state == Step.DOWNLOADING and verdict.rollout is not None:
            self.has_received(verdict.rollout.id, device_id, report.offset)
        return self._update(verdict, device_id)

    async def download(self, device_id: str, firmware_id: str, offset: int, *, by: Actor) -> Wanted:
        """Which image a device may have now. Raises NotAllowed, InvalidChange for an offset behind its end."""
        verdict = await self._database.read(lambda connection: self._asked(connection, device_id, firmware_id))
        if verdict.changes:
            done = await self._database.write(
                lambda connection: self._written(connection, self._asked(connection, device_id, firmware_id), by),
                committed=self._told,
            )
            verdict = done.verdict
        rollout, firmware = verdict.rollout, verdict.firmware
        assert rollout is not None
        assert firmware is not None
        if offset > firmware.size:
            raise InvalidChange(f"the image has {firmware.size} bytes", "/offset", reason="firmware_offset")
        self.has_received(rollout.id, device_id, offset)
        return Wanted(rollout.id, firmware.sha256, firmware.size)

    def has_received(self, rollout_id: str, device_id: str, count: int) -> None:
        """A device has so many bytes; written within half a minute."""
        key = (rollout_id, device_id)
        self._rollouts.received[key] = max(count, self._rollouts.received.get(key, 0))

    async def sweep(self) -> float | None:
        """End trials that are overdue, and pause what too many devices have failed; when to come again, in seconds."""
        due = await self._database.read(self._overdue)
        stopping = await self._database.read(_to_stop)
        if due or stopping:

            def work(connection: sqlite3.Connection) -> _Done:
                done = self._written(connection, _Verdict(put=self._overdue(connection)), SYSTEM)
                for rollout in _to_stop(connection):
                    self._stop(connection, rollout, done)
                return done

            await self._database.write(work, committed=self._told)
        at = await self._database.read(_next_overdue)
        return None if at is None else max(at - self._wall(), 0.0)

    # Judging, within a transaction

    def _judge(self, connection: sqlite3.Connection, device_id: str, report: Report) -> _Verdict:
        verdict = _Verdict()
        device = self._devices.find(connection, device_id)
        if device is None:
            return verdict
        now = self._wall()
        begun = _begun(connection, device_id)
        read: set[str] = set()
        for number, (old, its) in begun.items():
            if its.firmware_id in read:
                # Of two rollouts of one firmware, a report is about the newer one.
                continue
            read.add(its.firmware_id)
            new = heard(old, its, report, now)
            if new is not old:
                begun[number] = (new, its)
                verdict.put.append(begun[number])
        traits = Traits(device.id, device.labels, device.groups, device.profile)
        progress = {number: old for number, (old, _) in begun.items()}
        rollout = followed(_candidates(connection, report.board, begun), traits, report.board, progress)
        if rollout is None or rollout.state is not Phase.RUNNING or report.state == Step.TRIAL:
            return verdict
        firmware = self._firmware.require(connection, rollout.firmware_id)
        if not self._firmware.usable(firmware):
            return verdict
        for number, (old, other) in begun.items():
            if number != rollout.id and old.state in PENDING and other.created_at <= rollout.created_at:
                verdict.gone.append(old)
        mine = progress.get(rollout.id)
        if mine is None:
            mine = offered(rollout, device_id, report, now)
            verdict.put.append((mine, rollout))
        if mine.state in PENDING:
            verdict.rollout, verdict.firmware = rollout, firmware
            verdict.credential = self._credentials.secret_of(connection, device_id)
        return verdict

    def _asked(self, connection: sqlite3.Connection, device_id: str, firmware_id: str) -> _Verdict:
        refused = NotAllowed(
            "this is not the update of this device, or no longer: report", reason="firmware_not_offered"
        )
        device = self._devices.find(connection, device_id)
        if device is None:
            raise refused
        begun = _begun(connection, device_id)
        mine = next(
            ((old, r) for old, r in begun.values() if r.firmware_id == firmware_id and r.state is Phase.RUNNING), None
        )
        if mine is None or mine[0].state not in PENDING:
            raise refused
        old, rollout = mine
        traits = Traits(device.id, device.labels, device.groups, device.profile)
        progress = {number: each for number, (each, _) in begun.items()}
        now_followed = followed(_candidates(connection, rollout.board, begun), traits, rollout.board, progress)
        if now_followed is None or now_followed.id != rollout.id:
            raise refused
        try:
            firmware = self._firmware.require(connection, firmware_id)
        except NotFound as error:
            raise refused from error
        if not self._firmware.usable(firmware):
            raise NotAllowed("the image is damaged; an operator has to upload it again", reason="image_damaged")
        verdict = _Verdict(rollout=rollout, firmware=firmware)
        if old.state is not Step.DOWNLOADING:
            verdict.put.append((moved(old, Step.DOWNLOADING, self._wall()), rollout))
        return verdict

    def _overdue(self, connection: sqlite3.Connection) -> list[tuple[Progress, Rollout]]:
        now = self._wall()
        rows = connection.execute(
            "SELECT d.* FROM rollout_devices AS d JOIN rollouts AS r ON r.id = d.rollout_id "
            "WHERE d.state IN ('verified', 'trial') AND d.trial_at + r.confirm_s <= ?",
            (now,),
        ).fetchall()
        found = []
        for row in rows:
            old, rollout = PROGRESS.of(row), ROLLOUTS.get(connection, row["rollout_id"])
            new = overdue(rollout, old, now)
            if new is not old:
                found.append((new, rollout))
        return found

    # Writing

    def _written(self, connection: sqlite3.Connection, verdict: _Verdict, by: Actor) -> _Done:
        done = _Done(verdict)
        for progress, _ in verdict.put:
            put_progress(connection, progress)
            if progress.state in OVER:
                details = {"device": progress.device_id, "state": progress.state.value, "reason": progress.reason}
                name = f"rollout:{progress.rollout_id}"
                done.entries.append(self._audit.add(connection, by, "rollout.report", name, details=details))
        for old in verdict.gone:
            connection.execute(
                "DELETE FROM rollout_devices WHERE rollout_id = ? AND device_id = ?", (old.rollout_id, old.device_id)
            )
        for number in dict.fromkeys(rollout.id for progress, rollout in verdict.put if progress.state in FAILURES):
            rollout = ROLLOUTS.get(connection, number)
            if rollout.state is Phase.RUNNING and has_failed(rollout, failures(connection, number)):
                self._stop(connection, rollout, done)
                if verdict.rollout is not None and verdict.rollout.id == number:
                    verdict.rollout = verdict.firmware = None
        return done

    def _stop(self, connection: sqlite3.Connection, rollout: Rollout, done: _Done) -> None:
        count = failures(connection, rollout.id) - rollout.forgiven
        change = self._rollouts.stop(connection, rollout, f"{count} devices have failed, {rollout.max_failures} may")
        done.entries.append(
            self._audit.add(
                connection, SYSTEM, "rollout.pause", change.object, before=change.before, after=change.after
            )
        )
        if change.then is not None:
            done.then.append(change.then)

    def _told(self, done: _Done) -> None:
        for progress, _ in done.verdict.put:
            if progress.state is not Step.DOWNLOADING:
                self._rollouts.received.pop((progress.rollout_id, progress.device_id), None)
        for then in done.then:
            then()
        for entry in done.entries:
            self._audit.tell(entry)

    def _update(self, verdict: _Verdict, device_id: str) -> dict[str, Any] | None:
        firmware = verdict.firmware
        if verdict.rollout is None or firmware is None:
            return None
        mac = ""
        if verdict.credential is not None:
            mac = self._proofs.firmware_mac(device_id, verdict.credential, firmware.manifest)
        update = {
            "id": firmware.id,
            "board": firmware.board,
            "version": firmware.version,
            "size": firmware.size,
            "sha256": firmware.sha256,
            "mac": mac,
        }
        if firmware.signature:
            update |= {"publisher": firmware.publisher, "signature": firmware.signature}
        return update


def report_of(document: Mapping[str, Any]) -> Report:
    """A report as a device has sent it. Raises InvalidChange."""
    state, number, offset = (document.get(name) for name in ("state", "id", "offset"))
    state = IDLE if state is None else state
    if state not in _STATES:
        raise InvalidChange(f"state is one of {', '.join(_STATES)}", "/state")
    offset = 0 if offset is None else offset
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < 2**53:
        raise InvalidChange("offset is a number of bytes", "/offset")
    number = "" if number is None else number
    if number:
        number = validation.identifier(number, "/id")
    elif number != "" or state != IDLE:
        raise InvalidChange("a state but idle is that of an update: name its id", "/id")
    reason = document.get("reason") or ""
    if not isinstance(reason, str):
        raise InvalidChange("reason is text", "/reason")
    # What goes wrong on a device is told by whatever it can print; nobody is helped when that is refused.
    reason = "".join(character if character.isprintable() else "?" for character in reason[:MAX_REASON])
    return Report(
        word(document.get("board"), "/board"), word(document.get("version"), "/version"), state, number, offset, reason
    )


def _begun(connection: sqlite3.Connection, device_id: str) -> dict[str, tuple[Progress, Rollout]]:
    rows = connection.execute(
        "SELECT d.* FROM rollout_devices AS d JOIN rollouts AS r ON r.id = d.rollout_id "
        "WHERE d.device_id = ? ORDER BY r.created_at DESC, r.id DESC LIMIT ?",
        (device_id, REMEMBERED),
    ).fetchall()
    return {row["rollout_id"]: (PROGRESS.of(row), ROLLOUTS.get(connection, row["rollout_id"])) for row in rows}


def _candidates(
    connection: sqlite3.Connection, board: str, begun: Mapping[str, tuple[Progress, Rollout]]
) -> list[Rollout]:
    """The rollouts that a device may follow, the newest first: those that stand, and those that it has begun."""
    rows = connection.execute("SELECT * FROM rollouts WHERE board = ? AND state <> 'aborted'", (board,))
    found = {row["id"]: ROLLOUTS.of(row) for row in rows} | {each.id: each for _, each in begun.values()}
    return sorted(found.values(), key=lambda each: (each.created_at, each.id), reverse=True)


def _to_stop(connection: sqlite3.Connection) -> list[Rollout]:
    rows = connection.execute("SELECT * FROM rollouts WHERE state = 'running'").fetchall()
    running = [ROLLOUTS.of(row) for row in rows]
    return [rollout for rollout in running if has_failed(rollout, failures(connection, rollout.id))]


def _next_overdue(connection: sqlite3.Connection) -> float | None:
    (at,) = connection.execute(
        "SELECT min(d.trial_at + r.confirm_s) FROM rollout_devices AS d JOIN rollouts AS r ON r.id = d.rollout_id "
        "WHERE d.state IN ('verified', 'trial')"
    ).fetchone()
    return None if at is None else float(at)
