"""One stream crossing the node: the pair of hops (requester, stream id) and (responder, stream id), and its state.

Both connections' tables point at the same object. The ids are kept as the four bytes that replace the first four of
every frame that crosses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.wire.frames import FrameType
from gateway.wire.octets import id_bytes

if TYPE_CHECKING:
    from gateway.forwarding.credit import Credit
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
    """`down` is the credit for the responder's items, `up` for the requester's (channels only)."""

    __slots__ = (
        "down",
        "interaction",
        "opened_at",
        "requester",
        "requester_id",
        "requester_prefix",
        "responder",
        "responder_id",
        "responder_prefix",
        "state",
        "stats",
        "up",
    )

    interaction: int
    requester: Endpoint
    requester_id: int
    requester_prefix: bytes
    responder: Endpoint
    responder_id: int
    responder_prefix: bytes
    stats: ServiceStats
    opened_at: float
    state: int
    down: Credit | None
    up: Credit | None


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
    stream.requester_prefix = id_bytes(requester_id)
    stream.responder = responder
    stream.responder_id = responder_id
    stream.responder_prefix = id_bytes(responder_id)
    stream.stats = stats
    stream.opened_at = opened_at
    stream.state = REQUESTER_DONE
    stream.down = None
    stream.up = None
    return stream
