"""`gateway.flows`, request/stream: what becomes of requests on this node, for administrators.

Ask with `{"filter", "fields", "last", "everything"}`, all of which may be left out; each item is a record as JSON. A
viewer that gives no credit costs nothing; what was overwritten meanwhile it gets as a `LOST` record.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import NotPermitted, RequestInvalid
from gateway.flows.log import FlowLog
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.observe.flow_fields import unknown
from gateway.observe.flow_filter import FilterError, FlowFilter
from gateway.policy.principal import Kind
from gateway.wire.frames import FrameType

MAX_FIELDS = 64
_KNOWN = frozenset({"filter", "fields", "last", "everything"})


class FlowService:
    """Offers it on one process."""

    def __init__(self, services: NodeServices, log: FlowLog) -> None:
        self._log = log
        services.offer("flows", FrameType.REQUEST_STREAM, self._follow)

    def _follow(self, exchange: Exchange) -> None:
        principal = exchange.caller.principal
        if principal.kind is not Kind.ADMIN:
            raise NotPermitted(f"gateway.flows is for administrators, and {principal.subject} is a {principal.kind}")
        asked = _asked(exchange.data)
        wanted, fields = asked_for(asked.get("filter", ""), asked.get("fields", ()))
        last = asked.get("last")
        if last is not None and (not isinstance(last, int) or isinstance(last, bool) or last < 0):
            raise RequestInvalid("last is the number of a record")
        everything = asked.get("everything", False)
        if not isinstance(everything, bool):
            raise RequestInvalid("everything is true or false")
        viewing = self._log.view(wanted, everything=everything, fields=fields, last=last)

        def pump() -> None:
            if not exchange.open or exchange.credit <= 0:
                return
            for record in viewing.take(exchange.credit):
                exchange.send(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"))
            if exchange.open and exchange.credit > 0:
                viewing.when_more(pump)

        exchange.on_credit = pump
        exchange.on_end = viewing.close
        pump()


def asked_for(text: object, fields: object) -> tuple[FlowFilter | None, tuple[str, ...]]:
    """What a viewer wants to see. Raises RequestInvalid."""
    if not isinstance(text, str):
        raise RequestInvalid("filter is a text")
    if not isinstance(fields, list | tuple) or not all(isinstance(each, str) for each in fields):
        raise RequestInvalid("fields is a list of names")
    if len(fields) > MAX_FIELDS or unknown(fields):
        raise RequestInvalid(f"no such field: {', '.join(unknown(fields))[:200]}")
    try:
        return FlowFilter.parse(text), tuple(fields)
    except FilterError as error:
        raise RequestInvalid(f"filter: {error}") from error


def _asked(data: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(data or b"{}")
    except ValueError as error:
        raise RequestInvalid("gateway.flows is asked with JSON") from error
    if not isinstance(asked, dict) or not asked.keys() <= _KNOWN:
        raise RequestInvalid(f"gateway.flows is asked with an object of {', '.join(sorted(_KNOWN))}")
    return asked
