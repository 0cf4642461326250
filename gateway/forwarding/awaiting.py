"""Requests that wait until it is known who serves them, at the node that their caller is connected to.

What a client sends on such a stream is kept as it came, within bounds, and gone through again when the answer is there:
nothing of a request is decided twice. A request waits once; when there is still nobody, it fails.

A request that goes over a link is kept, too, until something comes back: ERROR[REJECTED] "no route" promises that
nobody has processed it, so it is looked up once more and goes another way if there is one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import Overloaded, RequestError
from gateway.forwarding.deadline import aged_frame, left_s
from gateway.forwarding.ending import FAILED, finish
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_STREAM, RESPONSE_SERIES
from gateway.wire.frames import METADATA, Error, ErrorCode, encode, peek_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.stream import Stream
    from gateway.routing.address import Address

#: Bytes that may wait of one connection, and that are kept of one request that is on its way over a link.
MAX_BYTES: Final = 1024 * 1024
MAX_OFFERED_BYTES: Final = 64 * 1024
#: How an error begins that promises that nobody serves a request, here or further on.
NO_ROUTE: Final = b"no route"


class Request(NamedTuple):
    """A request frame in its parts, as its requester sent it. `head`: type and flags."""

    kind: int
    head: int
    n: int
    metadata: bytes
    data: bytes

    def frame(self, stream_id: int, n: int) -> bytes:
        parts = [stream_id.to_bytes(4, "big"), self.head.to_bytes(2, "big")]
        if self.kind >= REQUEST_STREAM:
            parts.append(n.to_bytes(4, "big"))
        if self.head & METADATA:
            parts += (len(self.metadata).to_bytes(3, "big"), self.metadata)
        return b"".join((*parts, self.data))


Offer = tuple["Address", Request]


class Awaiting:
    """The frames of one stream, held `since` then. `avoid`: where it has been in vain. `address`: who is looked for;
    None: nobody, its time has not come."""

    __slots__ = ("address", "avoid", "frames", "since", "size")

    def __init__(self, address: Address | None, frame: bytes, since: float, avoid: Endpoint | None = None) -> None:
        self.address = address
        self.avoid = avoid
        self.since = since
        self.frames = [frame]
        self.size = len(frame)


def await_route(connection: Endpoint, stream_id: int, address: Address, frame: bytes) -> bool:
    """Hold a request that nobody here serves, if there is somebody to ask. Raises Overloaded when there is no room."""
    if connection.plane.links is None or connection.side != LOCAL or connection.asking_again:
        return False
    return _hold(connection, stream_id, Awaiting(address, frame, connection.plane.now))


def hold_back(
    connection: Endpoint, stream_id: int, frame: bytes, seconds: float, released: Callable[[], None] | None
) -> None:
    """Hold a request for a while, whoever serves it; then `released` is called, whether it is still wanted or not.
    Raises Overloaded when there is no room."""
    held = hold(connection, stream_id, frame)
    connection.plane.later(seconds, partial(_release, connection, stream_id, held, released))


def _release(connection: Endpoint, stream_id: int, held: Awaiting, released: Callable[[], None] | None) -> None:
    if released is not None:
        released()
    release(connection, stream_id, held, held.since)


def hold(connection: Endpoint, stream_id: int, frame: bytes) -> Awaiting:
    """Hold a request until `release` or `refuse`. Raises Overloaded when there is no room."""
    waiting = connection.awaiting
    if waiting is None:
        waiting = connection.awaiting = {}
    held = Awaiting(None, frame, connection.plane.now)
    if sum(each.size for each in waiting.values()) + held.size > MAX_BYTES:
        raise Overloaded("too much of yours is held back", reason="held_back")
    waiting[stream_id] = held
    return held


def release(connection: Endpoint, stream_id: int, held: Awaiting, since: float) -> None:
    """Go through a request once more that came at `since`, if its caller still waits."""
    connection.held_since = since
    try:
        _go_on(connection, stream_id, held)
    finally:
        connection.held_since = 0.0


def keep(connection: Endpoint, stream_id: int, frame: bytes) -> None:
    """A further frame on a stream whose request waits."""
    assert connection.awaiting is not None
    held = connection.awaiting[stream_id]
    held.frames.append(frame)
    held.size += len(frame)
    if held.size > MAX_BYTES:
        refuse(connection, stream_id, _no_room())


def forget(connection: Endpoint, stream_id: int) -> bool:
    """The caller wants no answer any more. Returns whether its request was waiting."""
    return connection.awaiting is not None and connection.awaiting.pop(stream_id, None) is not None


def offer(connection: Endpoint, target: Endpoint, responder_id: int, address: Address, request: Request) -> None:
    """A request goes over a link: keep it until something comes back, should nobody be there (any more)."""
    if not connection.asking_again and len(request.data) <= MAX_OFFERED_BYTES:
        assert target.offered is not None
        target.offered[responder_id] = (address, request)


def ask_again(stream: Stream, error: bytes) -> bool:
    """The far end of a link ends a stream with an ERROR frame. Returns whether the caller's request was taken back, to
    be looked up once more; its hops are gone then."""
    target, connection = stream.responder, stream.requester
    assert target.offered is not None
    kept = target.offered.pop(stream.responder_id, None)
    if kept is None or stream.interaction == REQUEST_FNF or connection.closed:
        return False
    credit = stream.down
    begun = stream.state & RESPONSE_SERIES or (credit is not None and credit.used)
    if begun or int.from_bytes(error[6:10], "big") != ErrorCode.REJECTED or not error[10:].startswith(NO_ROUTE):
        return False
    address, request = kept
    stream_id, opened_at = stream.requester_id, stream.opened_at
    finish(stream, FAILED)
    # With whatever credit it has been given since.
    n = credit.outstanding + credit.held if credit is not None else 0
    held = Awaiting(address, request.frame(stream_id, n), opened_at, target)
    try:
        if not _hold(connection, stream_id, held):
            # There is nobody to ask: what the table has besides is all that there is.
            _go_on(connection, stream_id, held)
    except RequestError as refused:
        refuse(connection, stream_id, refused)
    return True


def _hold(connection: Endpoint, stream_id: int, held: Awaiting) -> bool:
    links = connection.plane.links
    waiting = connection.awaiting
    if waiting is None:
        waiting = connection.awaiting = {}
    if sum(each.size for each in waiting.values()) + held.size > MAX_BYTES:
        raise _no_room()
    waiting[stream_id] = held
    within_s = left_s(held.frames[0]) - (connection.plane.now - held.since)
    if (
        links is not None
        and held.address is not None
        and links.resolve(
            held.address,
            lambda: _go_on(connection, stream_id, held),
            within_s=within_s,
            afresh=held.avoid is not None,
        )
    ):
        return True
    if held.avoid is None:
        del waiting[stream_id]
    return False


def _go_on(connection: Endpoint, stream_id: int, held: Awaiting) -> None:
    """All that can be known is: go through what came once more."""
    if connection.closed or connection.awaiting is None or connection.awaiting.get(stream_id) is not held:
        return
    del connection.awaiting[stream_id]
    connection.asking_again = True
    connection.asked_at = held.since
    connection.avoided = held.avoid
    try:
        _again(connection, aged_frame(held.frames[0], connection.plane.wake() - held.since))
    finally:
        connection.asking_again = False
        connection.asked_at = 0.0
        connection.avoided = None
    for frame in held.frames[1:]:
        _again(connection, frame)


def _again(connection: Endpoint, frame: bytes) -> None:
    # It was counted when it came.
    connection.counters.frames_in -= 1
    connection.counters.bytes_in -= len(frame)
    connection.frame_received(frame, 0, len(frame))


def refuse(connection: Endpoint, stream_id: int, error: RequestError) -> None:
    """End a request that is held, if it is. Fire-and-forget is not answered (P35)."""
    held = None if connection.awaiting is None else connection.awaiting.pop(stream_id, None)
    connection.plane.counters.refuse(error.reason)
    if held is not None and peek_type(held.frames[0]) == REQUEST_FNF:
        return
    connection.outbox.put_frame(encode(Error(stream_id, error.code, str(error))))


def _no_room() -> Overloaded:
    return Overloaded("too much of yours waits for a route", reason="awaiting_route")
