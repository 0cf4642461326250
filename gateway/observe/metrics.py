"""What the node counts: plain integers that the data plane writes and a scrape reads.

Rules: one event loop writes, so there are no locks, and a scrape in the same loop never sees half an update. A label is
a word of this program or a service's name, never a device's id (``DEVICES``), and the number of services is bounded
(``OTHER``). Must not know: Prometheus, HTTP, any third-party package, who is connected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from gateway.observe.guards import GuardFigures
from gateway.observe.updates import UpdateCounters

MAX_SERVICES: Final = 512
"""Service names that get a label of their own; those that come later share ``OTHER``."""

MAX_PATHS: Final = 4096
"""Ways from a kind of caller to a service that are counted apart; those that come later only by service."""

MAX_REASONS: Final = 128
"""Words that one table of reasons or kinds holds; past it they are counted as ``OTHER``."""

DEVICES: Final = "(devices)"
OTHER: Final = "(other)"
UNNAMED: Final = "(unnamed)"

BUCKETS: Final = 64


def _count(table: dict[str, int], word: str, n: int = 1) -> None:
    if word not in table and len(table) >= MAX_REASONS:
        word = OTHER
    table[word] = table.get(word, 0) + n


class Counters:
    """The node's own counters. The data plane adds to the attributes directly; the methods are for rarer events.

    Everything but ``streams_open``, ``connections_open`` and ``sessions_parked`` only ever grows.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "closes",
        "configurations",
        "connections_open",
        "connections_opened",
        "fire_and_forget",
        "frames_in",
        "frames_out",
        "ignored_frames",
        "keepalives",
        "refusals",
        "request_channel",
        "request_response",
        "request_stream",
        "resumes_refused",
        "sessions_parked",
        "sessions_resumed",
        "spans",
        "streams_open",
        "tokens_refused",
    )

    def __init__(self) -> None:
        self.connections_opened: dict[str, int] = {}
        """By kind of connection: client, uplink, downlink, peer, internal."""
        self.connections_open: dict[str, int] = {}
        self.closes: dict[str, int] = {}
        """Ended connections by reason."""
        self.configurations: dict[str, int] = {}
        """Configurations of devices by what became of them: sent, applied, rejected."""
        self.request_response = 0
        """Streams that requesters opened, one attribute an interaction model."""
        self.fire_and_forget = 0
        self.request_stream = 0
        self.request_channel = 0
        self.streams_open = 0
        self.frames_in = 0
        """RSocket frames read from connections."""
        self.frames_out = 0
        self.bytes_in = 0
        """Bytes of those frames, in bytes, without the transport's framing."""
        self.bytes_out = 0
        self.keepalives = 0
        """KEEPALIVE frames received."""
        self.ignored_frames = 0
        """Frames that the specification says to ignore (P07, P21, P22, P23)."""
        self.refusals: dict[str, int] = {}
        """Requests and registrations that got a "no", by reason."""
        self.tokens_refused: dict[str, int] = {}
        """Credentials that got a "no", by reason."""
        self.sessions_parked = 0
        """Sessions that have lost their link and wait for another; their connections count as open."""
        self.sessions_resumed = 0
        self.spans: dict[str, int] = {}
        """Spans of traces by what became of them: delivered, failed (the collector did not take them), dropped."""
        self.resumes_refused: dict[str, int] = {}
        """RESUME frames that got a "no", by reason."""

    def connection_opened(self, kind: str) -> None:
        _count(self.connections_opened, kind)
        _count(self.connections_open, kind)

    def connection_turned(self, before: str, kind: str) -> None:
        """What was counted as opened turned out to be a link to a node."""
        _count(self.connections_opened, before, -1)
        _count(self.connections_open, before, -1)
        self.connection_opened(kind)

    def connection_closed(self, kind: str, reason: str) -> None:
        """Once for each ``connection_opened``, with the same kind."""
        _count(self.connections_open, kind, -1)
        _count(self.closes, reason)

    def close(self, reason: str) -> None:
        """Count a connection that ended before it was one (refused at its handshake or SETUP)."""
        _count(self.closes, reason)

    def configuration(self, event: str) -> None:
        _count(self.configurations, event)

    def refuse(self, reason: str) -> None:
        _count(self.refusals, reason)

    def refuse_token(self, reason: str) -> None:
        _count(self.tokens_refused, reason)

    def span(self, outcome: str, n: int = 1) -> None:
        _count(self.spans, outcome, n)

    def refuse_resume(self, reason: str) -> None:
        _count(self.resumes_refused, reason)


class Durations:
    """A histogram of durations whose bucket is the bit length of the microseconds: no search, no bounds check.

    ``buckets[i]`` counts durations of at least 2^(i-1) and less than 2^i microseconds; ``buckets[0]`` those below one.
    64 buckets hold whatever a clock can say, so the index needs no clamp.
    """

    __slots__ = ("buckets", "sum_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration, in seconds, ≥ 0."""
        # The bit length of the whole microseconds, without an integer object where this is compiled.
        micros = seconds * 1e6
        bucket = 0
        while micros >= 1.0:
            micros *= 0.5
            bucket += 1
        self.buckets[bucket] += 1
        self.sum_seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def add(self, other: Durations) -> None:
        """Count what the other one has counted, too."""
        self.sum_seconds += other.sum_seconds
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]


