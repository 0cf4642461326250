"""Which kinds of document there are."""

from __future__ import annotations

from types import MappingProxyType

from gateway.documents import (
    access,
    access_checks,
    bridge,
    bridge_checks,
    service,
    service_checks,
    spool,
    telemetry,
    telemetry_checks,
)
from gateway.documents.model import Kind

KINDS = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("Access", access.Access, access_checks.check),
            Kind("Bridge", bridge.Bridge, bridge_checks.check, frozenset({"Spool"})),
            Kind("Service", service.Service, service_checks.check),
            Kind("Spool", spool.Spool, spool.check),
            Kind("Telemetry", telemetry.Telemetry, telemetry_checks.check),
        )
    }
)
