"""Connections and their streams as the admin API shows them, in any process of a node.

A row is what JSON can say, times as Unix seconds. Known to workers too, which have nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gateway.admin.export import spaced
from gateway.admin.round_trip import round_trip_ms
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import LOCAL
from gateway.forwarding.numbers import process_of
from gateway.forwarding.plane import INTERNAL, Plane
from gateway.forwarding.stream import Stream
from gateway.wire.frames import FrameType

Row = dict[str, Any]
#: What a list is ordered by, and an id that breaks ties.
Place = tuple[Any, Any]

KEYS: Final[dict[str, Callable[[Connection], Any]]] = {
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


def matching(
    plane: Plane, is_inside: Callable[[Connection], bool], subject: str | None, kind: str | None, q: str | None
) -> Iterator[Connection]:
    """The open connections of this process that are no part of the node itself."""
    return (
        each
        for each in list(plane.connections.values())
        if each.kind != INTERNAL
        and not is_inside(each)
        and (subject is None or each.principal.subject == subject)
        and (kind is None or each.principal.kind == kind)
        and (q is None or q in each.principal.subject or q in each.peer)
    )


async def page(
    rows: Iterable[Connection], sort: str, *, descending: bool, after: Place | None, limit: int
) -> list[tuple[Place, Row]]:
    """The first `limit` behind a place, each with its own."""
    key = KEYS[sort]
    number = itertools.count()
    placed = [((key(each), each.number), next(number), each) async for each in spaced(rows)]
    if after is not None:
        placed = [each for each in placed if (each[0] < after if descending else each[0] > after)]
    chosen = (heapq.nlargest if descending else heapq.nsmallest)(limit, placed)
    found = []
    for place, _, connection in chosen:
        found.append((place, row(connection)))
        if len(found) % 50 == 0:
            await asyncio.sleep(0)
    return found


def of_subject(plane: Plane, subject: str) -> list[Connection]:
    """The connections of a subject in this process."""
    group = plane.table.subject(subject)
    owners = dict.fromkeys(route.owner for route in group.routes) if group is not None else {}
    return [owner for owner in owners if isinstance(owner, Connection) and owner.side == LOCAL]


def find(plane: Plane, number: int) -> Connection:
    """An open connection of this process. Raises LookupError."""
    connection = plane.connections.get(number)
    if connection is None or connection.kind == INTERNAL:
        raise LookupError(f"there is no open connection {number}")
    return connection


def row(connection: Connection) -> Row:
    plane = connection.plane
    now = plane.monotonic()
    resumption = connection.resumption
    parked = resumption is not None and resumption.parked
    return {
        "id": str(connection.number),
        "worker": process_of(connection.number),
        "state": "parked" if parked else "draining" if connection.draining else "open",
        "kind": connection.kind,
        "principal_kind": connection.principal.kind.value if connection.accepted else "",
        "subject": connection.principal.subject,
        "peer": connection.peer,
        "opened_at": plane.wall() - (now - connection.opened_at),
        "idle_s": round(max(0.0, now - connection.session.last_received), 3),
        "rtt_ms": round_trip_ms(connection.carrier),
        "pending": connection.pending,
        "streams": len(connection.requesting) + len(connection.serving),
        "services": [route.service for route in plane.table.of_owner(connection) if route.service],
        "frames_in": connection.frames_in,
        "frames_out": connection.outbox.frames_sent,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.outbox.bytes_sent,
        "outbox_bytes": connection.outbox.size,
        "expires_at": connection.principal.expires_at,
        "resumable": resumption is not None and not resumption.over,
        "leased": connection.granted is not None,
    }


def stream_rows(connection: Connection) -> list[Row]:
    """Its streams, of both directions."""
    now = connection.plane.monotonic()
    asked = [(stream.requester_id, "requests", stream) for stream in list(connection.requesting.values())]
    served = [(stream.responder_id, "serves", stream) for stream in list(connection.serving.values())]
    return [_stream_row(*each, now) for each in (*asked, *served)]


def _stream_row(number: int, direction: str, stream: Stream, now: float) -> Row:
    other = stream.responder if direction == "requests" else stream.requester
    assert isinstance(other, Connection)
    credit = stream.down
    return {
        "id": number,
        "direction": direction,
        "interaction": FrameType(stream.interaction).name.lower(),
        "other": str(other.number),
        "other_subject": other.principal.subject,
        "age_s": round(max(0.0, now - stream.opened_at), 3),
        "credit": credit.outstanding if credit is not None else 0,
        "held": credit.held if credit is not None else 0,
    }


def kick(connection: Connection) -> None:
    """Close it and say so."""
    if connection.carrier is not None and not connection.closed:
        connection.close(CloseReason.KICKED, "closed by an operator")
