"""Rollouts: which devices get which firmware, and how far each is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page, written
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time
from gateway.control.roles import Action
from gateway.control.rollout_steps import FAILURES, Phase, Rollout, Step
from gateway.control.rollouts import NewRollout

operations = Operations("rollouts", "devices")

Id = Annotated[str, Path(min_length=1, max_length=64, examples=["4f1d2c0b9a8e"])]
Text = Annotated[str, Field(max_length=128)]
Texts = Annotated[list[Text], Field(max_length=64)]
Percentage = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Failures = Annotated[int, Field(ge=0, le=1_000_000)]
Confirm = Annotated[float, Field(ge=1, le=7 * 86_400, allow_inf_nan=False)]


class RolloutView(Shown):
    """`labels`, `groups`, `profile`: what a device must have. `devices`: how many are at which step. `failures`: how
    many have failed or rolled back; so many as are `forgiven` do not count against `max_failures`. `reason`: why it is
    paused or aborted. `reached`: registered devices that it is for, whatever their board; null unless asked for."""

    id: str
    firmware_id: str
    board: str
    firmware_version: str
    labels: list[str]
    groups: list[str]
    profile: str
    percentage: float
    state: Phase
    reason: str
    max_failures: int
    failures: int
    forgiven: int
    confirm_s: float
    created_at: Time
    created_by: str
    updated_at: Time
    version: int
    devices: dict[Step, int]
    reached: int | None = None


class RolloutBody(Taken):
    """`labels`: each `key`, or `key=value`; a device must have all of them, and be in all `groups`. What is left out
    fits every device. `confirm_s`: in which a device that has the image must have confirmed it."""

    firmware: str = Field(min_length=1, max_length=64)
    labels: Texts = Field(default=[])
    groups: Texts = Field(default=[])
    profile: Text = ""
    percentage: Percentage = 100
    max_failures: Failures = 3
    confirm_s: Confirm = 600


class RolloutChange(Taken):
    percentage: Percentage | None = None
    max_failures: Failures | None = None
    confirm_s: Confirm | None = None


class RolloutResume(Taken):
    """`retry`: offer it to those again that have failed."""

    retry: bool = False


class RolloutDeviceView(Shown):
    """`received`: bytes of the image that it has. `trial_at`: when it had verified the image. `ended_at`: when it was
    confirmed, rolled back or had failed."""

    device_id: str
    state: Step
    received: int
    reason: str
    offered_at: Time
    started_at: MaybeTime
    trial_at: MaybeTime
    ended_at: MaybeTime
    updated_at: Time


async def _views(here: Context, rollouts: Iterable[Rollout], reached: int | None = None) -> list[RolloutView]:
    rollouts = list(rollouts)
    counts = await here.control.rollouts.counts([each.id for each in rollouts])
    return [
        RolloutView(
            **{name: getattr(each, name) for name in RolloutView.model_fields if hasattr(each, name)},
            devices={step: counts[each.id][step] for step in Step},
            failures=sum(counts[each.id][step] for step in FAILURES),
            reached=reached,
        )
        for each in rollouts
    ]


async def _answer(here: Context, response: Response, rollout: Rollout, reached: int | None = None) -> RolloutView:
    response.headers["etag"] = etag(rollout.version)
    (shown,) = await _views(here, [rollout], reached)
    return shown


@operations.get("/rollouts", response_model=PageOf[RolloutView])
async def list_rollouts(
    here: Here,
    q: Search = None,
    firmware: Annotated[str | None, Query(max_length=64)] = None,
    board: Annotated[str | None, Query(max_length=64)] = None,
    state: Phase | None = None,
    sort: Annotated[str, Query(max_length=32)] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The rollouts, newest first. Those that were aborted are forgotten after 90 days."""
    page = await here.control.rollouts.list(
        cursor=cursor, limit=limit, sort=sort, q=q, firmware=firmware, board=board, state=state
    )
    return await written(await _views(here, page.items), lambda each: each, limit, page.next)


@operations.post("/rollouts", creates=True, problems=(404,), response_model=RolloutView)
async def start_rollout(here: Here, by: By, response: Response, body: RolloutBody, dry_run: DryRun = False) -> Any:
    """Offer a firmware to devices from now on; those that are connected are told at once."""
    rollout = await here.control.rollouts.create(NewRollout(**body.model_dump()), by=by, dry_run=dry_run)
    response.headers["location"] = f"/api/v1/rollouts/{rollout.id}"
    return await _answer(here, response, rollout)


@operations.get("/rollouts/{id}", response_model=RolloutView)
async def get_rollout(
    here: Here,
    response: Response,
    id: Id,
    count: Annotated[bool, Query(description="Count the devices that it is for, in `reached`.")] = False,
) -> Any:
    """One rollout."""
    rollout = await here.control.rollouts.get(id)
    reached = None
    if count:
        reached = 0
        async for devices in here.control.rollouts.reached(rollout):
            reached += len(devices)
    return await _answer(here, response, rollout, reached)


@operations.patch("/rollouts/{id}", problems=(409, 412, 428), response_model=RolloutView)
async def change_rollout(
    here: Here,
    by: By,
    response: Response,
    id: Id,
    body: RolloutChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change its percentage, or what it bears. Devices that are in stay in."""
    changes = body.model_dump(exclude_none=True)
    rollout = await here.control.rollouts.update(id, changes, by=by, expect=expected(if_match), dry_run=dry_run)
    return await _answer(here, response, rollout)


@operations.get("/rollouts/{id}/devices", response_model=PageOf[RolloutDeviceView])
async def list_rollout_devices(
    here: Here,
    id: Id,
    q: Search = None,
    state: Step | None = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The devices that have been offered it, and how far each is."""
    page = await here.control.rollouts.devices(id, cursor=cursor, limit=limit, sort=sort, q=q, state=state)
    return await stored_page(RolloutDeviceView, page, limit)


@operations.post("/rollouts/{id}/pause", Action.OPERATE, problems=(409,), response_model=RolloutView)
async def pause_rollout(here: Here, by: By, response: Response, id: Id, dry_run: DryRun = False) -> Any:
    """Offer it to nobody for now, and break downloads off; they go on where they were."""
    return await _answer(here, response, await here.control.rollouts.pause(id, by=by, dry_run=dry_run))


@operations.post("/rollouts/{id}/resume", Action.OPERATE, problems=(409,), response_model=RolloutView)
async def resume_rollout(
    here: Here, by: By, response: Response, id: Id, body: RolloutResume | None = None, dry_run: DryRun = False
) -> Any:
    """Let it go on. What has failed until now is not counted any more."""
    retry = body is not None and body.retry
    rollout = await here.control.rollouts.resume(id, retry=retry, by=by, dry_run=dry_run)
    return await _answer(here, response, rollout)


@operations.post("/rollouts/{id}/abort", Action.OPERATE, problems=(409,), response_model=RolloutView)
async def abort_rollout(here: Here, by: By, response: Response, id: Id, dry_run: DryRun = False) -> Any:
    """End it for good."""
    return await _answer(here, response, await here.control.rollouts.abort(id, by=by, dry_run=dry_run))
