"""How streams end: the pair of hops goes, the outcome is counted, and stragglers are forgiven.

Ordering: whoever ends a stream first puts the frame that says so, then calls `finish`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import NotPermitted, RequestInvalid, ResponderGone
from gateway.forwarding.credit import WINDOW
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_UNFINISHED, REQUESTER_DONE, RESPONDER_DONE, Stream
from gateway.wire.frames import Cancel, Error, encode

if TYPE_CHECKING:
    from gateway.forwarding.endpoint import Endpoint


RIGHTS_CHANGED = "the rights on which this was opened have changed; ask again"
#: How a stream ended, for `finish`.
OK = 0
FAILED = 1
CANCELED = 2
_OK = OK
_CANCELED = CANCELED


def requester_done(stream: Stream) -> None:
    if stream.state & RESPONDER_DONE:
        finish(stream, OK)
    else:
        stream.state |= REQUESTER_DONE


def break_stream(stream: Stream, culprit: Endpoint, text: str, reason: str) -> None:
    """End a stream that one side broke: that side gets ERROR[INVALID], the other is told in its own terms.

    Only the responder of a channel can be sent an ERROR; that of any other stream gets CANCEL. The requester of a
    fire-and-forget is sent nothing (P35).
    """
    culprit.plane.counters.refuse(reason)
    code = RequestInvalid.code
    last: Error | Cancel = Cancel(stream.responder_id)
    if culprit is stream.responder:
        if stream.up is not None:
            last = Error(stream.responder_id, code, text)
        text = f"responder: {text}"
    stream.responder.outbox.put_frame(encode(last))
    if stream.interaction != REQUEST_FNF:
        stream.requester.outbox.put_frame(encode(Error(stream.requester_id, code, text)))
    finish(stream, FAILED)


def finish(stream: Stream, outcome: int) -> None:
    """Remove the pair of hops and count the outcome."""
    requester = stream.requester
    requester.requesting.discard(stream.requester_id)
    responder = stream.responder
    responder.serving.discard(stream.responder_id)
    if responder.offered is not None:
        responder.offered.pop(stream.responder_id, None)
    responder.pending -= 1
    plane = responder.plane
    plane.counters.streams_open -= 1
    stats = stream.stats
    if stream.state & REQUEST_UNFINISHED:
        requester.strays.drop_rest(stream.requester_id, requester.grant.limits)
    # What either side had sent by now is no offence: a CANCEL, the credit it granted, the items that it had credit for.
    requester.strays.excused += 1
    if stream.down is not None:
        requester.strays.excused += WINDOW
        responder.strays.excused += 1 + stream.down.outstanding
        if stream.up is not None:
            requester.strays.excused += stream.up.outstanding
            responder.strays.excused += WINDOW
    elif outcome != _OK:
        responder.strays.excused += 1
    if outcome == _OK:
        stats.ok += 1
        stats.observe(plane.now - stream.opened_at)
    elif outcome == _CANCELED:
        stats.canceled += 1
    else:
        stats.failed += 1
    watch = stream.watch
    if watch is not None:
        stream.watch = None
        watch.ended(stream, outcome)


def withdraw(stream: Stream) -> None:
    """Remove the pair of hops as if the request had never been made: it is made again, elsewhere."""
    requester = stream.requester
    requester.requesting.discard(stream.requester_id)
    responder = stream.responder
    responder.serving.discard(stream.responder_id)
    responder.pending -= 1
    counters = responder.plane.counters
    counters.streams_open -= 1
    stream.stats.requests -= 1
    watch = stream.watch
    if watch is not None:
        stream.watch = None
        watch.forgotten()


def forbid(stream: Stream) -> None:
    """End a stream because the rights on which it was opened are gone."""
    stream.responder.outbox.put_frame(encode(Cancel(stream.responder_id)))
    if stream.interaction != REQUEST_FNF:
        stream.requester.outbox.put_frame(encode(Error(stream.requester_id, NotPermitted.code, RIGHTS_CHANGED)))
    finish(stream, FAILED)


def end_all(endpoint: Endpoint) -> None:
    """This side is gone: its requesters get ERROR[CANCELED], its responders CANCEL (protocol 1)."""
    gone = ResponderGone("responder disconnected")
    for stream in list(endpoint.serving.values()):
        if stream.watch is not None and stream.watch.gone(stream):
            continue
        finish(stream, FAILED)
        if stream.interaction != REQUEST_FNF:
            stream.requester.outbox.put_frame(encode(Error(stream.requester_id, gone.code, str(gone))))
    for stream in list(endpoint.requesting.values()):
        finish(stream, CANCELED)
        stream.responder.outbox.put_frame(encode(Cancel(stream.responder_id)))
