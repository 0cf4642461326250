"""Services: what is registered, how it does, and calling it from here."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, slice_page, written
from gateway.admin.problem import Problem
from gateway.admin.resources.routes import administrator
from gateway.admin.shapes import Shown, Taken
from gateway.control.roles import Action
from gateway.forwarding.console import Console
from gateway.observe.metrics import UNNAMED, ServiceStats
from gateway.policy.access import full_route
from gateway.wire.frames import ErrorCode, FrameType

operations = Operations("services", "routing")

Name = Annotated[str, Path(max_length=255, description="The service's name.")]
MAX_ITEMS: Final = 100
MAX_WAIT_S: Final = 20.0


class ServiceView(Shown):
    """`instances`: its routes now. The counters are since the node's start; those of services whose names hold a
    device's id are counted together and are null here."""

    name: str
    instances: int
    requests: int | None = None
    ok: int | None = None
    failed: int | None = None
    canceled: int | None = None
    refused: int | None = None
    open: int | None = None


class Call(Taken):
    """A request to send. `route` is below the service, or begins with its name; `tags` are routing tags."""

    route: str = Field("", max_length=255)
    interaction: Literal["request_response", "fire_and_forget", "request_stream"] = "request_response"
    data: str = Field("", max_length=700_000)
    encoding: Literal["utf8", "base64"] = "utf8"
    tags: dict[str, str] = Field({}, max_length=16)
    items: int = Field(1, ge=1, le=MAX_ITEMS, description="Items of a stream to take.")
    timeout_s: float = Field(5.0, gt=0, le=MAX_WAIT_S, allow_inf_nan=False)


class CallItem(Shown):
    """`encoding` is utf8 where the data is text, else base64."""

    data: str
    encoding: Literal["utf8", "base64"]


class CallError(Shown):
    code: str
    text: str


class Called(Shown):
    """What came of a request. A responder's refusal is an answer of this operation, too: `outcome` is `error`."""

    outcome: Literal["ok", "error", "timeout"]
    route: str
    items: list[CallItem]
    truncated: bool
    error: CallError | None = None
    duration_s: float


@operations.get("/services", response_model=PageOf[ServiceView])
async def list_services(here: Here, q: Search = None, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The registered services by name, with their counters."""
    rows = [(name, count) for name, count in here.plane.table.services() if q is None or q in name]
    page, next_cursor = await slice_page(
        rows, sort="name", keys={"name": lambda r: r[0]}, identity=lambda r: r[0], limit=limit, cursor=cursor
    )
    stats = here.metrics.services
    return await written(page, lambda row: _view(*row, stats.get(row[0] or UNNAMED)), limit, next_cursor)


@operations.post("/services/{name}:call", Action.PUBLISH, scope="publish", response_model=Called)
async def call_service(here: Here, by: By, name: Name, call: Call) -> Any:
    """Send one request, as an administrator, through the data plane and its access rules."""
    route = full_route(name, call.route)
    data = _bytes(call)
    for key, value in (("route", route), *call.tags.items()):
        if len(key.encode(errors="replace")) + len(value.encode(errors="replace")) > 250:
            raise Problem("invalid", errors=[{"pointer": "/route", "detail": "route or tag is over 250 bytes"}])
    await here.control.audit.record(
        by, "service.call", f"service:{name[:128]}", details={"route": route, "interaction": call.interaction}
    )
    done = asyncio.Event()
    principal = administrator(by.id, here.plane.wall())
    began = time.perf_counter()
    console = Console(here.plane, principal, done.set)
    outcome: Literal["ok", "error", "timeout"] = "ok"
    try:
        console.ask(_INTERACTIONS[call.interaction], route, call.tags, data, call.items)
        async with asyncio.timeout(call.timeout_s):
            await done.wait()
    except TimeoutError:
        outcome = "timeout"
    except ValueError as error:
        raise Problem("invalid", errors=[{"pointer": "/", "detail": str(error)}]) from error
    finally:
        console.give_up()
    refusal = None
    if console.error is not None:
        outcome = "error"
        code, text = console.error
        refusal = CallError(code=_code(code), text=text)
    return Called(
        outcome=outcome,
        route=route,
        items=[_item(item) for item in console.items],
        truncated=console.truncated,
        error=refusal,
        duration_s=round(time.perf_counter() - began, 6),
    )


_INTERACTIONS: Final = {
    "request_response": FrameType.REQUEST_RESPONSE,
    "fire_and_forget": FrameType.REQUEST_FNF,
    "request_stream": FrameType.REQUEST_STREAM,
}


def _bytes(call: Call) -> bytes:
    try:
        if call.encoding == "base64":
            return b64decode(call.data, validate=True)
        return call.data.encode()
    except (Base64Error, ValueError) as error:
        raise Problem("invalid", errors=[{"pointer": "/data", "detail": f"is not {call.encoding}"}]) from error


def _item(data: bytes) -> CallItem:
    try:
        return CallItem(data=data.decode(), encoding="utf8")
    except UnicodeDecodeError:
        return CallItem(data=b64encode(data).decode(), encoding="base64")


def _code(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"0x{code:08x}"


def _view(name: str, instances: int, stats: ServiceStats | None) -> ServiceView:
    if stats is None:
        return ServiceView(name=name, instances=instances)
    return ServiceView(
        name=name,
        instances=instances,
        requests=stats.requests,
        ok=stats.ok,
        failed=stats.failed,
        canceled=stats.canceled,
        refused=stats.refused,
        open=stats.open,
    )
