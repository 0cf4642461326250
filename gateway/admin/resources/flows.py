"""Flows: what became of requests lately, as a list and as a stream; and who calls whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BeforeValidator

from gateway.admin.access import Operations, Who
from gateway.admin.context import Context, Here, Viewing
from gateway.admin.pages import DEFAULT_LIMIT, Limit, Meta
from gateway.admin.problem import Problem
from gateway.admin.resources.events import MAX_TTL_S, STREAM, LastEventId, Ttl, judge, streamed
from gateway.admin.server_sent import HEARTBEAT, HEARTBEAT_S, JUDGED_S, message
from gateway.admin.shapes import GivenTime, Shown, Time, moment
from gateway.errors import WorkerError
from gateway.observe import graph
from gateway.observe.flow_fields import Record, View, unknown
from gateway.observe.flow_filter import MAX_CHARACTERS, FilterError, FlowFilter
from gateway.observe.flows import written_time
from gateway.observe.graph import Traffic
from gateway.observe.metrics import Path

SCOPE: Final = "monitoring"
#: Records that are put into words before others get their turn, and looked at for one page.
_AT_ONCE: Final = 32
_LOOKS: Final = 65_536


def _as_number(value: object) -> object:
    """What stands in a query is text, which is none of the numbers that a window may be."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


operations = Operations("flows", SCOPE)

Filter = Annotated[
    str,
    Query(max_length=MAX_CHARACTERS, description='As `verdict != "FORWARDED" || latency_ms > 500`; see docs/flows.md.'),
]
Fields = Annotated[
    list[str] | None, Query(max_length=64, description="Only these, as `source.id`. May repeat. Not said: all.")
]
Window = Annotated[
    Literal[10, 60, 300], BeforeValidator(_as_number), Query(description="Over the last so many seconds.")
]


class FlowPage(Shown):
    """Records as docs/flows.md has them, newest first; with `after` oldest first. A record whose verdict is LOST says
    how many are not there any more."""

    data: list[dict[str, Any]]
    meta: Meta


class Measured(Shown):
    """`rate`: requests a second; `error_share`: of those that ended, failed there or refused here; times in seconds,
    null where nothing was answered."""

    requests: int
    rate: float
    ok: int
    failed: int
    canceled: int
    refused: int
    error_share: float
    mean_s: float | None
    p50_s: float | None
    p99_s: float | None


class Edge(Measured):
    """`node`: the neighbour over which the service is reached; "" for this node."""

    source: str
    service: str
    node: str


class GraphView(Shown):
    """Who calls whom on this node. `nodes`: the names that `edges` use; `seconds`: how long was really looked at."""

    at: Time
    node: str
    window_s: int
    seconds: float
    nodes: list[str]
    edges: list[Edge]


class Red(Measured):
    """Of one rule of a `Service` document and one subset; both are "" for what no document speaks of."""

    service: str
    route: str
    subset: str


class RedView(Shown):
    """Rate, errors and duration of each service, route rule and subset."""

    at: Time
    window_s: int
    seconds: float
    data: list[Red]


@operations.get("/flows", response_model=FlowPage)
async def list_flows(
    here: Here,
    filter: Filter = "",
    fields: Fields = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=20, description="`meta.next` of the page before.")] = None,
    after: Annotated[
        int | None, Query(ge=0, description="Those behind this number, oldest first; with what was lost.")
    ] = None,
    since: Annotated[GivenTime | None, Query(description="None that are older.")] = None,
    stored: Annotated[bool, Query(description="From the files, where a Telemetry document keeps some.")] = False,
) -> Any:
    """What became of requests lately. The first look of all may find nothing: records are kept from then on, for half a
    minute, unless a Telemetry document keeps them."""
    wanted, names = _read(filter, fields)
    ring = here.node.flows.log.look()
    if after is not None:
        return await _behind(here, wanted, names, after, limit)
    oldest = 0.0 if since is None else since.timestamp()
    view = View(redact=ring.view.redact, fields=names)
    if stored and here.node.flows.on_disk:
        found = await here.node.flows.stored(oldest, None, _LOOKS)
        page = []
        async for record in _spaced([*found]):
            shown = view.redacted(record)
            if wanted is None or wanted.fits(shown):
                page.append(view.masked(shown))
                if len(page) == limit:
                    break
        return FlowPage(data=page, meta=Meta(limit=limit))
    kept = here.node.flows.log.kept
    number = ring.latest if cursor is None else min(_number(cursor) - 1, ring.latest)
    first = "" if since is None else written_time(oldest)
    page = []
    looks = 0
    while number >= ring.oldest and len(page) < limit and looks < _LOOKS:
        record = ring.record(number)
        looks += 1
        if record["time"] < first:
            number = 0
            break
        if kept is None or kept.fits(record):
            shown = view.redacted(record)
            if wanted is None or wanted.fits(shown):
                page.append(view.masked(shown))
        number -= 1
        if not looks % _AT_ONCE:
            await asyncio.sleep(0)
    following = str(number + 1) if number >= ring.oldest else None
    return FlowPage(data=page, meta=Meta(limit=limit, next=following))


async def _behind(here: Context, wanted: FlowFilter | None, names: tuple[str, ...], after: int, limit: int) -> FlowPage:
    viewing = here.node.flows.log.view(wanted, fields=names, last=after)
    try:
        return FlowPage(data=viewing.take(limit), meta=Meta(limit=limit, next=str(viewing.last)))
    finally:
        viewing.close()


