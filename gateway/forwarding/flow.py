"""Credit on its way from consumers to producers (`credit` says how much goes on, this file when).

Where there is no credit to withhold (requests, responses, fire-and-forget), whoever feeds an outbox above its hard mark
is not read from until it has drained: `Endpoint.pause_for`, counted per outbox.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from gateway.errors import FrameError
from gateway.forwarding.ending import break_stream
from gateway.wire.frames import MAX_REQUEST_N, RequestN, encode

if TYPE_CHECKING:
    from gateway.forwarding.credit import Credit
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.stream import Stream

_n = Struct(">I").unpack_from


def request_n(connection: Endpoint, stream_id: int, data: bytes, start: int, end: int) -> bool:
    stream = connection.requesting.find(stream_id)
    if stream is not None:
        credit = stream.down
        producer = stream.responder
        its_id = stream.responder_id
    else:
        stream = connection.serving.find(stream_id)
        if stream is None:
            return False
        credit = stream.up
        producer = stream.requester
        its_id = stream.requester_id
    if end - start < 10:
        raise FrameError("REQUEST_N is cut short")
    n = _n(data, start + 6)[0]
    if not 0 < n <= MAX_REQUEST_N:
        break_stream(stream, connection, f"request n {n} is not within 1 to {MAX_REQUEST_N}", "zero_n")
    elif credit is None:
        connection.ignore(end - start)
    else:
        passed = credit.grant(n, connection.outbox.congested)
        if connection.budgets is not None and connection.budgets.spare(credit):
            connection.ignore(end - start)
        if passed == n:
            producer.outbox.put(its_id, data, start + 4, end)
        elif passed:
            frame = encode(RequestN(1, passed))
            producer.outbox.put(its_id, frame, 4, len(frame))
        else:
            _throttle(connection, stream)
    return True


def refill(stream: Stream) -> None:
    """Pass held credit on, in whichever direction it waits, unless its consumer is congested."""
    if stream.down is not None and stream.down.held:
        _refill(stream, stream.down, stream.requester, stream.responder, stream.responder_id)
    if stream.up is not None and stream.up.held:
        _refill(stream, stream.up, stream.responder, stream.requester, stream.requester_id)


def _refill(stream: Stream, credit: Credit, consumer: Endpoint, producer: Endpoint, its_id: int) -> None:
    if consumer.outbox.congested:
        _throttle(consumer, stream)
        return
    n = credit.refill()
    if n:
        frame = encode(RequestN(1, n))
        producer.outbox.put(its_id, frame, 4, len(frame))


def _throttle(connection: Endpoint, stream: Stream) -> None:
    """Come back to this stream's credit when our outbox has drained."""
    outbox = connection.outbox
    if outbox.congested:
        if outbox.throttled is None:
            outbox.throttled = set()
        outbox.throttled.add(stream)
