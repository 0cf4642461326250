"""The node itself: what it is, how it does, and letting it go."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from gateway import __version__, forwarding
from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.export import JSON
from gateway.admin.family import Reading, Sources
from gateway.admin.history import STEP_S, Step, outbox_bytes_of
from gateway.admin.resources.config import apply, flat_change
from gateway.admin.shapes import DryRun, MaybeTime, Shown, Taken, Time, moment
from gateway.control.roles import Action
from gateway.observe.process import process_usage

operations = Operations("node", "system")

_INTERACTIONS = ("request_response", "fire_and_forget", "request_stream", "request_channel")
_OUTCOMES = ("requests", "ok", "failed", "canceled", "refused")


class AlarmView(Shown):
    slug: str
    text: str
    since: Time


class WorkerView(Shown):
    """One more process of this node. `restarts`: starts after the first."""

    index: int
    state: Literal["starting", "ready", "ended"]
    pid: int | None
    started_at: MaybeTime
    restarts: int
    connections: int


class NodeView(Shown):
    """`checks`: what readiness asks; `ok`, or why not. `addresses`: where it listens, by what for."""

    id: str
    name: str
    version: str
    state: Literal["ready", "draining"]
    started_at: Time
    uptime_s: float
    pid: int
    python: str
    loop: str
    hot_path: str
    addresses: dict[str, str]
    advertised_url: str
    checks: dict[str, str]
    alarms: list[AlarmView]
    workers: list[WorkerView]


class Traffic(Shown):
    received: int
    sent: int


class ConnectionCounts(Shown):
    """By kind, except `closed`, which is by reason."""

    open: dict[str, int]
    opened: dict[str, int]
    closed: dict[str, int]
    parked: int


class StatsView(Shown):
    """Counters since the start; `streams_open`, `routes`, `outbox_bytes` and the last five are of now. A node of
    several processes adds them up, those that have ended left out; `loop_lag_s` is that of the latest of them."""

    at: Time
    uptime_s: float
    connections: ConnectionCounts
    streams_open: int
    interactions: dict[str, int]
    frames: Traffic
    bytes: Traffic
    keepalives: int
    ignored_frames: int
    refusals: dict[str, int]
    tokens_refused: dict[str, int]
    requests: dict[str, int]
    routes: int
    outbox_bytes: int
    loop_lag_s: float
    memory_bytes: int | None
    cpu_s: float
    open_fds: int | None


class HistoryView(Shown):
    """Columns of one length, oldest first: rates are for a second, of the `step_s` that end `at` (Unix seconds), as is
    `now`. Latencies and `loop_lag_s` (the most of the step) are seconds and null where nothing was measured; `cpu`:
    cores. `refused_s` has registrations, too."""

    step_s: float
    now: float
    at: list[float]
    connections: list[int]
    devices_online: list[int]
    requests_s: list[float]
    failed_s: list[float]
    refused_s: list[float]
    frames_in_s: list[float]
    frames_out_s: list[float]
    bytes_in_s: list[float]
    bytes_out_s: list[float]
    p50_s: list[float | None]
    p99_s: list[float | None]
    outbox_bytes: list[int]
    streams_open: list[int]
    spool_depth: list[int]
    loop_lag_s: list[float | None]
    memory_bytes: list[int | None]
    cpu: list[float]


class Features(Shown):
    features: list[str]


class State(Shown):
    state: Literal["ready", "draining"]


class Reloaded(Shown):
    """Names of settings: those that hold now, and those that a file says otherwise and that need a restart."""

    changed: list[str]
    restart_needed: list[str]


Exit = Annotated[
    bool,
    Query(description="End the process when requests in flight have finished, as SIGTERM does: within 30 s usually."),
]


class Level(Taken):
    level: Literal["debug", "info", "warning", "error"]


class LevelView(Shown):
    level: str


async def stats_view(here: Context) -> StatsView:
    """The figures of this moment, of all processes together."""
    outbox_bytes = await outbox_bytes_of(here.plane)
    own = Reading(here.metrics, Sources(lambda: outbox_bytes, here.plane.table.__len__), "", process_usage())
    workers = here.node.workers
    readings = [own] if workers is None else [own, *(reading for _, reading in await workers.readings(""))]
    counters = [reading.metrics.counters for reading in readings]
    processes = [reading.process for reading in readings]

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in counters)

    def by_label(name: str) -> dict[str, int]:
        found: Counter[str] = Counter()
        for each in counters:
            found.update(getattr(each, name))
        return dict(found)

    paths = [stats for reading in readings for stats in reading.metrics.paths.values()]
    now = here.plane.wall()
    return StatsView(
        at=moment(now),
        uptime_s=round(now - here.node.started_at, 3),
        connections=ConnectionCounts(
            open=by_label("connections_open"),
            opened=by_label("connections_opened"),
            closed=by_label("closes"),
            parked=total("sessions_parked"),
        ),
        streams_open=total("streams_open"),
        interactions={name: total(name) for name in _INTERACTIONS},
        frames=Traffic(received=total("frames_in"), sent=total("frames_out")),
        bytes=Traffic(received=total("bytes_in"), sent=total("bytes_out")),
        keepalives=total("keepalives"),
        ignored_frames=total("ignored_frames"),
        refusals=by_label("refusals"),
        tokens_refused=by_label("tokens_refused"),
        requests={name: sum(getattr(stats, name) for stats in paths) for name in _OUTCOMES},
        # The first process has the routes of all.
        routes=len(here.plane.table),
        outbox_bytes=sum(reading.sources.outbox_bytes() for reading in readings),
        loop_lag_s=round(max(reading.metrics.lag_latest for reading in readings), 6),
        memory_bytes=_sum(each.resident_bytes for each in processes),
        cpu_s=round(sum(each.cpu_seconds for each in processes), 3),
        open_fds=_sum(each.open_fds for each in processes),
    )


def _sum(figures: Iterable[float | None]) -> int | None:
    """None where the system does not say it."""
    known = [int(figure) for figure in figures if figure is not None]
    return sum(known) if known else None


def _state(here: Context) -> Literal["ready", "draining"]:
    return "draining" if here.plane.draining else "ready"


@operations.get("/node", scope="monitoring", response_model=NodeView)
async def get_node(here: Here) -> Any:
    """What this node is and where it listens."""
    now = here.plane.wall()
    return NodeView(
        id=here.identity.node_id,
        name=here.plane.node,
        version=__version__,
        state=_state(here),
        started_at=moment(here.node.started_at),
        uptime_s=round(now - here.node.started_at, 3),
        pid=os.getpid(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        loop="uvloop" if "uvloop" in sys.modules else "asyncio",
        hot_path="compiled" if getattr(forwarding, "COMPILED", False) else "pure Python",
        addresses=dict(here.node.addresses),
        advertised_url=here.node.advertised_url,
        checks={name: check() or "ok" for name, check in here.node.checks().items()},
        alarms=[AlarmView.of(alarm) for alarm in here.control.alarms],
        workers=[WorkerView(**each) for each in (here.node.workers.views() if here.node.workers is not None else ())],
    )


@operations.get("/node/stats", scope="monitoring", response_model=StatsView)
async def get_stats(here: Here) -> Any:
    """What it has done since its start, and what it holds now."""
    return await stats_view(here)


@operations.get("/node/history", scope="monitoring", response_model=HistoryView)
async def get_history(
    here: Here,
    since: Annotated[float, Query(ge=0, allow_inf_nan=False, description="Unix seconds: only what ended later.")] = 0.0,
) -> Any:
    """The last 15 minutes in steps of 5 s, of all processes of the node together."""
    steps = here.history.since(since)
    columns: Any = {name: [getattr(step, name) for step in steps] for name in Step._fields if name != "jumped_s"}
    view = HistoryView.model_construct(step_s=STEP_S, now=round(here.plane.wall(), 3), **columns)
    return Response(view.model_dump_json(), media_type=JSON)


@operations.get("/node/features", scope="monitoring", response_model=Features)
async def get_features() -> Any:
    """What this version can do, for clients that know several."""
    return Features(
        features=["api_keys", "audit", "backups", "config", "enrollment", "events", "issuers", "leases", "resume"]
    )


@operations.post("/node/drain", Action.OPERATE, response_model=State)
async def drain_node(here: Here, by: By, exit: Exit = False, dry_run: DryRun = False) -> Any:
    """Take no new sessions or requests, tell every peer to go elsewhere. The process goes on, unless `exit` is set."""
    if dry_run or here.node.ending or (here.plane.draining and not exit):
        return State(state=_state(here))
    await here.control.audit.record(by, "node.drain", "node", details={"exit": exit})
    here.events.add("node.draining", by.id, exit=exit)
    if exit:
        here.node.end()
    else:
        here.node.drain()
    return State(state="draining")


@operations.post("/node/undrain", Action.OPERATE, response_model=State)
async def undrain_node(here: Here, by: By, dry_run: DryRun = False) -> Any:
    """Take sessions again, unless the process is about to end."""
    if not dry_run and here.plane.draining and not here.node.ending:
        await here.control.audit.record(by, "node.undrain", "node")
        here.node.undrain()
        here.events.add("node.ready", by.id)
    return State(state=_state(here))


@operations.post("/node/reload", Action.OPERATE, response_model=Reloaded)
async def reload_node(here: Here, by: By, dry_run: DryRun = False) -> Any:
    """Read settings and certificate again. A source that is wrong changes nothing (fault 97)."""
    change = here.settings.reread()
    if not dry_run:
        await here.control.audit.record(by, "node.reload", "node", details={"changed": list(change.changed)})
        here.settings.commit(change)
        here.node.apply_settings()
        here.node.reload_certificate()
        here.events.add("node.reloaded", by.id, changed=list(change.changed))
    return Reloaded(changed=list(change.changed), restart_needed=list(change.restart_needed))


@operations.post("/node/log-level", Action.OPERATE, problems=(409,), response_model=LevelView)
async def set_log_level(here: Here, by: By, body: Level, dry_run: DryRun = False) -> Any:
    """Set `log.level`; it stays over restarts, as any setting that is changed here."""
    change = flat_change(here, {"log.level": body.level})
    if not dry_run:
        await apply(here, by, change, "log level")
    return LevelView(level=change.config.log.level)
