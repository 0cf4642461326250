"""Opening a stream that is recorded as a part of a trace: as any other that is watched, and its refusal is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import RequestError
from gateway.forwarding.ending import FAILED
from gateway.forwarding.tracing import caller_of
from gateway.forwarding.watched import open_watched

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.tracing import Trace


def open_traced(
    connection: Endpoint,
    decision: Decision,
    kind: int,
    head: int,
    stream_id: int,
    n: int,
    metadata: bytes,
    varying: bool,
    deadline_at: int,
    data: bytes,
    at: int,
    end: int,
    trace: Trace,
) -> None:
    """As `open_watched`. Raises RequestError."""
    governed = decision.governed
    policy = "" if governed is None else f"Service/{governed.state.rules.name}"
    trace.asked(str(decision.address), kind, caller_of(connection, decision.identity), policy)
    try:
        open_watched(
            connection, decision, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, trace
        )
    except RequestError as error:
        trace.attributes["gateway.reason"] = error.reason
        trace.ended(FAILED, error.code, str(error))
        error.trace_id = trace.trace_id
        raise
