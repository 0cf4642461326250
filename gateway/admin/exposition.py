"""The metrics as Prometheus reads them: one declared table, read at scrape time only.

Rules: names start with ``gateway_`` (``process_`` for the conventional process metrics) and hold their unit; a label's
values are words of this program or labels of ``Metrics.service_stats``, never ids; ``docs/metrics.md`` holds
``reference()`` and a test compares them. Must not know: HTTP, and who increments what.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.observe.links import LinkFigures, TableFigures
from gateway.observe.metrics import Durations, Metrics
from gateway.observe.process import ProcessUsage, process_usage

if TYPE_CHECKING:
    from gateway.spool.spool import SpoolStatus

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# Powers of two of microseconds: 32 µs to 33.6 s. What lies outside is in the first bucket and in +Inf.
_FIRST_BOUND: Final = 5
_LAST_BOUND: Final = 25
_BOUNDS: Final = tuple(str(2**power / 1e6) for power in range(_FIRST_BOUND, _LAST_BOUND + 1))

# prometheus_client formats a sample in about 9 µs, so a node with hundreds of services takes 150 ms a scrape. The data
# plane shares the loop: it gets a turn after each slice.
_ROWS_AT_ONCE: Final = 4
_SLICE_SECONDS: Final = 0.001

Row: TypeAlias = tuple[tuple[str, ...], float | Durations]


class SpoolFigures(NamedTuple):
    """What waits by one document, for all services together. Times are seconds; `lost` and `refused` by reason."""

    document: str
    messages: int
    bytes: int
    oldest_age_s: float
    drain_eta_s: float | None
    appended: int
    delivered: int
    sent_again: int
    lost: dict[str, int]
    refused: dict[str, int]
    handed_over: int = 0
    came_again: int = 0

    @classmethod
    def of(cls, document: str, statuses: Sequence[SpoolStatus]) -> SpoolFigures:
        etas = [each.drain_eta_s for each in statuses]
        lost: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for each in statuses:
            lost.update(each.lost)
            refused.update(each.refused)
        return cls(
            document,
            sum(each.messages for each in statuses),
            sum(each.bytes for each in statuses),
            max(each.oldest_age_s or 0.0 for each in statuses),
            None if None in etas else max(eta or 0.0 for eta in etas),
            sum(each.appended for each in statuses),
            sum(each.delivered for each in statuses),
            sum(each.sent_again for each in statuses),
            dict(lost),
            dict(refused),
        )


class LinkSources(Protocol):
    def figures(self) -> Sequence[LinkFigures]: ...
    def table(self) -> TableFigures | None:
        """The table that central nodes share, where this node follows one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Figures that are asked for at scrape time instead of counted; each is called in the event loop."""

    outbox_bytes: Callable[[], int]
    """Bytes that wait in every connection's outbox."""
    routes: Callable[[], int]
    """Routes in the table."""
    spools: Callable[[], Sequence[SpoolFigures]] = tuple
    """What waits, by document."""
    links: LinkSources | None = None
    """The links to other nodes."""


class Reading(NamedTuple):
    """What one scrape reads from."""

    metrics: Metrics
    sources: Sources
    version: str
    process: ProcessUsage


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Reading], Iterable[Row]]
    labels: tuple[str, ...] = ()

    def metric(self, rows: Iterable[Row]) -> Metric:
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for labels, durations in rows:
                assert isinstance(durations, Durations)
                histogram.add_metric(labels, _cumulative(durations), durations.sum_seconds)
            return histogram
        plain = (CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily)(
            self.name, self.help, labels=self.labels
        )
        for labels, value in rows:
            assert not isinstance(value, Durations)
            plain.add_metric(labels, value)
        return plain


def _cumulative(durations: Durations) -> list[tuple[str, float]]:
    counts = list(accumulate(durations.buckets))
    return [*zip(_BOUNDS, counts[_FIRST_BOUND : _LAST_BOUND + 1], strict=True), ("+Inf", counts[-1])]


def _one(value: float | Durations | None) -> list[Row]:
    return [] if value is None else [((), value)]


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


def _in_and_out(received: int, sent: int) -> list[Row]:
    return [(("received",), received), (("sent",), sent)]


