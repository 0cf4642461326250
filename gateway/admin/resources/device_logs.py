"""The last lines that a device logged, as the device itself says them."""

from __future__ import annotations

from typing import Any, Literal

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.resources.devices import Id
from gateway.admin.resources.services import Call, CallError, call_service
from gateway.admin.shapes import MaybeTime, Shown
from gateway.control.roles import Action

operations = Operations("device-logs", "devices")

MAX_LINES = 100
TIMEOUT_S = 10.0
#: Milliseconds below this are not of a clock that was set, but how long the device has run (docs/device/log.md).
SET_MS = 1_000_000_000_000


class LogLine(Shown):
    """`number` counts the lines since the device's start. `at`: when; where its clock was not set, `up_ms` says how
    long it had run instead."""

    number: int
    at: MaybeTime
    up_ms: int | None
    text: str


class DeviceLog(Shown):
    """`outcome`: what came of asking the device; `error` says why there are no lines."""

    outcome: Literal["ok", "error", "timeout"]
    lines: list[LogLine]
    error: CallError | None


@operations.get("/devices/{id}/log", Action.OPERATE, response_model=DeviceLog)
async def get_device_log(here: Here, by: By, id: Id) -> Any:
    """Ask a device for the last lines that it logged (device_sdk.log). A refusal is an answer, too."""
    await here.control.devices.get(id)
    asked = Call.model_validate(
        {"route": "log", "interaction": "request_stream", "items": MAX_LINES, "timeout_s": TIMEOUT_S}
    )
    called = await call_service(here, by, id, asked)
    lines = [line for item in called.items if item.encoding == "utf8" and (line := _line(item.data))]
    return DeviceLog(outcome=called.outcome, lines=lines, error=called.error)


def _line(item: str) -> LogLine | None:
    """None for what is no line of a log."""
    number, at, text = [*item.split(" ", 2), "", ""][:3]
    if not (number.isdecimal() and at.isdecimal() and len(at) < 17):
        return None
    ms = int(at)
    return LogLine.model_validate(
        {
            "number": int(number[:15]),
            "at": ms / 1000 if ms >= SET_MS else None,
            "up_ms": None if ms >= SET_MS else ms,
            "text": text,
        }
    )
