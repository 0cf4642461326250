"""`Access` documents on the data plane: who asks, what for, and what is done about those who may not any more.

Asked where a decision is made, never once a request; where a document only wants to be told, each request is decided
anew, so that it is told of each.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from gateway.errors import NotPermitted
from gateway.forwarding.links import LOCAL
from gateway.policy.asking import Ask, Caller
from gateway.policy.authorization import Act
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.lifecycle import Lifecycle
    from gateway.forwarding.plane import Plane
    from gateway.policy.judgement import Verdict
    from gateway.routing.route import Route

#: By request frame type; 0: where it makes no difference.
ACTS: Final = {
    0: Act.REQUEST_RESPONSE,
    int(FrameType.REQUEST_RESPONSE): Act.REQUEST_RESPONSE,
    int(FrameType.REQUEST_FNF): Act.FIRE_AND_FORGET,
    int(FrameType.REQUEST_STREAM): Act.REQUEST_STREAM,
    int(FrameType.REQUEST_CHANNEL): Act.REQUEST_CHANNEL,
}
DENIED, AUDITED, DRY_RUN = "denied", "audited", "dry_run"


def caller_of(requester: Endpoint, identity: bytes | None) -> Caller:
    """Who asks. `identity`: the content of the principal entry of what came over a link. Raises NotPermitted."""
    connection = cast("Connection", requester)
    if identity is None or requester.side == LOCAL:
        return connection.caller
    return vouched(connection.plane, identity)


def vouched(plane: Plane, identity: bytes) -> Caller:
    """Who a principal entry names, which a node has put there. Raises NotPermitted."""
    caller = _said(identity)
    record = plane.snapshot.access.devices.get(caller.subject)
    if record is None:
        return caller
    # What is known of it here counts, not what the other node says of it.
    return Caller(caller.subject, caller.kind, record.groups, record.labels, caller.node)


@lru_cache(4096)
def _said(identity: bytes) -> Caller:
    try:
        said = json.loads(identity)
        groups = tuple(map(str, said.get("groups", ())))
        labels = tuple((str(key), str(value)) for key, value in said.get("labels", {}).items())
        return Caller(str(said["subject"]), str(said["kind"]), groups, labels, str(said["node"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = "the principal of this request cannot be read"
        raise NotPermitted(text, reason="principal_malformed") from error


def judge(plane: Plane, caller: Caller, decision: Decision, name: str) -> Verdict:
    """Whether the requests of a decision may go to who serves `name`."""
    ask = Ask(ACTS[decision.interaction], name, decision.address.route, decision.tags)
    return plane.judgement.judge(caller, ask)


def note(plane: Plane, verdict: Verdict) -> bool:
    """Count what documents want to be told of; whether there is anything."""
    for policy in verdict.audits:
        plane.metrics.judged(policy, AUDITED)
    if verdict.dry_run_denied:
        plane.metrics.judged(verdict.dry_run_denied, DRY_RUN)
    return bool(verdict.audits or verdict.dry_run_denied)


def tell(requester: Endpoint, decision: Decision, candidate: Route, verdict: Verdict) -> None:
    """Put what documents want to be told of into the flow log."""
    # What fills the log needs decisions, and those need this.
    from gateway.forwarding import flow_log

    kind, address, identity = decision.interaction, decision.address, decision.identity
    for policy in verdict.audits:
        flow_log.audited(requester, kind, address, candidate, f"Access/{policy}", identity=identity)
    if verdict.dry_run_denied:
        named = f"Access/{verdict.dry_run_denied}"
        flow_log.audited(requester, kind, address, candidate, named, "dry_run", identity)


def refusal(plane: Plane, caller: Caller, what: str, verdict: Verdict) -> NotPermitted:
    """The error for what a document refuses, counted."""
    plane.metrics.judged(verdict.policy, DENIED)
    note(plane, verdict)
    error = NotPermitted(f"Access/{verdict.policy}: {caller.subject} may not {what}", reason="access_denied")
    error.policy = f"Access/{verdict.policy}"
    return error


def check(plane: Plane, caller: Caller, ask: Ask, what: str) -> None:
    """Raises NotPermitted where documents do not allow it; `what`: in words, behind "may not"."""
    if not plane.judgement:
        return
    verdict = plane.judgement.judge(caller, ask)
    if not verdict.allowed:
        raise refusal(plane, caller, what, verdict)
    note(plane, verdict)


def check_registration(plane: Plane, caller: Caller, service: str) -> None:
    """Raises NotPermitted."""
    check(plane, caller, Ask(Act.REGISTER, service), f"register {service}")


def may_register(connection: Lifecycle, service: str) -> bool:
    judgement = connection.plane.judgement
    return not judgement or judgement.judge(connection.caller, Ask(Act.REGISTER, service)).allowed


def may_see(connection: Connection, service: str) -> bool:
    """Whether a connection may ask a service for anything at all."""
    judgement = connection.plane.judgement
    ask = Ask(Act.REQUEST_RESPONSE, service, wide=True)
    return not judgement or judgement.judge(connection.caller, ask).allowed
