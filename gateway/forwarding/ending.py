"""How streams end: the pair of hops goes, the outcome is counted, and stragglers are forgiven.

Ordering: whoever ends a stream first puts the frame that says so, then calls `finish`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import RequestInvalid
from gateway.forwarding.stream import REQUEST_STREAM, REQUEST_UNFINISHED, REQUESTER_DONE, RESPONDER_DONE, Stream
from gateway.wire.frames import Cancel, Error, encode

if TYPE_CHECKING:
    from gateway.forwarding.endpoint import Endpoint


#: How a stream ended, for `finish`.
OK = 0
FAILED = 1
CANCELED = 2


def requester_done(stream: Stream) -> None:
    if stream.state & RESPONDER_DONE:
        finish(stream, OK)
    else:
        stream.state |= REQUESTER_DONE


def break_stream(stream: Stream, culprit: Endpoint, text: str, reason: str) -> None:
    """End a stream that one side broke: that side gets ERROR[INVALID], the other is told in its own terms."""
    culprit.plane.counters.refuse(reason)
    error = RequestInvalid(text)
    if culprit is stream.requester:
        culprit.outbox.put_frame(encode(Error(stream.requester_id, error.code, text)))
        stream.responder.outbox.put_frame(encode(Cancel(stream.responder_id)))
    else:
        culprit.outbox.put_frame(encode(Cancel(stream.responder_id)))
        stream.requester.outbox.put_frame(encode(Error(stream.requester_id, error.code, f"responder: {text}")))
    finish(stream, FAILED)


def finish(stream: Stream, outcome: int) -> None:
    """Remove the pair of hops and count the outcome."""
    stream.requester.requesting.discard(stream.requester_id)
    responder = stream.responder
    responder.serving.discard(stream.responder_id)
    responder.pending -= 1
    plane = responder.plane
    plane.counters.streams_open -= 1
    stats = stream.stats
    if stream.state & REQUEST_UNFINISHED:
        stream.requester.abandon(stream.requester_id)
    if stream.interaction >= REQUEST_STREAM or outcome != OK:
        # Credit, cancellations and items that crossed the end on their way are no offence.
        responder.excuse(stream.down)
        stream.requester.excuse(stream.up)
    if outcome == OK:
        stats.ok += 1
        stats.observe(plane.now - stream.opened_at)
    elif outcome == CANCELED:
        stats.canceled += 1
    else:
        stats.failed += 1
