"""Which kinds of document there are."""

from __future__ import annotations

from types import MappingProxyType

from gateway.documents import bridge, bridge_checks, spool
from gateway.documents.model import Kind

KINDS = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("Bridge", bridge.Bridge, bridge_checks.check, frozenset({"Spool"})),
            Kind("Spool", spool.Spool, spool.check),
        )
    }
)
