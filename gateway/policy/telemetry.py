"""What is to be seen of requests, as `Telemetry` documents say: compiled, frozen."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.policy.access import Pattern


@dataclass(frozen=True, slots=True)
class ServiceSampling:
    """Another share for the services whose name fits `pattern`, in which `*` stands for anything."""

    pattern: str
    sampling: float


@dataclass(frozen=True, slots=True)
class Tracing:
    """`sampling`: share of the traces that begin here, 0 to 1; `services`: other shares, the first that fits holds.
    `parent_based`: what a caller has decided for its trace holds. `tags`: put on every span. `endpoint`: where spans
    go, OTLP over HTTP."""

    endpoint: str
    sampling: float = 0.01
    tags: tuple[tuple[str, str], ...] = ()
    services: tuple[ServiceSampling, ...] = ()
    parent_based: bool = True

    def share(self, service: str) -> float:
        """Of the traces that begin here with a request to this service."""
        for other in self.services:
            if Pattern(other.pattern, "").matches(service):
                return other.sampling
        return self.sampling


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
