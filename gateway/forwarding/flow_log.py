"""What the flow log is told of requests: at the end of each, and of each refusal.

Called only while `Plane.flows` is there. What is put is what is at hand: no text is made here. `bytes` of a record are
those of the request's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import FrameError, RequestError
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stamp import Deciding, Form
from gateway.forwarding.stream import REQUEST_FNF
from gateway.observe.flow_fields import AUDIT, DROPPED, ERROR, FORWARDED, LOOP
from gateway.routing.address import Address, address_from
from gateway.wire import brokering
from gateway.wire.frames import ErrorCode
from gateway.wire.metadata import decode_routing
from gateway.wire.tracing import trace_id_in

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.stream import Stream
    from gateway.observe.flows import FlowRing
    from gateway.routing.route import Route

_FORWARDED = FORWARDED
_ERROR = ERROR
# What `ending.finish` calls them, which cannot be imported here.
_OK, _FAILED = 0, 1
_LOCAL = LOCAL
_FNF = REQUEST_FNF
#: By the code of the ERROR frame that ended a request. 0: there was none of a responder.
REASONS: dict[int, str] = {0: "ended_here"} | {int(code): code.name for code in ErrorCode}


def ended(ring: FlowRing, call: Call, stream: Stream | None, outcome: int) -> None:
    """An attempt of a request is over: answered, passed on where there is no answer, failed or canceled. Nothing is
    said of what the spool took; who keeps it says so."""
    requester = call.requester
    plane = requester.plane
    decision = call.decision
    route = call.route
    assert route is not None
    credits = -1
    if stream is None:
        responder: Endpoint = route.owner  # type: ignore[assignment]
    else:
        responder = stream.responder
        if outcome == _OK and responder is plane.intake:
            return
        if stream.down is not None:
            credits = stream.down.outstanding + stream.down.held
    goes = responder.side != _LOCAL
    came = requester.side != _LOCAL
    verdict, reason = _FORWARDED, None
    is_reply = call.kind != _FNF
    if outcome == _FAILED:
        verdict = _ERROR
        reason = REASONS.get(call.code) or hex(call.code)
        is_reply = call.code != 0
    elif outcome != _OK:
        reason = "canceled"
        is_reply = False
    ring.put(
        verdict,
        plane.now,
        plane.now - call.opened_at,
        call.kind,
        call.requester_id,
        came,
        goes,
        is_reply,
        call.size,
        credits,
        call.attempt,
        decision.identity if came else requester.grant.principal,
        route.service,
        route.subject,
        route.tags,
        responder.principal.subject if goes else None,  # type: ignore[attr-defined]
        decision.address,
        reason,
        None if call.governed is None else call.governed.state.rules,
        None,
        None if call.trace is None else call.trace.trace_id,
        None,
    )


def refused(connection: Endpoint, kind: int, stream_id: int, metadata: bytes, error: RequestError) -> None:
    """This node said no. What was asked for is looked up, or read once more."""
    ring = connection.plane.flows
    if ring is None:
        return
    decision = connection.decisions.get(metadata)
    address: Address | None = getattr(error, "address", None)
    identity = None
    if decision is not None:
        address, identity = decision.address, decision.identity
    elif address is None or connection.side != LOCAL:
        read, identity = _asked(connection, metadata)
        address = address or read
    service = address.route.partition(".")[0] if address is not None else None
    trace = trace_id_in(metadata) if connection.form == Form.COMPOSITE else ""
    _put_refusal(
        ring, DROPPED, connection, kind, stream_id, identity, address, service, error.reason, error.policy, trace
    )


def audited(
    connection: Endpoint,
    kind: int,
    address: Address,
    candidate: Route | None,
    policy: str,
    reason: str = "audit",
    identity: bytes | None = None,
) -> None:
    """A policy that refuses nothing has something to say of requests like this."""
    ring = connection.plane.flows
    if ring is None:
        return
    service = None if candidate is None else candidate.service
    _put_refusal(ring, AUDIT, connection, kind, 0, identity, address, service, reason, policy)


def _put_refusal(
    ring: FlowRing,
    verdict: int,
    connection: Endpoint,
    kind: int,
    stream_id: int,
    identity: bytes | None,
    address: Address | None,
    service: str | None,
    reason: str,
    policy: str,
    trace: str = "",
) -> None:
    came = connection.side != LOCAL
    ring.put(
        verdict,
        connection.plane.now,
        -1.0,
        kind,
        stream_id,
        came,
        False,
        False,
        0,
        -1,
        0,
        identity if came else connection.grant.principal,
        service,
        None,
        None,
        None,
        address,
        reason,
        policy,
        None,
        trace,
        None,
    )


def looped(plane: Plane, bridge: str, topic: str, reason: str) -> None:
    """A message of a broker came round, and was dropped."""
    if plane.flows is not None:
        plane.flows.put(
            LOOP, plane.now, -1.0, 0, 0, False, False, False, 0, -1, 0,
            bridge, None, None, None, None, topic, reason, f"Bridge/{bridge}", None, None, None,
        )  # fmt: skip


def _asked(connection: Endpoint, metadata: bytes) -> tuple[Address | None, bytes | None]:
    """What a request that was never decided asks for, as far as it can be read."""
    try:
        limits = connection.grant.limits
        deciding = Deciding(metadata, connection.form, limits.max_metadata_entries, foreign=connection.side == LOCAL)
        tags = () if deciding.routing is None else decode_routing(deciding.routing)
        frame = None if deciding.broker is None else brokering.decode(deciding.broker)
        named = frame if isinstance(frame, brokering.Address) else None
        return address_from(tags, named), deciding.identity
    except (FrameError, RequestError):
        return None, None
