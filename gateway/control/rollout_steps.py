"""How a rollout goes on at a device: which rollout it follows, and what its reports mean. Pure decisions.

A device follows the newest rollout for its board that is not aborted and reaches it, and no older one; what it has got
from a rollout, or has on trial, it keeps until a newer one, whatever becomes of that rollout. So an update is never
undone by an older rollout, and a rollout that is paused keeps its devices. A rollout reaches a device that its
selector fits and whose place is below its percentage. The place comes from the ids of firmware and device alone: the
devices of 10 % are among those of 50 %, and another firmware has others that are the first.

    offered → downloading → verified → trial → confirmed | rolled_back | failed

The last three are the end of it, but for a device that turns out to run the new version after all, or that begins anew:
it was confirmed, and knows nothing of that now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Step(StrEnum):
    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Phase(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    ABORTED = "aborted"


#: What a device says when there is nothing to say of an update.
IDLE = "idle"
#: Why a device is offered what it has failed; it goes on saying so until it begins anew.
AGAIN = "offered again"
PENDING = frozenset({Step.OFFERED, Step.DOWNLOADING, Step.VERIFIED})
FAILURES = frozenset({Step.ROLLED_BACK, Step.FAILED})
OVER = FAILURES | {Step.CONFIRMED}
_ON_TRIAL = frozenset({Step.VERIFIED, Step.TRIAL})
_KEPT = frozenset({Step.TRIAL, Step.CONFIRMED})


@dataclass(frozen=True, slots=True)
class Rollout:
    """`labels`, `groups`, `profile`: what a device must have, each of them. `percentage`: above 0, to 100. It pauses
    when more than `max_failures` devices have failed beyond those `forgiven`. `confirm_s`: how long a trial lasts."""

    id: str
    firmware_id: str
    board: str
    firmware_version: str
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    profile: str
    percentage: float
    state: Phase
    reason: str
    max_failures: int
    forgiven: int
    confirm_s: float
    created_at: float
    created_by: str
    updated_at: float
    version: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one device of a rollout is. `received`: bytes that it has of the image. `trial_at`: since when it is to
    be confirmed, which is when it had verified the image: it may never come back from its restart."""

    rollout_id: str
    device_id: str
    state: Step
    received: int
    reason: str
    offered_at: float
    started_at: float | None
    trial_at: float | None
    ended_at: float | None
    updated_at: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a device says of itself. `state`: a step or IDLE; `firmware_id`: of which update; `offset`: bytes of it."""

    board: str
    version: str
    state: str = IDLE
    firmware_id: str = ""
    offset: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """What selectors look at in a device."""

    id: str
    labels: Mapping[str, str]
    groups: Sequence[str]
    profile: str


def place_of(firmware_id: str, device_id: str) -> float:
    """From 0 to below 100, evenly spread over devices."""
    digest = hashlib.sha256(f"{firmware_id}\n{device_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") * 100 / 2**32


def selects(rollout: Rollout, device: Traits) -> bool:
    """Whether the selector fits. A label is a name, or name=value."""
    for label in rollout.labels:
        name, equals, value = label.partition("=")
        if name not in device.labels or (equals and device.labels[name] != value):
            return False
    return set(rollout.groups) <= set(device.groups) and rollout.profile in ("", device.profile)


def followed(rollouts: Iterable[Rollout], device: Traits, board: str, begun: Mapping[str, Progress]) -> Rollout | None:
    """Which rollout a device follows; `rollouts`: the newest first, `begun`: the device's own progress, by rollout.

    Where it has begun, a smaller percentage does not take it out again.
    """
    for rollout in rollouts:
        mine = begun.get(rollout.id)
        if rollout.board != board:
            continue
        if mine is not None and mine.state in _KEPT:
            return rollout
        reached = mine is not None or place_of(rollout.firmware_id, device.id) < rollout.percentage
        if rollout.state is not Phase.ABORTED and reached and selects(rollout, device):
            return rollout
    return None


def offered(rollout: Rollout, device_id: str, report: Report, now: float) -> Progress:
    """The beginning: it is offered the update, or has it already."""
    has_it = report.version == rollout.firmware_version
    again = AGAIN if report.firmware_id == rollout.firmware_id and report.state in FAILURES else ""
    return Progress(
        rollout_id=rollout.id,
        device_id=device_id,
        state=Step.CONFIRMED if has_it else Step.OFFERED,
        received=0,
        reason="it had this version" if has_it else again,
        offered_at=now,
        started_at=None,
        trial_at=None,
        ended_at=now if has_it else None,
        updated_at=now,
    )


def heard(progress: Progress, rollout: Rollout, report: Report, now: float) -> Progress:
    """What a report makes of a device's progress; the same where it says nothing new."""
    if progress.state is Step.CONFIRMED and _begins_anew(rollout, report):
        return offered(rollout, progress.device_id, report, now)
    step, reason = _meaning(progress, rollout, report)
    if step is None or step is progress.state:
        return progress
    if progress.state in OVER and step is not Step.CONFIRMED:
        return progress
    if progress.reason == AGAIN and step in FAILURES:
        return progress
    return moved(progress, step, now, reason, max(report.offset, 0))


def moved(progress: Progress, step: Step, now: float, reason: str = "", received: int = 0) -> Progress:
    trial_at = progress.trial_at or now if step in _ON_TRIAL else progress.trial_at
    return replace(
        progress,
        state=step,
        reason=reason,
        received=max(progress.received, received),
        started_at=now if step is Step.DOWNLOADING else progress.started_at,
        trial_at=None if step is Step.DOWNLOADING else trial_at,
        ended_at=now if step in OVER else None,
        updated_at=now,
    )


def overdue(rollout: Rollout, progress: Progress, now: float) -> Progress:
    """A trial that nobody has confirmed in time has failed."""
    if progress.state not in _ON_TRIAL or progress.trial_at is None or progress.trial_at + rollout.confirm_s > now:
        return progress
    return moved(progress, Step.FAILED, now, f"not confirmed within {rollout.confirm_s:g} s")


def has_failed(rollout: Rollout, failures: int) -> bool:
    """Whether so many failed devices are too many."""
    return failures - rollout.forgiven > rollout.max_failures


def _begins_anew(rollout: Rollout, report: Report) -> bool:
    """Whether the device runs another version, and knows of no update: somebody has put that one there by hand."""
    another = report.board == rollout.board and report.version != rollout.firmware_version
    return another and report.state == IDLE and not report.firmware_id


def _meaning(progress: Progress, rollout: Rollout, report: Report) -> tuple[Step | None, str]:
    if report.board != rollout.board:
        return None, ""
    runs_it = report.version == rollout.firmware_version
    if report.firmware_id == rollout.firmware_id and report.state != IDLE:
        step = Step(report.state)
        if step is Step.OFFERED or (step is Step.CONFIRMED and not runs_it):
            return None, ""
        return step, report.reason
    if runs_it and report.state in (IDLE, Step.CONFIRMED):
        return Step.CONFIRMED, ""
    if progress.state is Step.TRIAL and not runs_it:
        return Step.ROLLED_BACK, f"it runs {report.version} again"
    return None, ""
