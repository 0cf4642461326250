"""Events: what happened lately, as a list and as a stream, and the node's figures as a stream.

Events of users, sessions and API keys are for who may read those. A stream ends within seconds of its caller's rights.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from gateway.admin.access import Operations, Who
from gateway.admin.context import Context, Here
from gateway.admin.events import CAPACITY, Event, guard_of
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, slice_page, written
from gateway.admin.resources.node import stats_view
from gateway.admin.server_sent import MEDIA_TYPE, follow, message, repeat
from gateway.admin.shapes import Shown, Time
from gateway.control.plane import Caller
from gateway.control.roles import Action

SCOPE: Final = "monitoring"

operations = Operations("events", SCOPE)

MAX_TTL_S: Final = 86_400.0

Kind = Annotated[
    str | None, Query(max_length=64, description="`connection.closed`, or what it begins with: `connection.`")
]
Subject = Annotated[str | None, Query(max_length=64)]
Ttl = Annotated[float, Query(ge=0, le=MAX_TTL_S, allow_inf_nan=False, description="Seconds until the stream ends.")]
LastEventId = Annotated[
    str | None,
    Header(max_length=20, description="The id of the last event that was seen; 0 for all that is remembered."),
]
STREAM: Final = {200: {"description": "A stream", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}}


class EventView(Shown):
    """`kind` is like `connection.closed`; `data` depends on it. `id` counts from the node's start."""

    id: int
    at: Time
    kind: str
    subject: str
    data: dict[str, Any]


@operations.get("/events", response_model=PageOf[EventView])
async def list_events(
    here: Here,
    who: Who,
    kind: Kind = None,
    subject: Subject = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The last 10,000 events of this run of the node, newest first."""
    matches = _filter(kind, subject, lambda scope: who.may(scope, Action.READ))
    events, _ = here.events.since(0, CAPACITY)
    page, next_cursor = await slice_page(
        [event for event in events if matches(event)],
        sort="-id",
        keys={"id": lambda e: e.id},
        identity=lambda e: e.id,
        limit=limit,
        cursor=cursor,
    )
    return await written(page, EventView.of, limit, next_cursor)


@operations.get("/stream/events", response_class=StreamingResponse, responses=STREAM)
async def stream_events(
    here: Here,
    who: Who,
    request: Request,
    kind: Kind = None,
    subject: Subject = None,
    ttl: Ttl = MAX_TTL_S,
    last_event_id: LastEventId = None,
) -> Response:
    """Events as they happen (server-sent events); with `Last-Event-ID`, those since then first."""
    last = here.events.latest
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
        last = int(last_event_id)
    may = judge(here, who, request)
    source = follow(here.events, last, _filter(kind, subject, may), ttl, lambda: here.stopping() or not may(SCOPE))
    return streamed(here, f"{who.type}:{who.id}", source)


@operations.get("/stream/stats", response_class=StreamingResponse, responses=STREAM)
async def stream_stats(
    here: Here,
    who: Who,
    request: Request,
    interval_s: Annotated[float, Query(ge=0.5, le=60, allow_inf_nan=False)] = 1.0,
    ttl: Ttl = MAX_TTL_S,
) -> Response:
    """`GET /node/stats` again and again (server-sent events)."""

    async def figures() -> bytes:
        return message("stats", (await stats_view(here)).model_dump(mode="json"))

    may = judge(here, who, request)
    source = repeat(lambda: here.stats.get(figures), interval_s, ttl, lambda: here.stopping() or not may(SCOPE))
    return streamed(here, f"{who.type}:{who.id}", source)


def judge(here: Context, who: Caller, request: Request) -> Callable[[str], bool]:
    """Whether who opened a stream may still read what is of this scope."""
    bearer = request.headers.get("authorization", "").partition(" ")[2].strip()

    def may(scope: str) -> bool:
        caller = here.control.still(who, bearer)
        return caller is not None and caller.may(scope, Action.READ)

    return may


def streamed(here: Here, who: str, source: AsyncIterator[bytes]) -> Response:
    """Answer with what `source` gives, as one more open stream of this caller. Raises Problem (429)."""
    here.audience.enter(who)

    async def counted() -> AsyncIterator[bytes]:
        with here.audience.leaving(who):
            async for part in source:
                yield part

    return StreamingResponse(counted(), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})


def _filter(kind: str | None, subject: str | None, may: Callable[[str], bool]) -> Callable[[Event], bool]:
    def matches(event: Event) -> bool:
        guard = guard_of(event)
        if guard is not None and not may(guard):
            return False
        if subject is not None and event.subject != subject:
            return False
        if kind is None or event.kind == kind:
            return True
        return kind.endswith(".") and event.kind.startswith(kind)

    return matches
