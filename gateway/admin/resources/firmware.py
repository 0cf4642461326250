"""Firmware: images for boards, uploaded as they are and kept until nobody needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, written
from gateway.admin.problem import Problem
from gateway.admin.shapes import DryRun, Shown, Time
from gateway.control.firmware import Firmware, NewFirmware

operations = Operations("firmware", "devices")

Id = Annotated[str, Path(min_length=1, max_length=64, examples=["0b6e0f7c2d1a9e54"])]
Word = Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
IMAGE: Final = "application/octet-stream"
_BODY: Final = {
    "requestBody": {"required": True, "content": {IMAGE: {"schema": {"type": "string", "format": "binary"}}}}
}


class FirmwareView(Shown):
    """`size`: bytes. `publisher` and `signature` are base64url, empty where nobody has signed it. `damaged`: why the
    image cannot be sent, else empty; to upload it again puts it right."""

    id: str
    board: str
    version: str
    size: int
    sha256: str
    notes: str
    publisher: str
    signature: str
    created_at: Time
    created_by: str
    damaged: str


def view(here: Context, firmware: Firmware) -> FirmwareView:
    shown = {name: getattr(firmware, name) for name in FirmwareView.model_fields if name != "damaged"}
    return FirmwareView(**shown, damaged=here.control.firmware.damaged.get(firmware.sha256, ""))


@operations.get("/firmware", response_model=PageOf[FirmwareView])
async def list_firmware(
    here: Here,
    q: Search = None,
    board: Annotated[str | None, Query(max_length=64)] = None,
    version: Annotated[str | None, Query(max_length=64)] = None,
    sort: Annotated[str, Query(max_length=32)] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The firmware, newest first."""
    page = await here.control.firmware.list(cursor=cursor, limit=limit, sort=sort, q=q, board=board, version=version)
    return await written(page.items, lambda each: view(here, each), limit, page.next)


@operations.post(
    "/firmware",
    problems=(409,),
    response_model=FirmwareView,
    status_code=201,
    responses={200: {"model": FirmwareView, "description": "It was there already, and is whole again if it was not"}},
    extra=_BODY,
)
async def add_firmware(
    here: Here,
    by: By,
    request: Request,
    response: Response,
    board: Word,
    version: Word,
    notes: Annotated[str, Query(max_length=4096)] = "",
    sha256: Annotated[str, Query(max_length=64, description="What the image must have, in hexadecimal.")] = "",
    publisher: Annotated[str, Query(max_length=43, description="Ed25519 public key, base64url.")] = "",
    signature: Annotated[str, Query(max_length=86, description="Of the manifest, base64url.")] = "",
    dry_run: DryRun = False,
) -> Any:
    """Upload an image, as the body. It is written as it comes, up to `firmware.max_image_bytes`."""
    new = NewFirmware(board, version, notes, sha256, publisher, signature)
    firmware, is_new = await here.control.firmware.add(new, _pieces(request), by=by, dry_run=dry_run)
    response.headers["location"] = f"/api/v1/firmware/{firmware.id}"
    if not is_new:
        response.status_code = 200
    return view(here, firmware)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise Problem("bad-request", "the upload was broken off") from error


@operations.get("/firmware/{id}", response_model=FirmwareView)
async def get_firmware(here: Here, id: Id) -> Any:
    """One firmware."""
    return view(here, await here.control.firmware.get(id))


@operations.delete("/firmware/{id}", problems=(409,), status_code=204)
async def delete_firmware(here: Here, by: By, id: Id, dry_run: DryRun = False) -> Response:
    """Forget a firmware that no rollout has which is not aborted, and its image."""
    await here.control.firmware.delete(id, by=by, dry_run=dry_run)
    return Response(status_code=204)
