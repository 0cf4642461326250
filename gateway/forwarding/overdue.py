"""The end of a request whose answer has not come in time, wherever on its way that is noticed first.

Its caller hears whose time that was, its responder gets CANCEL, as if the caller had given up. A request is over with
its whole answer; a stream or a channel has been answered in time with its first item, and may then go on for as long as
it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import DeadlineExceeded
from gateway.forwarding.ending import FAILED, finish
from gateway.forwarding.retrying import again, is_try
from gateway.forwarding.stream import REQUEST_RESPONSE
from gateway.policy.retrying import Failure
from gateway.wire.frames import Cancel, Error, encode

if TYPE_CHECKING:
    from gateway.forwarding.call import Call


def end(call: Call) -> None:
    """The time of a call, or of one try of it, is up."""
    stream = call.stream
    assert stream is not None
    trying = is_try(call)
    error = exceeded(call, trying)
    call.code = error.code
    if trying and again(call, stream, Failure.TIMEOUT):
        return
    call.requester.plane.counters.refuse(error.reason)
    stream.responder.outbox.put_frame(encode(Cancel(stream.responder_id)))
    stream.requester.outbox.put_frame(encode(Error(stream.requester_id, error.code, str(error))))
    stream.requester.pause_when_congested()
    finish(stream, FAILED)


def exceeded(call: Call, trying: bool = False) -> DeadlineExceeded:
    what = "answer" if call.kind == REQUEST_RESPONSE else "first item"
    governed = call.governed
    if trying and governed is not None and governed.rule is not None:
        within = f"{call.try_s:g} s, the perTryTimeout of {governed.rule.name}"
        return DeadlineExceeded(f"deadline exceeded: Service/{governed.state.rules.name}: no {what} within {within}")
    if call.limited and governed is not None and governed.rule is not None:
        within = f"{governed.timeout_s:g} s, the timeout of {governed.rule.name}"
        return DeadlineExceeded(f"deadline exceeded: Service/{governed.state.rules.name}: no {what} within {within}")
    within = f"{round((call.until - call.opened_at) * 1000)} ms that its caller had left here"
    return DeadlineExceeded(f"deadline exceeded: no {what} within the {within}")
