"""The documents of a node → what its data plane goes by."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.documents.model import Document
from gateway.policy.governance import Governance
from gateway.policy.telemetry import TelemetryRules

#: Whoever keeps a governance subscribes to these.
KINDS = ("Access", "Service", "Telemetry")


def governance(documents: Iterable[Document]) -> Governance:
    """Documents of any kinds, in any order; equal ones make an equal governance. Of two `Telemetry` documents that say
    the same part the one whose name comes first holds; the validator takes no second one."""
    ordered = sorted(documents, key=lambda document: document.name)
    telemetry = [document.spec.rules for document in ordered if document.kind == "Telemetry"]
    return Governance(
        services=tuple(document.spec.rules for document in ordered if document.kind == "Service"),
        access=tuple(document.spec.rules for document in ordered if document.kind == "Access"),
        telemetry=TelemetryRules(
            tracing=next((each.tracing for each in telemetry if each.tracing is not None), None),
            flow_log=next((each.flow_log for each in telemetry if each.flow_log is not None), None),
        ),
    )
