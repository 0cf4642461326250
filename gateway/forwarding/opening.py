"""Opening a stream: a REQUEST_* frame, the decision, the chosen responder, the pair of hops.

A request that cannot be served is refused on its stream and counted; the connection lives. Fire-and-forget is never
answered, not even by a refusal (P35). A request whose metadata comes in several fragments is held until it is complete.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, cast

from gateway.errors import (
    ConnectionFailed,
    FrameError,
    NoRoute,
    Overloaded,
    RateLimited,
    RequestError,
    RequestInvalid,
)
from gateway.forwarding import deadline, flow_log, leasing
from gateway.forwarding.assembly import BREAKING
from gateway.forwarding.awaiting import await_route
from gateway.forwarding.connecting import connect
from gateway.forwarding.decision import CAPACITY, LINK_CAPACITY, Decision, decide
from gateway.forwarding.links import LOCAL
from gateway.forwarding.partial import Partial
from gateway.forwarding.stamp import Deciding, Form
from gateway.forwarding.stream import REQUEST_CHANNEL, REQUEST_FNF, REQUEST_STREAM
from gateway.forwarding.traced import open_traced
from gateway.forwarding.watched import open_watched
from gateway.wire.frames import COMPLETE, FOLLOWS, IGNORE, MAX_REQUEST_N, METADATA, Error, encode
from gateway.wire.octets import cut, equal

if TYPE_CHECKING:
    from gateway.forwarding.endpoint import Endpoint
    from gateway.routing.address import Address

_n = Struct(">I").unpack_from
_FOLLOWS_COMPLETE = FOLLOWS | COMPLETE


def open_request(connection: Endpoint, kind: int, head: int, stream_id: int, data: bytes, start: int, end: int) -> None:
    """A REQUEST_* frame: open a stream, or say why not."""
    if stream_id & 1 != connection.peer_parity:
        raise ConnectionFailed(f"stream id {stream_id} is for the other side to open", reason="stream_id_parity")
    if (
        connection.requesting.find(stream_id) is not None
        or (connection.partials is not None and stream_id in connection.partials)
        or (connection.awaiting is not None and stream_id in connection.awaiting)
    ):
        connection.ignore(end - start)  # P21
        return
    if connection.budgets is not None:
        connection.budgets.asked += 1
    at = start + 6
    metadata = b""
    if kind == REQUEST_CHANNEL and head & _FOLLOWS_COMPLETE == _FOLLOWS_COMPLETE:
        head &= ~FOLLOWS  # P34
    try:
        if head & FOLLOWS and end - start < connection.min_fragment:
            raise RequestInvalid(f"fragment below {connection.min_fragment} bytes", reason="min_fragment_bytes")
        n = 0
        if kind >= REQUEST_STREAM:
            at += 4
            if at > end:
                raise FrameError("initial request n is cut short")
            n = _n(data, start + 6)[0]
            if not 0 < n <= MAX_REQUEST_N:
                raise RequestInvalid(f"initial request n {n} is not within 1 to {MAX_REQUEST_N}", reason="zero_n")
        if head & METADATA:
            if at + 3 > end:
                raise FrameError("metadata length is cut short")
            body = at + 3 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
            if body > end:
                raise FrameError("metadata length goes beyond the frame")
            latest = connection.latest_metadata
            metadata = latest if latest is not None and equal(data, at + 3, body, latest) else cut(data, at + 3, body)
            if head & FOLLOWS and body == end:
                # Metadata may go on in the next fragment, and the stamp has to come after all of it.
                _hold(connection, Partial(kind, head, stream_id, n, metadata, connection.plane.now))
                return
            at = body
        _open(connection, kind, head, stream_id, n, metadata, data, at, end)
    except NoRoute as error:
        if error.address is None or not _await(connection, kind, head, stream_id, error, data[start:end]):
            _refuse(connection, kind, head, stream_id, error, metadata)
    except RequestError as error:
        _refuse(connection, kind, head, stream_id, error, metadata)
    except FrameError as error:
        if not head & IGNORE:
            raise
        _refuse(connection, kind, head, stream_id, RequestInvalid(str(error), reason=error.reason), metadata)


def _await(connection: Endpoint, kind: int, head: int, stream_id: int, error: NoRoute, frame: bytes) -> bool:
    """Let a request wait for a route that others may know of, or that may come. Returns whether there is anything more
    to do about it."""
    waiting = connection.plane.waiting
    try:
        if await_route(connection, stream_id, cast("Address", error.address), frame):
            return True
        return waiting is not None and waiting.wait(connection, kind, stream_id, frame, error)
    except RequestError as refused:
        _refuse(connection, kind, head, stream_id, refused)
        return True


def _open(
    connection: Endpoint,
    kind: int,
    head: int,
    stream_id: int,
    n: int,
    metadata: bytes,
    data: bytes,
    at: int,
    end: int,
) -> None:
    """Open the stream that a request asks for; its data is `data[at:end]`. Raises RequestError."""
    plane = connection.plane
    if connection.max_streams and len(connection.requesting) >= connection.max_streams:
        raise Overloaded(f"over the limit of {connection.max_streams} open streams", reason="max_streams")
    if connection.rate and not connection.asking_again:
        _spend_token(connection)
    if connection.draining:
        raise Overloaded("this connection is draining; reconnect and try again", reason="draining")
    deadline_at = 0
    varying = False
    if metadata is connection.latest_metadata:
        decision = connection.latest
    else:
        decision = connection.decisions.get(metadata)
        if decision is None:
            decision, deciding = _decide(connection, metadata)
            varying, deadline_at = deciding.varying, deciding.deadline_at
        if not varying:
            connection.latest = decision
            connection.latest_metadata = metadata
    assert decision is not None
    if decision.generation != plane.table.generation:
        decision.refresh(plane, connection)
    if decision.variants is not None:
        decision = decision.variant(kind, plane, connection)
        varying = varying or decision.noted
    sampler = decision.sampler
    if sampler is not None:
        trace = sampler.begin(metadata, varying, connection.form, connection.side)
        if trace is not None:
            open_traced(
                connection, decision, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, trace
            )
            return
    if decision.governed is not None or deadline_at or plane.observing:
        open_watched(
            connection, decision, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, None
        )
        return
    if decision.multicast:
        route = decision.first
    else:
        route = decision.pick(plane)
        if connection.avoided is not None and route.owner is connection.avoided:
            route = decision.pick_other(plane, connection.avoided)
    connect(connection, decision, route, kind, head, stream_id, n, metadata, varying, deadline_at, data, at, end, None)


def decide_on(connection: Endpoint, metadata: bytes, kind: int) -> Decision:
    """What becomes of a request with this metadata, of this frame type, as of now. Raises RequestError."""
    decision = connection.decisions.get(metadata)
    if decision is None:
        decision, _ = _decide(connection, metadata)
    if decision.generation != connection.plane.table.generation:
        decision.refresh(connection.plane, connection)
    if decision.variants is not None:
        decision = decision.variant(kind, connection.plane, connection)
    return decision


def _decide(connection: Endpoint, metadata: bytes) -> tuple[Decision, Deciding]:
    """Answer metadata that is not in the cache as it stands, and say what of it has decided."""
    limits = connection.grant.limits
    if len(metadata) > limits.max_metadata_bytes:
        raise RequestInvalid(
            f"metadata is over the limit of {limits.max_metadata_bytes} bytes", reason="max_metadata_bytes"
        )
    try:
        local = connection.side == LOCAL
        deciding = Deciding(metadata, connection.form, limits.max_metadata_entries, foreign=local)
        if deciding.deadline_at:
            deadline.check(metadata, deciding.deadline_at)
        decision = connection.decisions.get(deciding.key) if deciding.varying else None
        if decision is None:
            decision = decide(connection.plane, deciding, connection, limits.max_route_bytes)
            if len(connection.decisions) >= (CAPACITY if local else LINK_CAPACITY):
                connection.decisions.clear()
            if decision.noted:
                deciding.varying = True
            else:
                connection.decisions[deciding.key] = decision
    except FrameError as error:
        raise RequestInvalid(f"metadata: {error}", reason="malformed_metadata") from error
    return decision, deciding


def _hold(connection: Endpoint, partial: Partial) -> None:
    partials = connection.partials
    if partials is None:
        partials = connection.partials = {}
    limits = connection.grant.limits
    size = len(partial.metadata)
    if size > limits.max_metadata_bytes:
        raise RequestInvalid("metadata is too long", reason="max_metadata_bytes")
    plane = connection.plane
    connection.assemble().begin(
        partial.stream_id, size, limits, plane.now, lambda error: _give_up(connection, partial, error)
    )
    partials[partial.stream_id] = partial


def _give_up(connection: Endpoint, partial: Partial, error: RequestError) -> None:
    drop_partial(connection, partial.stream_id)
    _refuse(connection, partial.kind, FOLLOWS, partial.stream_id, error)


def drop_partial(connection: Endpoint, stream_id: int) -> bool:
    """Forget a request whose metadata is not complete. Returns whether there was one."""
    if connection.partials is None or connection.partials.pop(stream_id, None) is None:
        return False
    connection.assemble().end(stream_id)
    return True


def resume_partial(connection: Endpoint, partial: Partial, head: int, data: bytes, start: int, end: int) -> None:
    """A further fragment of a request whose metadata was not complete."""
    assert connection.partials is not None
    stream_id = partial.stream_id
    kind = partial.kind
    if head & _FOLLOWS_COMPLETE == _FOLLOWS_COMPLETE:
        head &= ~FOLLOWS
    try:
        limits = connection.grant.limits
        before = partial.size
        at = partial.take(head, data, start, end, limits)
        if at < 0:
            connection.assemble().grow(stream_id, partial.size - before, limits, connection.plane.now)
            return
        drop_partial(connection, stream_id)
        # Only a channel's COMPLETE says anything; on the last fragment of another request it is a bit without meaning.
        last = FOLLOWS | COMPLETE if kind == REQUEST_CHANNEL else FOLLOWS
        first = partial.head & ~(FOLLOWS | COMPLETE) | head & last
        metadata = partial.metadata
        if connection.form == Form.COMPOSITE:
            held_s = connection.plane.now - partial.since
            metadata = deadline.aged(metadata, 0, len(metadata), held_s)
        _open(connection, kind, first, stream_id, partial.n, metadata, data, at, end)
    except RequestError as error:
        drop_partial(connection, stream_id)
        _refuse(connection, kind, head, stream_id, error, partial.metadata)
    except FrameError as error:
        if not head & IGNORE:
            raise
        drop_partial(connection, stream_id)
        wrong = RequestInvalid(str(error), reason=error.reason)
        _refuse(connection, kind, head, stream_id, wrong, partial.metadata)


def grant_partial(connection: Endpoint, partial: Partial, data: bytes, start: int, end: int) -> None:
    """A REQUEST_N for a request whose metadata is not complete."""
    if end - start < 10:
        raise FrameError("REQUEST_N is cut short")
    n = _n(data, start + 6)[0]
    if 0 < n <= MAX_REQUEST_N:
        partial.grant(n)
        return
    drop_partial(connection, partial.stream_id)
    error = RequestInvalid(f"request n {n} is not within 1 to {MAX_REQUEST_N}", reason="zero_n")
    _refuse(connection, partial.kind, FOLLOWS, partial.stream_id, error)


def _refuse(
    connection: Endpoint, kind: int, head: int, stream_id: int, error: RequestError, metadata: bytes = b""
) -> None:
    plane = connection.plane
    plane.counters.refuse(error.reason)
    if plane.flows is not None:
        flow_log.refused(connection, kind, stream_id, metadata, error)
    if plane.tracing is not None:
        plane.tracing.refused(metadata, connection.form, kind, error)
    if head & FOLLOWS:
        connection.strays.drop_rest(stream_id, connection.grant.limits)
    if kind != REQUEST_FNF:  # P35: never answered, not even by an error
        connection.outbox.put_frame(encode(Error(stream_id, error.code, str(error))))
        connection.pause_when_congested()
    if connection.budgets is not None and isinstance(error, RequestInvalid):
        connection.budgets.premature_end(len(connection.requesting))
    if error.reason in BREAKING:
        connection.broke_message()


def _spend_token(connection: Endpoint) -> None:
    if connection.granted is not None:
        leasing.spend(connection)
        return
    leasing.refill(connection, connection.plane.monotonic())
    if connection.tokens < 1.0:
        rate = connection.grant.limits.requests_per_second
        raise RateLimited(f"over the limit of {rate} requests a second", reason="requests_per_second")
    connection.tokens -= 1.0
