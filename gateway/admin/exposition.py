"""The metrics as Prometheus reads them: one declared table, read at scrape time only.

Rules: names start with ``gateway_`` (``process_`` for the conventional process metrics) and hold their unit; a label's
values are words of this program or labels of ``Metrics.service_stats``, never ids; ``docs/metrics.md`` holds
``reference()`` and a test compares them. Must not know: HTTP, and who increments what.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.family import Family, Reading, Row, Sources, SpoolFigures, one
from gateway.admin.part_families import (
    bridge_families,
    guard_families,
    link_families,
    spool_families,
    table_families,
    update_families,
)
from gateway.admin.upkeep import upkeep_families
from gateway.observe.metrics import Metrics, ServiceStats, total
from gateway.observe.process import process_usage

__all__ = ["CONTENT_TYPE", "FAMILIES", "Sources", "SpoolFigures", "reference", "render"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# prometheus_client formats a sample in about 9 µs, so a node with hundreds of services takes 150 ms a scrape. The data
# plane shares the loop: it gets a turn after each slice.
_ROWS_AT_ONCE: Final = 4
_SLICE_SECONDS: Final = 0.001


def _table(table: dict[str, int]) -> list[Row]:
    return [((word,), count) for word, count in table.items()]


def _interactions(reading: Reading) -> list[Row]:
    counters = reading.metrics.counters
    return [
        (("request_response",), counters.request_response),
        (("fire_and_forget",), counters.fire_and_forget),
        (("request_stream",), counters.request_stream),
        (("request_channel",), counters.request_channel),
    ]


def _outcomes(reading: Reading) -> list[Row]:
    return [
        row
        for service, stats in reading.metrics.services.items()
        for row in (
            ((service, "ok"), stats.ok),
            ((service, "failed"), stats.failed),
            ((service, "canceled"), stats.canceled),
            ((service, "refused"), stats.refused),
        )
    ]


def _by_rule(reading: Reading) -> dict[tuple[str, str, str], ServiceStats]:
    """What goes by a rule of a document, or to a subset of one."""
    found: dict[tuple[str, str, str], list[ServiceStats]] = {}
    for path, stats in reading.metrics.paths.items():
        if path.rule or path.subset:
            found.setdefault((path.service, path.rule, path.subset), []).append(stats)
    return {labels: parts[0] if len(parts) == 1 else total(parts) for labels, parts in found.items()}


def _outcomes_by_rule(reading: Reading) -> list[Row]:
    return [
        ((*labels, outcome), getattr(stats, outcome))
        for labels, stats in _by_rule(reading).items()
        for outcome in ("ok", "failed", "canceled", "refused")
    ]


def _in_and_out(received: int, sent: int) -> list[Row]:
    return [(("received",), received), (("sent",), sent)]


FAMILIES: Final[tuple[Family, ...]] = (
    Family("gateway_info", "gauge", "Always 1; the label says what runs.", lambda r: [((r.version,), 1)], ("version",)),
    Family(
        "gateway_connections",
        "gauge",
        "Open RSocket connections by kind: client, uplink, downlink, peer, internal.",
        lambda r: _table(r.metrics.counters.connections_open),
        ("kind",),
    ),
    Family(
        "gateway_connections_opened_total",
        "counter",
        "RSocket connections whose SETUP was accepted.",
        lambda r: _table(r.metrics.counters.connections_opened),
        ("kind",),
    ),
    Family(
        "gateway_connections_closed_total",
        "counter",
        "Connections that ended, those refused at SETUP or before it included, by reason.",
        lambda r: _table(r.metrics.counters.closes),
        ("reason",),
    ),
    Family(
        "gateway_streams_open",
        "gauge",
        "Streams that cross the node now.",
        lambda r: one(r.metrics.counters.streams_open),
    ),
    Family("gateway_streams_total", "counter", "Streams opened by requesters.", _interactions, ("interaction",)),
    Family(
        "gateway_frames_total",
        "counter",
        "RSocket frames received from and sent to connections.",
        lambda r: _in_and_out(r.metrics.counters.frames_in, r.metrics.counters.frames_out),
        ("direction",),
    ),
    Family(
        "gateway_bytes_total",
        "counter",
        "Bytes of those frames, without WebSocket or TCP framing.",
        lambda r: _in_and_out(r.metrics.counters.bytes_in, r.metrics.counters.bytes_out),
        ("direction",),
    ),
    Family(
        "gateway_keepalives_total",
        "counter",
        "KEEPALIVE frames received.",
        lambda r: one(r.metrics.counters.keepalives),
    ),
    Family(
        "gateway_ignored_frames_total",
        "counter",
        "Frames that RSocket says to ignore: unknown streams, unknown extensions, a second SETUP.",
        lambda r: one(r.metrics.counters.ignored_frames),
    ),
    Family(
        "gateway_requests_total",
        "counter",
        "Requests that ended: ok, failed (by the responder), canceled (by the requester), refused (by this node).",
        _outcomes,
        ("service", "outcome"),
    ),
    Family(
        "gateway_requests_open",
        "gauge",
        "Requests that have not ended.",
        lambda r: [((service,), stats.open) for service, stats in r.metrics.services.items()],
        ("service",),
    ),
    Family(
        "gateway_request_duration_seconds",
        "histogram",
        "From a request's first frame to the frame that ends it, as this node saw them.",
        lambda r: [((service,), stats) for service, stats in r.metrics.services.items()],
        ("service",),
    ),
    Family(
        "gateway_route_requests_total",
        "counter",
        "Requests that ended, by the route rule of the Service document that they went by, and the subset.",
        _outcomes_by_rule,
        ("service", "route", "subset", "outcome"),
    ),
    Family(
        "gateway_route_request_duration_seconds",
        "histogram",
        "How long those took, as gateway_request_duration_seconds.",
        lambda r: list(_by_rule(r).items()),
        ("service", "route", "subset"),
    ),
    Family(
        "gateway_refusals_total",
        "counter",
        "Requests and registrations that this node refused.",
        lambda r: _table(r.metrics.counters.refusals),
        ("reason",),
    ),
    Family(
        "gateway_access_total",
        "counter",
        "What Access documents refused (denied), were told of (audited), would have refused (dry_run).",
        lambda r: [(key, count) for key, count in sorted(r.metrics.policies.items())],
        ("policy", "outcome"),
    ),
    Family(
        "gateway_tokens_refused_total",
        "counter",
        "Credentials that this node refused.",
        lambda r: _table(r.metrics.counters.tokens_refused),
        ("reason",),
    ),
    Family(
        "gateway_device_configs_total",
        "counter",
        "Configurations that were sent to devices, and what devices said of them: sent, applied, rejected.",
        lambda r: _table(r.metrics.counters.configurations),
        ("event",),
    ),
    Family(
        "gateway_sessions_parked",
        "gauge",
        "Sessions without a link that can be resumed; their connections count as open.",
        lambda r: one(r.metrics.counters.sessions_parked),
    ),
    Family(
        "gateway_sessions_resumed_total",
        "counter",
        "Sessions that went on over another link.",
        lambda r: one(r.metrics.counters.sessions_resumed),
    ),
    Family(
        "gateway_resumes_refused_total",
        "counter",
        "RESUME frames that this node refused.",
        lambda r: _table(r.metrics.counters.resumes_refused),
        ("reason",),
    ),
    Family(
        "gateway_spans_total",
        "counter",
        "Spans of traces by what became of them: delivered, failed (the collector did not take them), dropped (the "
        "queue was full).",
        lambda r: _table(r.metrics.counters.spans),
        ("outcome",),
    ),
    Family(
        "gateway_outbox_bytes",
        "gauge",
        "Bytes that wait to leave on all connections.",
        lambda r: one(r.sources.outbox_bytes()),
    ),
    Family("gateway_routes", "gauge", "Routes in the routing table.", lambda r: one(r.sources.routes())),
    *spool_families(),
    *link_families(),
    *table_families(),
    *bridge_families(),
    *update_families(),
    *guard_families(),
    *upkeep_families(),
    Family(
        "gateway_loop_lag_seconds",
        "histogram",
        "How late a timer of the event loop ran; asked every half second.",
        lambda r: one(r.metrics.lag),
    ),
    Family(
        "gateway_loop_lag_latest_seconds",
        "gauge",
        "The newest of those measurements.",
        lambda r: one(r.metrics.lag_latest),
    ),
    Family(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time of the process.",
        lambda r: one(r.process.cpu_seconds),
    ),
    Family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of the process.",
        lambda r: one(r.process.resident_bytes),
    ),
    Family("process_open_fds", "gauge", "Open file descriptors.", lambda r: one(r.process.open_fds)),
    Family("process_max_fds", "gauge", "Limit of open file descriptors.", lambda r: one(r.process.max_fds)),
    Family(
        "process_start_time_seconds",
        "gauge",
        "Start of the process, in seconds since the Unix epoch.",
        lambda r: one(r.process.start_time_seconds),
    ),
)


class _Single(Collector):
    """prometheus_client renders registries; this is one that holds one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def render(
    metrics: Metrics, sources: Sources, version: str, workers: Sequence[tuple[str, Reading]] | None = None
) -> bytes:
    """The exposition text of ``CONTENT_TYPE``. It gives the loop away after each millisecond of work. Where the node
    has `workers`, each sample is labelled with the process that it is of; 0 is this one."""
    upkeep = None if sources.upkeep is None else await sources.upkeep()
    own = Reading(metrics, sources, version, process_usage(), upkeep)
    parts: list[bytes] = []
    since = time.perf_counter()
    for family in FAMILIES:
        if workers is None:
            rows = iter(family.read(own))
        else:
            family = replace(family, labels=(*family.labels, "worker"))
            rows = _labelled(family, [("0", own), *workers])
        chunk = list(islice(rows, _ROWS_AT_ONCE))
        parts.append(generate_latest(_Single(family.metric(chunk))))
        while chunk := list(islice(rows, _ROWS_AT_ONCE)):
            if time.perf_counter() - since > _SLICE_SECONDS:
                await asyncio.sleep(0)
                since = time.perf_counter()
            _help, _type, samples = generate_latest(_Single(family.metric(chunk))).split(b"\n", 2)
            parts.append(samples)
    return b"".join(parts)


def _labelled(family: Family, readings: Sequence[tuple[str, Reading]]) -> Iterator[Row]:
    for process, reading in readings:
        for labels, value in family.read(reading):
            yield (*labels, process), value


def reference() -> str:
    """The table of ``docs/metrics.md``: every metric with its labels and its help."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"
