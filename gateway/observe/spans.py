"""Spans on their way to a collector: a bounded queue, and a thread that delivers what is in it (docs/adr/0024).

The loop appends plain tuples and goes on. The thread alone knows OpenTelemetry: it loads it, which takes a while, turns
the tuples into its spans and sends them, OTLP over HTTP, by its own exporter, which tries again for as long as
`TIMEOUT_S`. A collector that does not answer costs spans, which are counted, and nothing else. OpenTelemetry is an
optional part of the installation: the extras `otlp`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.observe.loggers import structlog
from gateway.observe.metrics import Counters

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

#: Spans that wait at most; those that come then are dropped.
CAPACITY: Final = 8192
#: Spans of one delivery at most.
BATCH: Final = 512
#: How long the first span of a batch waits for others.
DELAY_S: Final = 1.0
#: How long a delivery is tried.
TIMEOUT_S: Final = 5.0
#: How long the end of a node waits for what is in the queue.
FLUSH_S: Final = 3.0
_EXTRAS: Final = "pip install 'rsocket-edge-gateway[otlp]'"

Value = str | int | float | bool


class Span(NamedTuple):
    """One piece of a trace. Ids have 16 and 8 bytes; `parent_id` is empty for the first of a trace. Times are Unix
    seconds. `inner`: it is one attempt within the span of a request. `error`: why it failed, "" where it did not."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start: float
    end: float
    attributes: dict[str, Value]
    error: str = ""
    inner: bool = False


def missing() -> str:
    """What to install so that spans can be delivered; "" where it is there. Loads nothing."""
    try:
        found = all(map(find_spec, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")))
    except ImportError:
        found = False
    return "" if found else f"OpenTelemetry is not installed: {_EXTRAS}"


class SpanDelivery:
    """Delivers spans to `endpoint`. `resource`: what is said of this node with them. `tags` are put on each.

    `offer` and `close` are the loop's.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str], tags: Mapping[str, str], counters: Counters) -> None:
        self.endpoint = endpoint
        self._said = dict(resource)
        self._tags = dict(tags)
        self._counters = counters
        self._queue: deque[Span] = deque()
        self._some = threading.Event()
        self._many = threading.Event()
        self._closing = False
        self._failing = False
        self._exporter: OTLPSpanExporter | None = None
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def offer(self, span: Span) -> None:
        """Deliver it some time."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= CAPACITY:
            self._counters.span("dropped")
            return
        queue.append(span)
        if not self._some.is_set():
            self._some.set()
        if waiting == BATCH:
            self._many.set()

    def end(self) -> None:
        """Deliver what waits, and nothing more; nobody waits for it."""
        self._closing = True
        self._many.set()
        self._some.set()

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Deliver what waits, for so long at most. Blocks."""
        self.end()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._exporter is not None:
            # It waits to try again; this ends it.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            self._thread.join(timeout_s)
        while self._queue:
            self._queue.popleft()
            self._counters.span("dropped")

    def _run(self) -> None:
        while not self._closing or self._queue:
            self._some.wait()
            self._some.clear()
            if not self._closing:
                self._many.wait(DELAY_S)
                self._many.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._deliver(batch)
        if self._exporter is not None:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _deliver(self, batch: list[Span]) -> None:
        try:
            good = self._send(batch)
        except Exception as error:
            good = False
            self._say("spans cannot be delivered", why=repr(error))
        if good:
            self._failing = False
        else:
            self._say("the collector does not take spans", endpoint=self.endpoint)
        self._counters.span("delivered" if good else "failed", len(batch))

    def _say(self, text: str, **why: str) -> None:
        """Once until it is well again."""
        if not self._failing:
            self._failing = True
            structlog.get_logger("gateway.tracing").warning(text, **why)

    def _send(self, batch: list[Span]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            # It says at every try what is said here once.
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
            self._exporter = OTLPSpanExporter(endpoint=self.endpoint, timeout=TIMEOUT_S)
            self._resource = self._made()
        return self._exporter.export([self._written(span) for span in batch]) is SpanExportResult.SUCCESS

    def _made(self) -> Resource:
        from opentelemetry.sdk.resources import Resource

        return Resource.create(self._said)

    def _written(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        trace_id = int.from_bytes(span.trace_id, "big")
        sampled = TraceFlags(TraceFlags.SAMPLED)
        parent = None
        if span.parent_id:
            parent_id = int.from_bytes(span.parent_id, "big")
            parent = SpanContext(trace_id, parent_id, is_remote=not span.inner, trace_flags=sampled)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int.from_bytes(span.span_id, "big"), is_remote=False, trace_flags=sampled),
            parent=parent,
            resource=self._resource,
            attributes={**span.attributes, **self._tags},
            kind=SpanKind.CLIENT if span.inner else SpanKind.SERVER,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=round(span.start * 1e9),
            end_time=round(span.end * 1e9),
        )
