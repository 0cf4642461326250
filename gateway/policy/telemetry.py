"""What is to be seen of requests, as `Telemetry` documents say: compiled, frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracing:
    """`sampling`: share of the traces that begin here, 0 to 1. `tags`: put on every span. `endpoint`: where spans go,
    OTLP over HTTP."""

    endpoint: str
    sampling: float = 0.01
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FlowFile:
    """Flows on disk: `keep` files of `max_bytes`; `fields`: those that are written, empty: all."""

    max_bytes: int = 8 * 1024 * 1024
    keep: int = 2
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowLog:
    """`capacity`: records in memory. `filter`: which ones are kept, as `observe.flow_filter` reads it; "" all.
    `redact`: fields that are left empty."""

    capacity: int = 4096
    filter: str = ""
    redact: tuple[str, ...] = ()
    file: FlowFile | None = None


@dataclass(frozen=True, slots=True)
class TelemetryRules:
    """Of all `Telemetry` documents of a node together: each part is said by one of them. None: it is off."""

    tracing: Tracing | None = None
    flow_log: FlowLog | None = None
