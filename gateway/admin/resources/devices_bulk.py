"""Many devices at once: importing and exporting them as CSV or JSON lines.

The CSV has a header line; its columns are those of a device. `labels` is `key=value` pairs, `groups`, `services` and
`routes` are lists, all with `;` between. A good row is imported whatever becomes of the others.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.export import CSV, JSON_LINES, csv_line, joined, spaced
from gateway.admin.problem import Problem
from gateway.admin.resources.devices import DeviceBody
from gateway.admin.shapes import DryRun, Shown
from gateway.control.devices import NewDevice

operations = Operations("devices", "devices")

MAX_ROWS: Final = 10_000
#: Failed rows that are told one by one.
MAX_FAILURES: Final = 100
_LISTS: Final = ("groups", "services", "routes")
COLUMNS: Final = ("id", "kind", "profile", "labels", *_LISTS, "firmware", "notes", "enabled")
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {"schema": {"type": "string"}, "example": "id,profile,labels\nkitchen,thermo,floor=1;room=7\n"},
            JSON_LINES: {"schema": {"type": "string"}, "example": '{"id":"kitchen","profile":"thermo"}\n'},
        },
    }
}


class RowFailure(Shown):
    """`row` counts from 1, without the header."""

    row: int
    id: str
    detail: str


class BulkResult(Shown):
    created: int
    failed: int
    failures: list[RowFailure]


@operations.post("/devices:bulk", problems=(415,), response_model=BulkResult, extra=_BODY)
async def import_devices(here: Here, by: By, request: Request, dry_run: DryRun = False) -> Any:
    """Register many devices. The rows that are good are registered; the others are told."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem("bad-request", "the body is not UTF-8") from error
    if media_type == CSV:
        rows = _csv_rows(text)
    elif media_type == JSON_LINES:
        rows = _json_rows(text)
    else:
        raise Problem("unsupported-media-type", f"send {CSV} or {JSON_LINES}")
    failures: list[RowFailure] = []
    good: list[tuple[int, NewDevice]] = []
    number = 0
    async for number, row in spaced(enumerate(rows, 1)):
        if number > MAX_ROWS:
            raise Problem("invalid", f"more than {MAX_ROWS} rows: send them in parts")
        made = _device(row)
        if isinstance(made, NewDevice):
            good.append((number, made))
        else:
            failures.append(RowFailure(row=number, id=_shown_id(row), detail=made))
    created = 0
    if good:
        outcomes = await here.control.devices.create_many([device for _, device in good], by=by, dry_run=dry_run)
        for (row_number, device), outcome in zip(good, outcomes, strict=True):
            if outcome.error is None:
                created += 1
            else:
                failures.append(RowFailure(row=row_number, id=device.id, detail=str(outcome.error)))
    failures.sort(key=lambda failure: failure.row)
    return BulkResult(created=created, failed=len(failures), failures=failures[:MAX_FAILURES])


@operations.get(
    "/devices/export",
    response_class=StreamingResponse,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}, JSON_LINES: {"schema": {"type": "string"}}}}},
)
async def export_devices(here: Here, by: By, format: Annotated[Literal["csv", "jsonl"], Query()] = "csv") -> Response:
    """Every device, as the import takes them."""
    await here.control.audit.record(by, "device.export", "device:*")

    async def lines() -> AsyncIterator[bytes]:
        if format == "csv":
            yield csv_line(COLUMNS)
        async for text in here.control.devices.export(COLUMNS):
            if format == "csv":
                for line in text.split("\n"):
                    yield csv_line(_cells(json.loads(line)))
            else:
                yield text.encode() + b"\n"

    return StreamingResponse(
        joined(lines()),
        media_type=f"{CSV}; charset=utf-8" if format == "csv" else JSON_LINES,
        headers={"content-disposition": f'attachment; filename="devices.{format}"'},
    )


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    unknown = set(reader.fieldnames or ()) - set(COLUMNS)
    if unknown or "id" not in (reader.fieldnames or ()):
        raise Problem("invalid", f"the first line names the columns, id among them: {', '.join(COLUMNS)}")
    try:
        for cells in reader:
            yield _of_cells(cells)
    except csv.Error as error:
        raise Problem("invalid", f"line {reader.line_num}: {error}") from error


def _of_cells(cells: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        if not name:
            row["more columns than the header"] = cell
        elif cell is None or cell == "":
            continue
        elif name in _LISTS:
            row[name] = [item.strip() for item in cell.split(";") if item.strip()]
        elif name == "enabled":
            row[name] = {"true": True, "false": False}.get(cell.strip().lower(), cell)
        elif name == "labels":
            pairs = (item.partition("=") for item in cell.split(";") if item.strip())
            row[name] = {key.strip(): value.strip() for key, _, value in pairs}
        else:
            row[name] = cell
    return row


def _json_rows(text: str) -> Iterator[Any]:
    # Not by splitlines, which takes characters for an end that JSON has in its strings.
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield "this line is no JSON"


def _device(row: object) -> NewDevice | str:
    """The device of a row, or what is wrong with it."""
    if isinstance(row, str):
        return row
    try:
        body = DeviceBody.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}"[:300]
    return body.record()


def _shown_id(row: object) -> str:
    found = row.get("id", "") if isinstance(row, dict) else ""
    return str(found)[:64]


def _cells(device: dict[str, Any]) -> list[str]:
    cells = {
        **device,
        "labels": ";".join(f"{key}={value}" for key, value in device["labels"].items()),
        **{name: ";".join(device[name]) for name in _LISTS},
        "enabled": str(device["enabled"]).lower(),
    }
    return [cells[name] for name in COLUMNS]
