"""The audit: who changed what, in a chain of digests that shows when a line was changed or taken out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import Response, StreamingResponse

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.export import CSV, JSON_LINES, csv_line, joined
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page
from gateway.admin.shapes import GivenTime, Shown, Time, seconds
from gateway.control.roles import Action

operations = Operations("audit", "audit")


class AuditView(Shown):
    """`before` and `after` are digests of the object, `diff` what changed, without secrets."""

    id: int
    at: Time
    actor_type: str
    actor_id: str
    ip: str
    action: str
    object: str
    outcome: str
    reason: str
    request_id: str
    before: str | None
    after: str | None
    diff: dict[str, Any] | None
    digest: str


class AuditCheck(Shown):
    """`broken_at`: the first line that does not fit; `head`: the digest of the newest line, to keep elsewhere."""

    ok: bool
    entries: int
    broken_at: int | None
    why: str
    head: str


def _filters(
    actor: Annotated[str | None, Query(max_length=128)] = None,
    action: Annotated[str | None, Query(max_length=64, description="`device.update`, or `device.` for all.")] = None,
    object: Annotated[str | None, Query(max_length=255)] = None,
    outcome: Annotated[Literal["ok", "refused"] | None, Query()] = None,
    since: GivenTime | None = None,
    until: GivenTime | None = None,
) -> dict[str, Any]:
    given = {
        "actor": actor,
        "action": action,
        "object": object,
        "outcome": outcome,
        "since": seconds(since),
        "until": seconds(until),
    }
    return {name: value for name, value in given.items() if value is not None}


Filters = Annotated[dict[str, Any], Depends(_filters)]


@operations.get("/audit", response_model=PageOf[AuditView])
async def list_audit(
    here: Here,
    filters: Filters,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "-id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """What was done, newest first."""
    page = await here.control.audit.list(cursor=cursor, limit=limit, sort=sort, q=q, **filters)
    return await stored_page(AuditView, page, limit)


@operations.get(
    "/audit/export",
    response_class=StreamingResponse,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}, JSON_LINES: {"schema": {"type": "string"}}}}},
)
async def export_audit(
    here: Here, by: By, filters: Filters, format: Annotated[Literal["csv", "jsonl"], Query()] = "jsonl"
) -> Response:
    """All of it, oldest first."""
    await here.control.audit.record(by, "audit.export", "audit:*")
    columns = tuple(AuditView.model_fields)

    async def lines() -> AsyncIterator[bytes]:
        if format == "csv":
            yield csv_line(columns)
        async for entry in here.control.audit.export(**filters):
            shown = AuditView.of(entry).model_dump(mode="json")
            if format == "csv":
                shown["diff"] = json.dumps(shown["diff"]) if shown["diff"] else ""
                yield csv_line(["" if shown[name] is None else shown[name] for name in columns])
            else:
                yield json.dumps(shown, separators=(",", ":")).encode() + b"\n"

    return StreamingResponse(
        joined(lines()),
        media_type=f"{CSV}; charset=utf-8" if format == "csv" else JSON_LINES,
        headers={"content-disposition": f'attachment; filename="audit.{format}"'},
    )


@operations.post("/audit/verify", Action.READ, response_model=AuditCheck)
async def verify_audit(here: Here) -> Any:
    """Whether the chain of digests is whole."""
    return AuditCheck.of(await here.control.audit.verify())
