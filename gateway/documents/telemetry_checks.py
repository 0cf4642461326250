"""What is wrong with a `Telemetry` beyond what its own shape can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from gateway.documents.covering import pattern_covers
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.telemetry import FlowLog, Telemetry
from gateway.observe.flow_fields import FIELDS, unknown
from gateway.observe.flow_filter import FilterError, FlowFilter
from gateway.observe.spans import missing


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
    if spec.tracing is not None and site is not None and (what := missing()):
        yield Finding("GW0182", what, "/tracing", fix="install it beside the node", warning=True)
    if spec.tracing is not None:
        names = [each.service for each in spec.tracing.services]
        for at, name in enumerate(names):
            if any(pattern_covers(earlier, name) for earlier in names[:at]):
                text = "one before it takes all of its services"
                yield Finding("GW0185", text, f"/tracing/services/{at}", fix="put it first, or leave it out")
    if spec.flow_log is not None:
        yield from _check_flow_log(spec.flow_log)


def _check_flow_log(log: FlowLog) -> Iterator[Finding]:
    if log.filter:
        try:
            FlowFilter.parse(log.filter)
        except FilterError as error:
            fix = 'such as verdict != "FORWARDED" || latency_ms > 500'
            yield Finding("GW0183", str(error), "/flowLog/filter", fix=fix)
    fields = () if log.file is None else log.file.fields
    for pointer, wrong in (
        ("/flowLog/redact", unknown(log.redact, redacting=True)),
        ("/flowLog/file/fields", unknown(fields)),
    ):
        if wrong:
            near = get_close_matches(wrong[0], FIELDS, n=1)
            fix = near[0] if near else f"one of {', '.join(FIELDS)}"
            yield Finding("GW0184", f"{wrong[0]} is no field that could be there", pointer, fix=fix)
