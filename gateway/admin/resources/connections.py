"""Connections: those that are open, and the last 10,000 that ended, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, slice_page, written
from gateway.admin.problem import Problem
from gateway.admin.round_trip import round_trip_ms
from gateway.admin.shapes import MaybeTime, Shown, Time, moment
from gateway.control.roles import Action
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import INTERNAL
from gateway.forwarding.register import Closed
from gateway.forwarding.stream import Stream
from gateway.wire.frames import FrameType

operations = Operations("connections", "connections")

Number = Annotated[str, Path(pattern=r"^[0-9]{1,18}$", examples=["17"])]


class OpenConnection(Shown):
    """`parked`: its link is lost and it waits to be resumed. `rtt_ms` is the system's own measurement."""

    id: str
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


def open_view(context: Context, connection: Connection) -> OpenConnection:
    plane = context.plane
    now = plane.monotonic()
    resumption = connection.resumption
    parked = resumption is not None and resumption.parked
    return OpenConnection(
        id=str(connection.number),
        state="parked" if parked else "draining" if connection.draining else "open",
        kind=connection.kind,
        principal_kind=connection.principal.kind.value if connection.accepted else "",
        subject=connection.principal.subject,
        peer=connection.peer,
        opened_at=moment(plane.wall() - (now - connection.opened_at)),
        idle_s=round(_idle(connection, now), 3),
        rtt_ms=round_trip_ms(connection.carrier),
        pending=connection.pending,
        streams=len(connection.requesting) + len(connection.serving),
        services=[route.service for route in plane.table.of_owner(connection) if route.service],
        frames_in=connection.frames_in,
        frames_out=connection.outbox.frames_sent,
        bytes_in=connection.bytes_in,
        bytes_out=connection.outbox.bytes_sent,
        outbox_bytes=connection.outbox.size,
        expires_at=moment(connection.principal.expires_at),
        resumable=resumption is not None and not resumption.over,
        leased=connection.granted is not None,
    )


def closed_view(closed: Closed) -> ClosedConnection:
    opened_at: Any = closed.closed_at - closed.duration_s
    return ClosedConnection.of({**closed._asdict(), "id": str(closed.number), "opened_at": opened_at})


def _idle(connection: Connection, now: float) -> float:
    return max(0.0, now - connection.session.last_received)


_OPEN_KEYS: Final[dict[str, Callable[[Connection], Any]]] = {
    "id": lambda c: c.number,
    "opened_at": lambda c: c.opened_at,
    "rtt": lambda c: round_trip_ms(c.carrier) or 0.0,
    "pending": lambda c: c.pending,
    "streams": lambda c: len(c.requesting) + len(c.serving),
    "idle": lambda c: -c.session.last_received,
    "bytes_in": lambda c: c.bytes_in,
    "bytes_out": lambda c: c.outbox.bytes_sent,
    "outbox": lambda c: c.outbox.size,
    "subject": lambda c: c.principal.subject,
}
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
            description=f"Open: {', '.join(_OPEN_KEYS)}. Closed: {', '.join(_CLOSED_KEYS)}. `-` for descending.",
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
    opened = (
        each
        for each in list(here.plane.connections.values())
        if each.kind != INTERNAL
        and (subject is None or each.principal.subject == subject)
        and (kind is None or each.principal.kind == kind)
        and (q is None or q in each.principal.subject or q in each.peer)
    )
    page, next_cursor = await slice_page(
        opened, sort=sort or "id", keys=_OPEN_KEYS, identity=lambda c: c.number, limit=limit, cursor=cursor
    )
    return await written(page, partial(open_view, here), limit, next_cursor)


@operations.get("/connections/{id}", response_model=OpenConnection | ClosedConnection)
async def get_connection(here: Here, id: Number) -> Any:
    """One connection, open or closed."""
    connection = here.plane.connections.get(int(id))
    if connection is not None and connection.kind != INTERNAL:
        return open_view(here, connection)
    for closed in reversed(here.plane.register.closed):
        if closed.number == int(id):
            return closed_view(closed)
    raise Problem("not-found", f"there is no connection {id}")


@operations.delete("/connections/{id}", Action.OPERATE, status_code=204)
async def close_connection(here: Here, by: By, id: Number) -> Response:
    """Close a connection; its peer is told why, and may come back."""
    connection = _open(here, id)
    await here.control.audit.record(
        by, "connection.kick", f"connection:{id}", details={"subject": connection.principal.subject}
    )
    kick(connection)
    return Response(status_code=204)


@operations.get("/connections/{id}/streams", response_model=PageOf[StreamView])
async def list_streams(here: Here, id: Number, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The streams of an open connection, with the credit of each."""
    connection = _open(here, id)
    now = here.plane.monotonic()
    streams = [
        *((stream.requester_id, "requests", stream) for stream in list(connection.requesting.values())),
        *((stream.responder_id, "serves", stream) for stream in list(connection.serving.values())),
    ]
    page, next_cursor = await slice_page(
        streams, sort="id", keys={"id": lambda s: s[0]}, identity=lambda s: s[1], limit=limit, cursor=cursor
    )
    return await written(page, lambda each: _stream_view(*each, now), limit, next_cursor)


def kick(connection: Connection) -> None:
    """Close it and say so."""
    if connection.carrier is not None and not connection.closed:
        connection.close(CloseReason.KICKED, "closed by an operator")


def _open(here: Context, id: str) -> Connection:
    connection = here.plane.connections.get(int(id))
    if connection is None or connection.kind == INTERNAL:
        raise Problem("not-found", f"there is no open connection {id}")
    return connection


def _stream_view(number: int, direction: Any, stream: Stream, now: float) -> StreamView:
    other = stream.responder if direction == "requests" else stream.requester
    assert isinstance(other, Connection)
    credit = stream.down
    return StreamView(
        id=number,
        direction=direction,
        interaction=FrameType(stream.interaction).name.lower(),
        other=str(other.number),
        other_subject=other.principal.subject,
        age_s=round(max(0.0, now - stream.opened_at), 3),
        credit=credit.outstanding if credit is not None else 0,
        held=credit.held if credit is not None else 0,
    )
