"""What is open and would not be opened any more, as documents are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.forwarding.ending import forbid
from gateway.forwarding.judging import ACTS, DENIED, caller_of
from gateway.policy.asking import Ask

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision


def judge_streams(connection: Connection) -> None:
    """End those of its streams that would not be opened now."""
    judgement = connection.plane.judgement
    if not judgement:
        return
    for stream in list(connection.requesting.values()):
        decision: Decision | None = stream.decision
        if decision is None:
            continue
        caller = caller_of(connection, decision.identity)
        for name in decision.names(stream.responder):
            ask = Ask(ACTS[stream.interaction], name, decision.address.route, decision.tags)
            verdict = judgement.judge(caller, ask)
            if not verdict.allowed:
                connection.plane.metrics.judged(verdict.policy, DENIED)
                forbid(stream)
                break
