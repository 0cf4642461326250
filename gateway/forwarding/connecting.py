"""The pair of hops of one request, when it is known who serves it: counted, set and sent. Runs once a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import Overloaded
from gateway.forwarding import deadline
from gateway.forwarding.awaiting import Request, offer
from gateway.forwarding.credit import Credit
from gateway.forwarding.decision import section
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stamp import Form, lengthened
from gateway.forwarding.stream import (
    REQUEST_CHANNEL,
    REQUEST_FNF,
    REQUEST_RESPONSE,
    REQUEST_STREAM,
    REQUEST_UNFINISHED,
    new_stream,
)
from gateway.forwarding.tracing import traced_section
from gateway.wire.frames import COMPLETE, FOLLOWS
from gateway.wire.octets import cut

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.outbox import Outbox
    from gateway.observe.metrics import ServiceStats
    from gateway.routing.route import Route

_COMPOSITE = int(Form.COMPOSITE)


def connect(
    connection: Endpoint,
    decision: Decision,
    route: Route,
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
    call: Call | None,
) -> None:
    """Send a request, whose data is `data[at:end]`, to one candidate of its decision. Raises RequestError."""
    plane = connection.plane
    if decision.multicast:
        assert plane.multicast is not None
        target = plane.multicast
    else:
        target = route.owner  # type: ignore[assignment]
    if target.outbox.slow:
        raise Overloaded("what serves this takes in too little; try again", reason="responder_slow")
    form = target.form
    traced = call is not None and call.trace is not None
    stamped = None if varying or traced else decision.sections[form]
    if stamped is None:
        stamped = stamped_for(connection, decision, target, metadata, varying, deadline_at, call)
    if call is not None and call.limited and not deadline_at and (target.side != LOCAL or plane.now != call.opened_at):
        left_ms = deadline.onward_ms(call.until, plane.now, target)
        if form == _COMPOSITE:
            stamped = deadline.entered_anew(stamped, left_ms)
    counters = connection.counters
    part = None if call is None else call.part
    if part is None:
        stats = decision.stats or plane.stats_of(route, connection, decision.identity)
    else:
        stats = part.stats or plane.stats_of(route, connection, decision.identity, part.rule, part.subset)
        if part.entry and target.side != LOCAL:
            stamped = lengthened(stamped, part.entry)
    if connection.outbox.blocked:
        _slow_down(connection, kind, stats)
    if call is not None:
        call.route = route
    ids = target.ids
    responder_id = ids.advance()
    while target.serving.find(responder_id) is not None:
        responder_id = ids.advance()
    if kind == REQUEST_FNF and not head & FOLLOWS and not decision.told:
        counters.fire_and_forget += 1
        stats.requests += 1
        stats.ok += 1
        target.send_request(responder_id, kind, head, 0, stamped, data, at, end)
        _after_send(connection, target.outbox)
        if call is not None:
            call.passed_on()
        return
    if target.offered is not None and connection.side == LOCAL and not head & FOLLOWS:
        offer(connection, target, responder_id, decision.address, Request(kind, head, n, metadata, cut(data, at, end)))
    stream = new_stream(kind, connection, stream_id, target, responder_id, stats, plane.now)
    if kind == REQUEST_RESPONSE:
        counters.request_response += 1
    elif kind == REQUEST_FNF:
        counters.fire_and_forget += 1
    else:
        stream.down = Credit()
        n = stream.down.grant(n, False)
        if kind == REQUEST_CHANNEL:
            counters.request_channel += 1
            stream.up = Credit()
            if not head & COMPLETE:
                stream.state = 0
        else:
            counters.request_stream += 1
    if head & FOLLOWS:
        stream.state |= REQUEST_UNFINISHED
        stream.coming = end - at
    stats.requests += 1
    connection.requesting.insert(stream_id, stream)
    target.serving.insert(responder_id, stream)
    target.pending += 1
    counters.streams_open += 1
    stream.decision = decision
    if call is not None:
        stream.watch = call
        call.begun(stream)
    if decision.told:
        target.spread(stream, decision.spread())
    target.send_request(stream.responder_id, kind, head, n, stamped, data, at, end)
    _after_send(connection, target.outbox)


def stamped_for(
    connection: Endpoint,
    decision: Decision,
    target: Endpoint,
    metadata: bytes,
    varying: bool,
    deadline_at: int,
    call: Call | None,
) -> bytes:
    """The metadata section of a request as it goes to `target`. Raises DeadlineExceeded."""
    # What came over a link was stamped by the node that its caller is connected to.
    theirs = decision.identity is not None and connection.side != LOCAL
    stamp = None if theirs else connection.stamp
    now = connection.plane.now
    sent = metadata
    if deadline_at:
        until = deadline.until(metadata, deadline_at, now) if call is None else call.until
        sent = deadline.onward(metadata, deadline_at, deadline.onward_ms(until, now, target))
    trace = None if call is None else call.trace
    if call is None or trace is None:
        stamped = section(decision, sent, varying, connection.form, target.form, stamp)
    else:
        stamped = traced_section(call, trace, sent, varying, target.form, stamp)
    governed = decision.governed
    if governed is not None and governed.timeout_s and not deadline_at and target.form == _COMPOSITE:
        stamped = deadline.entered(stamped, round(governed.timeout_s * 1000))
        if not varying and trace is None:
            decision.sections[target.form] = stamped
    return stamped


def _slow_down(connection: Endpoint, kind: int, stats: ServiceStats) -> None:
    """The requester does not read for the moment. Raises Overloaded when it asks for a stream all the same."""
    if connection.outbox.congested and kind >= REQUEST_STREAM:
        # Without credit the frame cannot go out, and what the requester does not read yet is too much already.
        stats.requests += 1
        stats.refused += 1
        raise Overloaded("too much is waiting to be sent to you", reason="requester_congested")
    connection.pause_when_congested()


def _after_send(connection: Endpoint, outbox: Outbox) -> None:
    if outbox.size > outbox.hard:
        connection.pause_for(outbox)
