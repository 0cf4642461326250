"""Tracing in one process of a node: what documents say of it, brought to the data plane and to whoever delivers spans.

Each process delivers its own. Where OpenTelemetry is not installed there is no tracing, and the log says so once.
"""

from __future__ import annotations

import asyncio
from random import Random

from gateway.forwarding.plane import Plane
from gateway.forwarding.tracing import Tracing
from gateway.observe.loggers import structlog
from gateway.observe.spans import SpanDelivery, missing
from gateway.policy import telemetry


class Spans:
    """`node`: how the process is called in what it delivers; `version` is that of the gateway."""

    def __init__(self, plane: Plane, node: str, version: str) -> None:
        self._plane = plane
        self._resource = {
            "service.name": "gateway",
            "service.instance.id": node,
            "service.version": version,
        }
        self._rules: telemetry.Tracing | None = None
        self._delivery: SpanDelivery | None = None
        self._log = structlog.get_logger("gateway.tracing")

    def take(self, rules: telemetry.Tracing | None) -> None:
        """Trace as these rules say from now on, or not at all. Decisions made before must be forgotten after this."""
        if rules == self._rules:
            return
        self._rules = rules
        if self._delivery is not None:
            self._delivery.end()
            self._delivery = None
        self._plane.tracing = None
        if rules is None:
            return
        what = missing()
        if what:
            self._log.warning("no tracing", why=what)
            return
        self._delivery = SpanDelivery(rules.endpoint, self._resource, dict(rules.tags), self._plane.counters)
        # Ids must differ between processes that began with one seed.
        self._plane.tracing = Tracing(rules, Random(), self._plane.monotonic, self._plane.wall, self._delivery.offer)
        self._log.info("tracing", endpoint=rules.endpoint, share=rules.sampling)

    def trace_of(self, reason: str) -> str:
        """The trace of the latest request that was refused for this reason and is part of one; each is told once."""
        tracing = self._plane.tracing
        return "" if tracing is None else tracing.refusals.pop(reason, "")

    async def close(self) -> None:
        """Deliver what waits, within bounds."""
        delivery, self._delivery = self._delivery, None
        self._plane.tracing = None
        if delivery is not None:
            await asyncio.to_thread(delivery.close)