def _spool_families() -> list[Family]:
    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.document,), value) for each in r.sources.spools() if (value := getattr(each, name)) is not None
        ]

    def by_reason(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.document, reason), count)
            for each in r.sources.spools()
            for reason, count in getattr(each, name).items()
        ]

    spool = ("spool",)
    return [
        Family("gateway_spool_messages", "gauge", "Messages that wait, by document.", of("messages"), spool),
        Family("gateway_spool_bytes", "gauge", "Bytes of the messages that wait.", of("bytes"), spool),
        Family(
            "gateway_spool_oldest_age_seconds",
            "gauge",
            "Age of the message that has waited longest.",
            of("oldest_age_s"),
            spool,
        ),
        Family(
            "gateway_spool_drain_eta_seconds",
            "gauge",
            "When nothing will wait any more, as it goes now; absent while it does not get less.",
            of("drain_eta_s"),
            spool,
        ),
        Family("gateway_spool_appended_total", "counter", "Messages taken to wait.", of("appended"), spool),
        Family("gateway_spool_delivered_total", "counter", "Messages that arrived.", of("delivered"), spool),
        Family(
            "gateway_spool_handed_over_total",
            "counter",
            "Messages that another node has taken over a link, for a service that is there.",
            of("handed_over"),
            spool,
        ),
        Family(
            "gateway_spool_came_again_total",
            "counter",
            "Messages that another node handed over once more, and that were dropped.",
            of("came_again"),
            spool,
        ),
        Family(
            "gateway_spool_sent_again_total",
            "counter",
            "Messages that were sent and had to be sent again.",
            of("sent_again"),
            spool,
        ),
        Family(
            "gateway_spool_lost_total",
            "counter",
            "Messages that left other than by delivery, since the file was made.",
            by_reason("lost"),
            ("spool", "reason"),
        ),
        Family(
            "gateway_spool_refused_total",
            "counter",
            "Messages that were not taken to wait.",
            by_reason("refused"),
            ("spool", "reason"),
        ),
    ]


def _link_families() -> list[Family]:
    def all(reading: Reading) -> Sequence[LinkFigures]:
        return () if reading.sources.links is None else reading.sources.links.figures()

    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [((each.kind, each.node), getattr(each, name)) for each in all(r)]

    def both(name: str) -> Callable[[Reading], Iterable[Row]]:
        return lambda r: [
            ((each.kind, each.node, direction), getattr(each, f"{name}_{suffix}"))
            for each in all(r)
            for direction, suffix in (("received", "in"), ("sent", "out"))
        ]

    link = ("kind", "node")
    directed = (*link, "direction")
    return [
        Family("gateway_link_up", "gauge", "Links that are up; 0 of a node whose links have gone.", of("up"), link),
        Family("gateway_link_active", "gauge", "Links over which requests go; others are warm.", of("active"), link),
        Family("gateway_link_rtt_seconds", "gauge", "How long an answer takes that costs nothing.", of("rtt_s"), link),
        Family("gateway_link_routes", "gauge", "Routes that were told over links.", both("routes"), directed),
        Family("gateway_link_lag_routes", "gauge", "Changes of routes that are yet to be told.", of("lag"), link),
        Family("gateway_link_lag_seconds", "gauge", "For how long the oldest of them waits.", of("lag_s"), link),
        Family("gateway_link_restarts_total", "counter", "Streams of routes that began again.", of("restarts"), link),
        Family(
            "gateway_link_digest_mismatches_total",
            "counter",
            "Those that did because two nodes did not have the same.",
            of("mismatches"),
            link,
        ),
        Family("gateway_link_bytes_total", "counter", "Bytes of frames over links.", both("bytes"), directed),
    ]


