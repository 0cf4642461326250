"""What is wrong with a `Telemetry` beyond what its own shape can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.telemetry import Telemetry


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Telemetry = document.spec
    for other in standing:
        if other.kind != document.kind or other.name == document.name:
            continue
        for part, here, there in (
            ("tracing", spec.tracing, other.spec.tracing),
            ("flowLog", spec.flow_log, other.spec.flow_log),
        ):
            if here is not None and there is not None:
                yield Finding("GW0181", f"{other.id} has {part}, too", f"/{part}", fix="one document of the two")
