"""Connections: those that are open, and the last 10,000 that ended, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response

from gateway.admin import connection_rows
from gateway.admin.access import By, Operations
from gateway.admin.connection_rows import KEYS
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, slice_page, written
from gateway.admin.problem import Problem
from gateway.admin.shapes import MaybeTime, Shown, Time
from gateway.control.roles import Action
from gateway.errors import WorkerError
from gateway.forwarding.connection import Connection
from gateway.forwarding.numbers import process_of
from gateway.forwarding.register import Closed

operations = Operations("connections", "connections")

Number = Annotated[str, Path(pattern=r"^[0-9]{1,18}$", examples=["17"])]


class OpenConnection(Shown):
    """`parked`: its link is lost and it waits to be resumed. `rtt_ms` is the system's own measurement. `worker`: the
    process that it is connected to; 0 is the node's first."""

    id: str
    worker: int
    state: Literal["open", "parked", "draining"]
    kind: str
    principal_kind: str
    subject: str
    peer: str
    opened_at: Time
    idle_s: float
    rtt_ms: float | None
    pending: int
    streams: int
    services: list[str]
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    outbox_bytes: int
    expires_at: MaybeTime
    resumable: bool
    leased: bool


class ClosedConnection(Shown):
    """`reason` is a stable word; `text` is what the peer was told."""

    id: str
    worker: int
    state: Literal["closed"] = "closed"
    kind: str
    principal_kind: str
    subject: str
    peer: str
    opened_at: Time
    closed_at: Time
    duration_s: float
    reason: str
    text: str
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int


class StreamView(Shown):
    """`direction`: `requests` if this connection asks, `serves` if it answers. `credit`: items that may still come;
    `held`: items granted that wait for the consumer to take what is under way."""

    id: int
    direction: Literal["requests", "serves"]
    interaction: str
    other: str
    other_subject: str
    age_s: float
    credit: int
    held: int


def open_view(connection: Connection) -> OpenConnection:
    return OpenConnection(**connection_rows.row(connection))


def closed_view(closed: Closed) -> ClosedConnection:
    opened_at: Any = closed.closed_at - closed.duration_s
    known = {"id": str(closed.number), "worker": process_of(closed.number), "opened_at": opened_at}
    return ClosedConnection.of({**closed._asdict(), **known})


_CLOSED_KEYS: Final[dict[str, Callable[[Closed], Any]]] = {
    "id": lambda c: c.number,
    "closed_at": lambda c: c.closed_at,
    "duration": lambda c: c.duration_s,
    "bytes_in": lambda c: c.bytes_in,
    "bytes_out": lambda c: c.bytes_out,
    "subject": lambda c: c.subject,
    "reason": lambda c: c.reason,
}


@operations.get("/connections", response_model=PageOf[OpenConnection] | PageOf[ClosedConnection])
async def list_connections(
    here: Here,
    state: Literal["open", "closed"] = "open",
    subject: Annotated[str | None, Query(max_length=64)] = None,
    kind: Annotated[str | None, Query(max_length=16, description="The principal's kind.")] = None,
    reason: Annotated[str | None, Query(max_length=64, description="Why it was closed.")] = None,
    q: Search = None,
    sort: Annotated[
        str | None,
        Query(
            max_length=16,
            description=f"Open: {', '.join(KEYS)}. Closed: {', '.join(_CLOSED_KEYS)}. `-` for descending.",
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The open connections, or the last 10,000 that ended."""
    if state == "closed":
        closed: Iterable[Closed] = (
            each
            for each in list(here.plane.register.closed)
            if (subject is None or each.subject == subject)
            and (kind is None or each.principal_kind == kind)
            and (reason is None or each.reason == reason)
            and (q is None or q in each.subject or q in each.peer or q in each.reason)
        )
        ended, next_cursor = await slice_page(
            closed, sort=sort or "-id", keys=_CLOSED_KEYS, identity=lambda c: c.number, limit=limit, cursor=cursor
        )
        return await written(ended, closed_view, limit, next_cursor)
    opened = connection_rows.matching(here.plane, here.node.is_inside, subject, kind, q)
    wanted: dict[str, Any] = {"subject": subject, "kind": kind, "q": q}
    page, next_cursor = await slice_page(
        opened,
        sort=sort or "id",
        keys=KEYS,
        identity=lambda c: c.number,
        limit=limit,
        cursor=cursor,
        elsewhere=partial(_elsewhere, here, wanted),
    )
    return await written(page, _any_view, limit, next_cursor)


async def _elsewhere(here: Context, wanted: dict[str, Any], **order: Any) -> list[Any]:
    """The same page of each worker: places and rows."""
    if here.node.workers is None:
        return []
    return [found for _, page in await here.node.workers.ask("connections", **wanted, **order) for found in page]


def _any_view(found: Connection | connection_rows.Row) -> OpenConnection:
    return open_view(found) if isinstance(found, Connection) else OpenConnection(**found)


@operations.get("/connections/{id}", response_model=OpenConnection | ClosedConnection)
async def get_connection(here: Here, id: Number) -> Any:
    """One connection, open or closed."""
    for closed in reversed(here.plane.register.closed):
        if closed.number == int(id):
            return closed_view(closed)
    return OpenConnection(**await _ask(here, "connection", id))


@operations.delete("/connections/{id}", Action.OPERATE, status_code=204)
async def close_connection(here: Here, by: By, id: Number) -> Response:
    """Close a connection; its peer is told why, and may come back."""
    found = await _ask(here, "connection", id)
    await here.control.audit.record(by, "connection.kick", f"connection:{id}", details={"subject": found["subject"]})
    await _ask(here, "kick", id)
    return Response(status_code=204)


@operations.get("/connections/{id}/streams", response_model=PageOf[StreamView])
async def list_streams(here: Here, id: Number, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The streams of an open connection, with the credit of each."""
    page, next_cursor = await slice_page(
        await _ask(here, "streams", id),
        sort="id",
        keys={"id": lambda s: s["id"]},
        identity=lambda s: s["direction"],
        limit=limit,
        cursor=cursor,
    )
    return await written(page, lambda each: StreamView(**each), limit, next_cursor)


async def _ask(here: Context, what: str, id: str) -> Any:
    """Something of an open connection, from the process that has it. Raises Problem (404)."""
    number = int(id)
    try:
        if process_of(number) == 0:
            connection = connection_rows.find(here.plane, number)
            return _OF_ONE[what](connection)
        if here.node.workers is None:
            raise LookupError
        ((_, answer),) = await here.node.workers.ask(what, process_of(number), number=number)
        return answer
    except (LookupError, WorkerError):
        raise Problem("not-found", f"there is no open connection {id}") from None


_OF_ONE: Final[dict[str, Callable[[Connection], Any]]] = {
    "connection": connection_rows.row,
    "streams": connection_rows.stream_rows,
    "kick": connection_rows.kick,
}
