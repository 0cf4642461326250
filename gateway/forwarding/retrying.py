"""Trying a request again that failed, where its document says so and it is safe (`policy.retrying`).

A request is taken back while its responder has sent nothing of an answer: its hops go, it waits for its turn as what
waits for a route does, with whatever its caller sends meanwhile, and is gone through once more, decided afresh. The
same call goes on: its deadline, its place among the requests at once and its trace are those of the first try. It goes
to another instance of the part that was drawn, while there is one.

Not tried again: fire-and-forget, which nobody answers; what comes in fragments, or is longer than `MAX_OFFERED_BYTES`;
channels whose caller has sent more than the request; anything while the node or the caller's connection drains. Only
the first node on a way that sees the instances does it, so that retries do not multiply.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import Overloaded
from gateway.forwarding import flow_log
from gateway.forwarding.admitting import FAILED as BADLY
from gateway.forwarding.awaiting import Awaiting, Request, forget, hold, release
from gateway.forwarding.ending import FAILED, finish
from gateway.forwarding.stream import REQUEST_SERIES, REQUESTER_DONE, RESPONSE_SERIES
from gateway.policy.retrying import Failure, backoff_s, may_repeat
from gateway.wire.frames import COMPLETE, Cancel, encode
from gateway.wire.mimetypes import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.stream import Stream

_IDEMPOTENCY_KEY = IDEMPOTENCY_KEY.encode()


def again(call: Call, stream: Stream, failure: Failure) -> bool:
    """An attempt has failed, and nobody has been told yet. Returns whether the request was taken back."""
    request, credit = _request(call), stream.down
    if request is None or _begun(stream, request):
        return False
    delay_s = _allowed(call, failure)
    if delay_s < 0.0:
        return False
    n = credit.outstanding + credit.held if credit is not None else 0
    held = _hold(call, request.frame(call.requester_id, n))
    if held is None:
        return False
    if failure is Failure.TIMEOUT:
        stream.responder.outbox.put_frame(encode(Cancel(stream.responder_id)))
    plane = call.requester.plane
    call.tried(BADLY)
    if plane.flows is not None:
        flow_log.ended(plane.flows, call, stream, FAILED)
    if call.tick:
        plane.deadlines.take(call)
    stream.watch = None
    finish(stream, FAILED)
    call.stream = None
    _later(call, held, delay_s)
    return True


def unsent(call: Call, n: int) -> bool:
    """Who was chosen can take nothing for the moment. Returns whether the request was taken back."""
    request = _request(call)
    if request is None:
        return False
    delay_s = _allowed(call, Failure.UNSENT)
    held = None if delay_s < 0.0 else _hold(call, request.frame(call.requester_id, n))
    if held is None:
        return False
    _later(call, held, delay_s)
    return True


def is_try(call: Call) -> bool:
    """Whether what is up is the time of one try, and not that of the whole request."""
    return call.try_s > 0.0 and (not call.until or call.requester.plane.wake() < call.until)


def _begun(stream: Stream, request: Request) -> bool:
    """Whether something has come of the answer, or more than the request of its caller."""
    if stream.state & (RESPONSE_SERIES | REQUEST_SERIES):
        return True
    down, up = stream.down, stream.up
    if down is not None and down.used > 0:
        return True
    if up is None:
        return False
    # Items of a channel's caller, credit for some, or its end after the request.
    completed = request.head & COMPLETE
    return up.used > 0 or up.grants > 0 or (not completed and stream.state & REQUESTER_DONE != 0)


def _allowed(call: Call, failure: Failure) -> float:
    """How long to wait before the next try, in seconds; below 0: there is none, and that is counted."""
    governed, connection = call.governed, call.requester
    plane = connection.plane
    retries = None if governed is None else governed.retries
    if governed is None or retries is None or connection.closed or connection.draining or plane.draining:
        return -1.0
    assert governed.rule is not None
    if not may_repeat(retries, failure, idempotent=governed.rule.idempotent or _is_marked(call)):
        return -1.0
    counted = governed.state.retries
    if call.attempt > retries.attempts:
        counted["exhausted"] += 1
        return -1.0
    delay_s = backoff_s(retries, call.attempt, plane.random.random())
    if call.until and plane.wake() + delay_s >= call.until:
        counted["no_time"] += 1
        return -1.0
    return delay_s


def _request(call: Call) -> Request | None:
    """As its caller sent it; None where it is not for this node to send it again."""
    return None if call.kept is None else Request(call.kind, call.head, call.n, call.metadata, call.kept)


def _is_marked(call: Call) -> bool:
    return _IDEMPOTENCY_KEY in call.metadata


def _hold(call: Call, frame: bytes) -> Awaiting | None:
    """Have it wait for its turn, within the budget. None where that is used up, or too much waits already."""
    guard, governed = call.guard, call.governed
    assert governed is not None
    try:
        if guard is not None:
            guard.wait()
    except Overloaded:
        return None
    try:
        held = hold(call.requester, call.requester_id, frame)
    except Overloaded:
        if guard is not None:
            guard.waited()
        return None
    # Last: what was taken of the budget is not given back.
    within = governed.state.account.take(call.attempt > 1)
    governed.state.retries["retried" if within else "over_budget"] += 1
    if not within:
        forget(call.requester, call.requester_id)
        if guard is not None:
            guard.waited()
        return None
    # What is left of its caller's deadline counts from when the request came.
    held.since = call.opened_at
    return held


def _later(call: Call, held: Awaiting, delay_s: float) -> None:
    call.attempt += 1
    if call.route is not None:
        call.been = (*call.been, call.route)
    call.requester.plane.later(delay_s, partial(_resume, call, held))


def _resume(call: Call, held: Awaiting) -> None:
    connection = call.requester
    if call.guard is not None:
        call.guard.waited()
    waiting = connection.awaiting
    if connection.closed or waiting is None or waiting.get(call.requester_id) is not held:
        # Its caller has gone, or wants no answer any more.
        call.given_up()
        return
    connection.retried = call
    try:
        release(connection, call.requester_id, held, call.opened_at)
    finally:
        if connection.retried is call:
            # It was refused before anybody was chosen, or nothing governs it any more.
            connection.retried = None
            call.given_up()
