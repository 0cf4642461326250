"""Backups: made while the node runs, checked here, restored by the command line on a node that is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path as File
from typing import Annotated, Any, Final

from fastapi import Path
from fastapi.responses import Response, StreamingResponse

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, slice_page, written
from gateway.admin.shapes import DryRun, Shown, Time
from gateway.control.roles import Action

operations = Operations("backups", "backup")

Id = Annotated[str, Path(min_length=1, max_length=128)]
ARCHIVE: Final = "application/octet-stream"
_PIECE: Final = 64 * 1024


class BackupView(Shown):
    """`id` is the file's name. It holds the node's keys: keep it as you keep those."""

    id: str
    bytes: int
    created_at: Time
    sha256: str


class BackupCheck(Shown):
    ok: bool
    why: str
    entries: list[str]


class Planned(Shown):
    """What a dry run answers."""

    planned: bool = True


@operations.get("/backups", response_model=PageOf[BackupView])
async def list_backups(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The backups in the data directory, newest first."""
    page, next_cursor = await slice_page(
        await here.control.backups.list(),
        sort="-created_at",
        keys={"created_at": lambda b: b.created_at},
        identity=lambda b: b.id,
        limit=limit,
        cursor=cursor,
    )
    return await written(page, BackupView.of, limit, next_cursor)


@operations.post("/backups", creates=True, response_model=BackupView | Planned)
async def create_backup(here: Here, by: By, dry_run: DryRun = False) -> Any:
    """Back up database, keys and settings. The node goes on meanwhile."""
    if dry_run:
        return Planned()
    made = await here.control.backups.create(by=by)
    here.events.add("backup.created", made.id, by=f"{by.type}:{by.id}", bytes=made.bytes)
    return BackupView.of(made)


@operations.get(
    "/backups/{id}/download",
    Action.WRITE,
    response_class=StreamingResponse,
    responses={200: {"content": {ARCHIVE: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def download_backup(here: Here, by: By, id: Id) -> Response:
    """The backup itself. It holds secrets, so this is for who may write backups, and it is audited."""
    backup = await here.control.backups.get(id)
    await here.control.audit.record(by, "backup.download", f"backup:{backup.id}")
    return StreamingResponse(
        _pieces(File(backup.path)),
        media_type=ARCHIVE,
        headers={
            "content-disposition": f'attachment; filename="{backup.id}"',
            "content-length": str(backup.bytes),
        },
    )


async def _pieces(file: File) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as stream:
        while piece := await asyncio.to_thread(stream.read, _PIECE):
            yield piece


@operations.post("/backups/{id}/verify", Action.READ, response_model=BackupCheck)
async def verify_backup(here: Here, id: Id) -> Any:
    """Whether a backup is whole and can be restored."""
    return BackupCheck.of(await here.control.backups.verify(id))


@operations.delete("/backups/{id}", status_code=204)
async def delete_backup(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """Remove a backup."""
    backup = await here.control.backups.get(id)
    if not dry_run:
        await here.control.backups.delete(backup.id, by=by)
        here.events.add("backup.deleted", backup.id, by=f"{by.type}:{by.id}")
    return Response(status_code=204)