class ServiceStats(Durations):
    """One service's requests and how long they took.

    ``requests`` counts each request when it is addressed to the service; it ends as exactly one of ``ok``, ``failed``
    (an ERROR of the responder, or the responder gone), ``canceled`` (by the requester) or ``refused`` (by this node).
    """

    __slots__ = ("canceled", "failed", "ok", "refused", "requests")

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.ok = 0
        self.failed = 0
        self.canceled = 0
        self.refused = 0

    @property
    def open(self) -> int:
        """Requests that have not ended."""
        return self.requests - self.ok - self.failed - self.canceled - self.refused


class Path(NamedTuple):
    """From whom to where: `source` is a service's name, or a kind of caller with its first group; `service` a label of
    `Metrics.services`; `node` the neighbour that it goes to, "" for this one; `rule` and `subset` are what a `Service`
    document calls them, "" without one. None of it is a device's id."""

    source: str
    service: str
    node: str = ""
    rule: str = ""
    subset: str = ""


class Totals(Mapping[str, ServiceStats]):
    """The services by label, each with all of its paths together. Who asks for one may add to it only while it has one
    path; the sum of several is made anew each time."""

    __slots__ = ("_paths",)

    def __init__(self) -> None:
        self._paths: dict[str, list[ServiceStats]] = {}

    def __getitem__(self, label: str) -> ServiceStats:
        paths = self._paths[label]
        return paths[0] if len(paths) == 1 else total(paths)

    def __contains__(self, label: object) -> bool:
        # What a mapping does by itself is to sum up the paths first.
        return label in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def enter(self, label: str, stats: ServiceStats) -> None:
        self._paths.setdefault(label, []).append(stats)


def total(parts: list[ServiceStats]) -> ServiceStats:
    """All of these together."""
    whole = ServiceStats()
    for part in parts:
        whole.add(part)
        whole.requests += part.requests
        whole.ok += part.ok
        whole.failed += part.failed
        whole.canceled += part.canceled
        whole.refused += part.refused
    return whole


class Guards(Protocol):
    """Whoever guards services, by the labels under which their figures are."""

    @property
    def labels(self) -> set[str]: ...

    def measure(self) -> None: ...


class Metrics:
    """All that one node counts. The composition root makes one and hands it to whoever counts."""

    __slots__ = ("_guards", "counters", "guards", "lag", "lag_latest", "paths", "policies", "services", "updates")

    def __init__(self) -> None:
        self.counters = Counters()
        self.paths: dict[Path, ServiceStats] = {}
        """What the data plane counts requests by. It only grows: a service that comes back finds its counters."""
        self.services = Totals()
        self.policies: dict[tuple[str, str], int] = {}
        """What `Access` documents said, by their name and what became of it: denied, audited, dry_run."""
        self.lag = Durations()
        self.lag_latest = 0.0
        self.updates = UpdateCounters()
        self.guards: dict[str, GuardFigures] = {}
        """By service that a document protects, or by document where that speaks of any number of them."""
        self._guards: Guards | None = None

    def service_stats(
        self, name: str, by_device: bool, source: str = "", node: str = "", rule: str = "", subset: str = ""
    ) -> ServiceStats:
        """The counters of one path to a service; the caller keeps the object for as long as its route lives.

        ``by_device`` is true for a route that a device (or a person) registered: its name may be or hold that one's
        id, so all of those share the label ``(devices)``.
        """
        label = DEVICES if by_device else name or UNNAMED
        if label not in self.services and label != DEVICES and len(self.services) >= MAX_SERVICES:
            label = OTHER
        path = Path(source, label, node, rule, subset)
        if path not in self.paths and len(self.paths) >= MAX_PATHS:
            path = Path(OTHER, label)
        stats = self.paths.get(path)
        return self.enter(path) if stats is None else stats

    def enter(self, path: Path) -> ServiceStats:
        """Begin to count a path."""
        stats = self.paths[path] = ServiceStats()
        self.services.enter(path.service, stats)
        return stats

    def judged(self, policy: str, outcome: str) -> None:
        """An `Access` document has decided, or was told of, something. There are as many as a node has documents."""
        key = policy, outcome
        self.policies[key] = self.policies.get(key, 0) + 1

    def guarded(self, by: Guards | None) -> None:
        """Who guards services from now on; what was counted stays."""
        self._guards = by
        for label in self.guards.keys() - (by.labels if by is not None else set()):
            self.guards[label].forget()

    def measure(self) -> None:
        """Bring `guards` up to date, which hold figures of this moment, too."""
        if self._guards is not None:
            self._guards.measure()

    def guard_figures(self, label: str) -> GuardFigures:
        """What protects one service, as it is counted."""
        if label not in self.guards and len(self.guards) >= MAX_SERVICES:
            label = OTHER
        figures = self.guards.get(label)
        if figures is None:
            figures = self.guards[label] = GuardFigures()
        return figures

    def loop_lag(self, seconds: float) -> None:
        """How much later than it asked a timer of the event loop ran."""
        self.lag_latest = seconds
        self.lag.observe(seconds)
