"""One stream crossing the node: the pair of hops (requester, stream id) and (responder, stream id), and its state.

Both connections' tables point at the same object. `stream.pyx` is the compiled twin of this file, built over it where
there is a compiler; one test suite runs on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.credit import Credit
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.observe.metrics import ServiceStats

# Plain ints: compared on every frame.
REQUEST_RESPONSE = int(FrameType.REQUEST_RESPONSE)
REQUEST_FNF = int(FrameType.REQUEST_FNF)
REQUEST_STREAM = int(FrameType.REQUEST_STREAM)
REQUEST_CHANNEL = int(FrameType.REQUEST_CHANNEL)

# Bits of `Stream.state`.
REQUEST_UNFINISHED = 1  # the request itself came in fragments and its last one is still due
REQUESTER_DONE = 2  # the requester sends nothing more
RESPONDER_DONE = 4  # the responder sends nothing more
REQUEST_SERIES = 8  # inside a series of fragments from the requester
RESPONSE_SERIES = 16  # inside a series of fragments from the responder


class Stream:
    """`down` is the credit for the responder's items, `up` for the requester's (channels only).

    `coming`, `answering`: bytes of the unfinished message in fragments from the requester and from the responder.
    `watch`: who is told of its end; mostly nobody. `decision`: what it was opened by; None where the node opens it.
    """

    __slots__ = (
        "answering",
        "coming",
        "decision",
        "down",
        "interaction",
        "opened_at",
        "requester",
        "requester_id",
        "responder",
        "responder_id",
        "state",
        "stats",
        "up",
        "watch",
    )

    interaction: int
    requester: Endpoint
    requester_id: int
    responder: Endpoint
    responder_id: int
    stats: ServiceStats
    opened_at: float
    coming: int
    answering: int
    decision: Decision | None
    state: int
    down: Credit | None
    up: Credit | None
    watch: Call | None


def new_stream(
    interaction: int,
    requester: Endpoint,
    requester_id: int,
    responder: Endpoint,
    responder_id: int,
    stats: ServiceStats,
    opened_at: float,
) -> Stream:
    """Make a stream whose requester has said all that it will; who knows better changes `state`.

    A function, because a constructor's arguments cross into compiled code boxed and this runs once a request.
    """
    stream = Stream.__new__(Stream)
    stream.interaction = interaction
    stream.requester = requester
    stream.requester_id = requester_id
    stream.responder = responder
    stream.responder_id = responder_id
    stream.stats = stats
    stream.opened_at = opened_at
    stream.state = REQUESTER_DONE
    stream.coming = 0
    stream.answering = 0
    stream.down = None
    stream.up = None
    stream.watch = None
    stream.decision = None
    return stream
