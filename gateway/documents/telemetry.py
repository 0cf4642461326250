"""`kind: Telemetry`: what is to be seen of requests. What `.rules` makes of it is `policy.telemetry`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from gateway.documents.model import Body, Part
from gateway.documents.units import Size
from gateway.documents.words import Names, Percent, Value, shares, told
from gateway.policy import telemetry

#: Where a collector takes spans (OTLP over HTTP).
TRACES_PATH = "/v1/traces"
Named = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$")]


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or not text.isprintable() or " " in text:
        raise ValueError("is no http or https address, as http://collector:4318")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials are no part of an address")
    return text


class ServiceTracing(Part):
    service: Names = told("A service, or several by `*`.")
    random_sampling_percentage: Percent = told("Of the traces that begin with a request to it.")


class Tracing(Part):
    endpoint: Annotated[str, Field(max_length=1024), AfterValidator(_url)] = told(
        "Where spans go, OTLP over HTTP, as http://collector:4318. Without a path: /v1/traces."
    )
    random_sampling_percentage: Percent = told("Of the traces that begin here.", 1.0)
    respect_caller: bool = told(
        "Whether a trace that a client brings along goes by what the client has decided on it.", True, strict=True
    )
    services: tuple[ServiceTracing, ...] = told("Other shares; the first that fits holds.", (), max_length=256)
    custom_tags: Annotated[dict[Named, Value], Field(max_length=32)] = told("Put on every span.", default_factory=dict)

    @property
    def rules(self) -> telemetry.Tracing:
        parts = urlsplit(self.endpoint)
        endpoint = self.endpoint if parts.path.strip("/") else urlunsplit(parts._replace(path=TRACES_PATH))
        others = tuple(
            telemetry.ServiceSampling(other.service, shares(other.random_sampling_percentage))
            for other in self.services
        )
        tags = tuple(sorted(self.custom_tags.items()))
        return telemetry.Tracing(endpoint, shares(self.random_sampling_percentage), tags, others, self.respect_caller)


class FlowFile(Part):
    """Flows in files of the node's data directory, the oldest of which goes when a new one begins."""

    max_bytes: Size = told("Of one file.", 8 * 1024 * 1024)
    keep: Annotated[int, Field(ge=1, le=100, strict=True)] = told("How many.", 2)
    fields: tuple[Named, ...] = told("Fields that are written; not said: all.", (), max_length=64)

    @property
    def rules(self) -> telemetry.FlowFile:
        return telemetry.FlowFile(self.max_bytes, self.keep, self.fields)


class FlowLog(Part):
    capacity: Annotated[int, Field(ge=16, le=1_048_576, strict=True)] = told("Records in memory, of each worker.", 4096)
    filter: Annotated[str, Field(max_length=1024)] = told("Which are kept, as `flow list --filter` takes it.", "")
    redact: tuple[Named, ...] = told("Fields that are left empty.", (), max_length=64)
    file: FlowFile | None = told("Keep them on disk, too.", None)

    @property
    def rules(self) -> telemetry.FlowLog:
        file = None if self.file is None else self.file.rules
        return telemetry.FlowLog(self.capacity, self.filter, self.redact, file)


class Telemetry(Body):
    """What is to be seen of requests. Each part is said by one document of a node."""

    kind: Literal["Telemetry"]
    tracing: Tracing | None = told("Spans for OpenTelemetry.", None)
    flow_log: FlowLog | None = told("A record of each request.", None)

    @cached_property
    def rules(self) -> telemetry.TelemetryRules:
        return telemetry.TelemetryRules(
            None if self.tracing is None else self.tracing.rules,
            None if self.flow_log is None else self.flow_log.rules,
        )
