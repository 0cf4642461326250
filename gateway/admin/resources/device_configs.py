"""Configuration of devices: a document for a device, for those with certain labels, a fleet, or all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page, written
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.resources.devices import Id
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time, moment
from gateway.control.device_configs import DeviceReport, differences

operations = Operations("device-configs", "devices")

Target = Annotated[
    str,
    Path(
        min_length=1,
        max_length=1100,
        alias="id",
        description="`device:ID`, `labels:KEY=VALUE,…`, `fleet:ID` or `all`.",
        examples=["labels:site=7"],
    ),
]
Version = Annotated[int, Field(ge=1, le=2**53)]


class DeviceConfigView(Shown):
    """A document as it was set. `version` is unique over all targets. `standing`: it is the one of its target now."""

    version: int
    target: str
    document: dict[str, Any]
    standing: bool
    at: Time
    by: str
    comment: str


class DeviceConfigBody(Taken):
    """`document` has at most 4096 bytes as compact JSON, and 8 levels."""

    document: dict[str, Any] = Field(max_length=1000)
    comment: str = Field("", max_length=4096)


class DeviceConfigRollback(Taken):
    version: Version


class DeviceConfigStatus(Shown):
    """`desired`: the version that it is to have, null for none. `reported`: the one that it spoke of last, at `at`;
    `applied`: the one that it took last. `state`: applied, rejected (of what it is to have), pending (it has not said
    anything of that) or none."""

    device: str
    state: Literal["applied", "rejected", "pending", "none"]
    desired: int | None
    reported: int | None
    reason: str
    at: MaybeTime
    applied: int | None
    applied_at: MaybeTime


class DeviceConfigOfDevice(Shown):
    """`config`: the document that holds for the device, whichever target it is of; null for none."""

    config: DeviceConfigView | None
    status: DeviceConfigStatus


class DifferenceView(Shown):
    """`pointer` (RFC 6901) says where; null is what is not there."""

    pointer: str
    before: Any
    after: Any


class DeviceConfigDiff(Shown):
    before: int
    after: int
    differences: list[DifferenceView]


def status_of(device: str, desired: int | None, report: DeviceReport | None) -> DeviceConfigStatus:
    state: Literal["applied", "rejected", "pending", "none"] = "none"
    if desired:
        state = "pending"
        if report is not None and report.version == desired:
            state = "applied" if report.ok else "rejected"
    return DeviceConfigStatus(
        device=device,
        state=state,
        desired=desired or None,
        reported=None if report is None else report.version,
        reason="" if report is None else report.reason,
        at=None if report is None else moment(report.at),
        applied=None if report is None else report.applied,
        applied_at=None if report is None else moment(report.applied_at),
    )


@operations.get("/devices/{id}/config", response_model=DeviceConfigOfDevice)
async def get_config_of_device(here: Here, response: Response, id: Id) -> Any:
    """What holds for a device, and what it says of it. `ETag` is that of its own document, `"0"` where it has none."""
    config, own, report = await here.control.device_configs.of_device(id)
    response.headers["etag"] = etag(own)
    return DeviceConfigOfDevice(
        config=None if config is None else DeviceConfigView.of(config),
        status=status_of(id, None if config is None else config.version, report),
    )


@operations.put("/devices/{id}/config", problems=(409, 412, 428), response_model=DeviceConfigView)
async def put_config_of_device(
    here: Here,
    by: By,
    response: Response,
    id: Id,
    body: DeviceConfigBody,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Set a device's own document. The same as for the target `device:ID`."""
    return await put_device_config(here, by, response, f"device:{id}", body, if_match, dry_run)


@operations.delete("/devices/{id}/config", problems=(409, 412, 428), status_code=204)
async def withdraw_config_of_device(
    here: Here, by: By, id: Id, if_match: IfMatch = None, dry_run: DryRun = False
) -> Response:
    """Withdraw a device's own document: a less specific one holds, if there is any."""
    return await withdraw_device_config(here, by, f"device:{id}", if_match, dry_run)