def _table_families() -> list[Family]:
    def of(name: str) -> Callable[[Reading], Iterable[Row]]:
        def read(reading: Reading) -> Iterable[Row]:
            links = reading.sources.links
            table = None if links is None else links.table()
            return _one(None if table is None else float(getattr(table, name)))

        return read

    return [
        Family("gateway_table_fresh", "gauge", "1 while the engine of the shared table is followed.", of("fresh")),
        Family("gateway_table_devices", "gauge", "Devices in the shared table.", of("devices")),
        Family("gateway_table_edges", "gauge", "Edges in the shared table.", of("edges")),
        Family("gateway_table_nodes", "gauge", "Central nodes that live by the shared table.", of("nodes")),
        Family(
            "gateway_table_dirty_keys", "gauge", "Keys of the shared table that are yet to be written.", of("dirty")
        ),
        Family("gateway_table_invalid_total", "counter", "Values of it that could not be read.", of("invalid")),
    ]


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
        lambda r: _one(r.metrics.counters.streams_open),
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
        lambda r: _one(r.metrics.counters.keepalives),
    ),
    Family(
        "gateway_ignored_frames_total",
        "counter",
        "Frames that RSocket says to ignore: unknown streams, unknown extensions, a second SETUP.",
        lambda r: _one(r.metrics.counters.ignored_frames),
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
        "gateway_refusals_total",
        "counter",
        "Requests and registrations that this node refused.",
        lambda r: _table(r.metrics.counters.refusals),
        ("reason",),
    ),
    Family(
        "gateway_tokens_refused_total",
        "counter",
        "Credentials that this node refused.",
        lambda r: _table(r.metrics.counters.tokens_refused),
        ("reason",),
    ),
    Family(
        "gateway_sessions_parked",
        "gauge",
        "Sessions without a link that can be resumed; their connections count as open.",
        lambda r: _one(r.metrics.counters.sessions_parked),
    ),
    Family(
        "gateway_sessions_resumed_total",
        "counter",
        "Sessions that went on over another link.",
        lambda r: _one(r.metrics.counters.sessions_resumed),
    ),
    Family(
        "gateway_resumes_refused_total",
        "counter",
        "RESUME frames that this node refused.",
        lambda r: _table(r.metrics.counters.resumes_refused),
        ("reason",),
    ),
    Family(
        "gateway_outbox_bytes",
        "gauge",
        "Bytes that wait to leave on all connections.",
        lambda r: _one(r.sources.outbox_bytes()),
    ),
    Family("gateway_routes", "gauge", "Routes in the routing table.", lambda r: _one(r.sources.routes())),
    *_spool_families(),
    *_link_families(),
    *_table_families(),
    Family(
        "gateway_loop_lag_seconds",
        "histogram",
        "How late a timer of the event loop ran; asked every half second.",
        lambda r: _one(r.metrics.lag),
    ),
    Family(
        "gateway_loop_lag_latest_seconds",
        "gauge",
        "The newest of those measurements.",
        lambda r: _one(r.metrics.lag_latest),
    ),
    Family(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time of the process.",
        lambda r: _one(r.process.cpu_seconds),
    ),
    Family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of the process.",
        lambda r: _one(r.process.resident_bytes),
    ),
    Family("process_open_fds", "gauge", "Open file descriptors.", lambda r: _one(r.process.open_fds)),
    Family("process_max_fds", "gauge", "Limit of open file descriptors.", lambda r: _one(r.process.max_fds)),
    Family(
        "process_start_time_seconds",
        "gauge",
        "Start of the process, in seconds since the Unix epoch.",
        lambda r: _one(r.process.start_time_seconds),
    ),
)


class _Single(Collector):
    """prometheus_client renders registries; this is one that holds one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def render(metrics: Metrics, sources: Sources, version: str) -> bytes:
    """The exposition text of ``CONTENT_TYPE``. It gives the loop away after each millisecond of work."""
    reading = Reading(metrics, sources, version, process_usage())
    parts: list[bytes] = []
    since = time.perf_counter()
    for family in FAMILIES:
        rows = iter(family.read(reading))
        chunk = list(islice(rows, _ROWS_AT_ONCE))
        parts.append(generate_latest(_Single(family.metric(chunk))))
        while chunk := list(islice(rows, _ROWS_AT_ONCE)):
            if time.perf_counter() - since > _SLICE_SECONDS:
                await asyncio.sleep(0)
                since = time.perf_counter()
            _help, _type, samples = generate_latest(_Single(family.metric(chunk))).split(b"\n", 2)
            parts.append(samples)
    return b"".join(parts)


def reference() -> str:
    """The table of ``docs/metrics.md``: every metric with its labels and its help."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"