@operations.get("/stream/flows", response_class=StreamingResponse, responses=STREAM)
async def stream_flows(
    here: Here,
    who: Who,
    request: Request,
    filter: Filter = "",
    fields: Fields = None,
    everything: Annotated[bool, Query(description="What the Telemetry document does not keep, too.")] = False,
    ttl: Ttl = MAX_TTL_S,
    last_event_id: LastEventId = None,
) -> Response:
    """Records as they are written (server-sent events); with `Last-Event-ID`, those since then first."""
    wanted, names = _read(filter, fields)
    last = None
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
        last = int(last_event_id)
    may = judge(here, who, request)

    async def source() -> AsyncIterator[bytes]:
        viewing = here.node.flows.log.view(wanted, everything=everything, fields=names, last=last)
        try:
            async for part in _follow(viewing, ttl, lambda: here.stopping() or not may(SCOPE)):
                yield part
        finally:
            viewing.close()

    return streamed(here, f"{who.type}:{who.id}", source())


async def _follow(viewing: Viewing, ttl: float, over: Callable[[], bool]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    ends = loop.time() + ttl
    spoke = loop.time()
    news = asyncio.Event()
    yield b"retry: 2000\n\n"
    while not over():
        records = viewing.take(_AT_ONCE)
        now = loop.time()
        if records:
            spoke = now
            yield b"".join(message("flow", record, record["number"]) for record in records)
        if now >= ends:
            return
        if now - spoke >= HEARTBEAT_S:
            spoke = now
            yield HEARTBEAT
        news.clear()
        viewing.when_more(news.set)
        try:
            async with asyncio.timeout(max(0.0, min(ends, spoke + HEARTBEAT_S, now + JUDGED_S) - now)):
                await news.wait()
        except TimeoutError:
            continue


@operations.get("/graph", response_model=GraphView)
async def service_graph(here: Here, window: Window = 60) -> Any:
    """Which services and kinds of callers call which services, on this node."""
    found: dict[tuple[str, str, str], Traffic] = {}
    for path, traffic in (await _traffic(here, window)).items():
        found.setdefault((path.source, path.service, path.node), Traffic(0.0)).add(traffic)
    edges = [
        Edge(source=source, service=service, node=node, **_figures(traffic))
        for (source, service, node), traffic in sorted(found.items())
    ]
    names = {name for edge in edges for name in (edge.source, edge.service)}
    return GraphView(
        at=moment(here.plane.wall()),
        node=here.plane.node,
        window_s=window,
        seconds=_seconds(found.values()),
        nodes=sorted(names),
        edges=edges,
    )


@operations.get("/red", response_model=RedView)
async def red_metrics(here: Here, window: Window = 60) -> Any:
    """Rate, errors and duration by service, rule and subset, on this node."""
    found: dict[tuple[str, str, str], Traffic] = {}
    for path, traffic in (await _traffic(here, window)).items():
        found.setdefault((path.service, path.rule, path.subset), Traffic(0.0)).add(traffic)
    return RedView(
        at=moment(here.plane.wall()),
        window_s=window,
        seconds=_seconds(found.values()),
        data=[
            Red(service=service, route=rule, subset=subset, **_figures(traffic))
            for (service, rule, subset), traffic in sorted(found.items())
        ],
    )


async def _traffic(here: Context, window: int) -> dict[Path, Traffic]:
    own = here.node.graph.traffic(here.plane.monotonic(), here.metrics.paths, window)
    parts = [own]
    if here.node.workers is not None:
        try:
            answers = await here.node.workers.ask("graph", window=window)
        except WorkerError:
            answers = []
        parts += [graph.heard(rows) for _, rows in answers]
    return graph.together(parts, here.plane.node)


def _figures(traffic: Traffic) -> dict[str, Any]:
    answered = sum(traffic.buckets)
    return {
        "requests": traffic.requests,
        "rate": round(traffic.rate, 3),
        "ok": traffic.ok,
        "failed": traffic.failed,
        "canceled": traffic.canceled,
        "refused": traffic.refused,
        "error_share": round(traffic.error_share, 6),
        "mean_s": round(traffic.sum_seconds / answered, 6) if answered else None,
        "p50_s": traffic.quantile(0.5),
        "p99_s": traffic.quantile(0.99),
    }


def _seconds(parts: Any) -> float:
    return round(max((each.seconds for each in parts), default=0.0), 3)


def _read(text: str, fields: list[str] | None) -> tuple[FlowFilter | None, tuple[str, ...]]:
    wrong = unknown(fields or ())
    if wrong:
        raise _invalid("fields", f"no field {wrong[0][:64]}")
    try:
        return FlowFilter.parse(text), tuple(fields or ())
    except FilterError as error:
        raise _invalid("filter", str(error)) from error


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal()):
        raise _invalid("cursor", "is no cursor of this list")
    return int(cursor)


def _invalid(name: str, detail: str) -> Problem:
    return Problem("invalid", errors=[{"pointer": f"#query/{name}", "detail": detail}])


async def _spaced(records: list[Record]) -> AsyncIterator[Record]:
    since = time.perf_counter()
    for record in records:
        if time.perf_counter() - since > 0.001:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield record