@operations.get("/device-configs", response_model=PageOf[DeviceConfigView])
async def list_device_configs(
    here: Here,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "target",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The documents that stand, one a target."""
    page = await here.control.device_configs.list(cursor=cursor, limit=limit, sort=sort, q=q)
    return await stored_page(DeviceConfigView, page, limit)


@operations.get("/device-configs/status", response_model=PageOf[DeviceConfigStatus])
async def list_device_config_statuses(
    here: Here,
    q: Search = None,
    ok: Annotated[bool | None, Query(description="Only devices that took, or refused, what they spoke of.")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**53, description="Only those that spoke of this one.")] = None,
    sort: Annotated[str, Query(max_length=32)] = "device_id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """What devices that ever reported have said last."""
    page, desired = await here.control.device_configs.reports(
        cursor=cursor, limit=limit, sort=sort, q=q, ok=ok, version=version
    )
    return await written(
        page.items, lambda each: status_of(each.device_id, desired.get(each.device_id), each), limit, page.next
    )


@operations.get("/device-configs/{id}", response_model=DeviceConfigView)
async def get_device_config(here: Here, response: Response, target: Target) -> Any:
    """The document that stands for a target."""
    found = await here.control.device_configs.get(target)
    response.headers["etag"] = etag(found.version)
    return DeviceConfigView.of(found)


@operations.put("/device-configs/{id}", problems=(409, 412, 428), response_model=DeviceConfigView)
async def put_device_config(
    here: Here,
    by: By,
    response: Response,
    target: Target,
    body: DeviceConfigBody,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Set a target's document. `If-Match` is the `ETag` of the one it replaces, `"0"` where there must be none, or
    `*`. Devices get it at once, or when they come back; those that refused the last one try again."""
    done = await here.control.device_configs.put(
        target, body.document, comment=body.comment, by=by, expect=expected(if_match), dry_run=dry_run
    )
    response.headers["etag"] = etag(done.version)
    return DeviceConfigView.of(done)


@operations.delete("/device-configs/{id}", problems=(409, 412, 428), status_code=204)
async def withdraw_device_config(
    here: Here, by: By, target: Target, if_match: IfMatch = None, dry_run: DryRun = False
) -> Response:
    """Withdraw a target's document: a less specific one holds. Devices for which there is none keep what they have."""
    await here.control.device_configs.withdraw(target, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)


@operations.get("/device-configs/{id}/history", response_model=PageOf[DeviceConfigView])
async def list_device_config_history(
    here: Here, target: Target, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Any:
    """The last 100 versions of a target, newest first."""
    page = await here.control.device_configs.history(target, cursor=cursor, limit=limit)
    return await stored_page(DeviceConfigView, page, limit)


@operations.get("/device-configs/{id}/diff", response_model=DeviceConfigDiff)
async def get_device_config_diff(
    here: Here,
    target: Target,
    before: Annotated[int, Query(ge=1, le=2**53)],
    after: Annotated[int | None, Query(ge=1, le=2**53, description="Without it: the one that stands.")] = None,
) -> Any:
    """What differs between two versions of a target."""
    configs = here.control.device_configs
    old = await configs.version(target, before)
    new = await configs.get(target) if after is None else await configs.version(target, after)
    return DeviceConfigDiff(
        before=old.version,
        after=new.version,
        differences=[DifferenceView.of(each) for each in differences(old.document, new.document)],
    )


@operations.post("/device-configs/{id}/rollback", problems=(409, 412, 428), response_model=DeviceConfigView)
async def roll_back_device_config(
    here: Here,
    by: By,
    response: Response,
    target: Target,
    body: DeviceConfigRollback,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Set what was set as an earlier version. It is a version of its own."""
    done = await here.control.device_configs.roll_back(
        target, body.version, by=by, expect=expected(if_match), dry_run=dry_run
    )
    response.headers["etag"] = etag(done.version)
    return DeviceConfigView.of(done)
