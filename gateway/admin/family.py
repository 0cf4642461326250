"""One metric of the exposition: its name, what it means, and how it is read. `exposition` has the table of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.observe.bridges import BridgeStatus
from gateway.observe.links import LinkFigures, TableFigures
from gateway.observe.metrics import Durations, Metrics
from gateway.observe.process import ProcessUsage

if TYPE_CHECKING:
    from gateway.admin.upkeep import UpkeepFigures
    from gateway.spool.spool import SpoolStatus

# Powers of two of microseconds: 32 µs to 33.6 s. What lies outside is in the first bucket and in +Inf.
_FIRST_BOUND: Final = 5
_LAST_BOUND: Final = 25
_BOUNDS: Final = tuple(str(2**power / 1e6) for power in range(_FIRST_BOUND, _LAST_BOUND + 1))

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


class BridgeSources(Protocol):
    def statuses(self) -> Sequence[BridgeStatus]: ...


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
    bridges: BridgeSources | None = None
    """The bridges to MQTT brokers."""
    upkeep: Callable[[], Awaitable[UpkeepFigures]] | None = None
    """What somebody has to look after; the node's first process has it."""


class Reading(NamedTuple):
    """What one scrape reads from."""

    metrics: Metrics
    sources: Sources
    version: str
    process: ProcessUsage
    upkeep: UpkeepFigures | None = None


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


def one(value: float | Durations | None) -> list[Row]:
    return [] if value is None else [((), value)]
