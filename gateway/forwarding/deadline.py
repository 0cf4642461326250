"""How long the caller of a request still waits for its answer, and what this node takes off that.

    message/x.gateway.deadline.v0     u32: milliseconds that are left

Time left and no time of day: the clocks of nodes differ. Each node takes off what it has held the request for, and for
a link half of its round trip, at least 1 ms, so that it shrinks at every hop (federation, "Links"). What has nothing
left is answered with an error and goes nowhere; what is under way when nothing is left is ended there and then. A
request without the entry costs nothing: the entry differs from request to request, so it is seen only where metadata is
read that no cache answers for. The `timeout` of a `Service` document is put in at the node of the caller.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Final

from gateway.errors import DeadlineExceeded, FrameError, RequestInvalid
from gateway.forwarding.links import LOCAL
from gateway.wire.frames import metadata_span
from gateway.wire.metadata import encode_composite, iter_composite
from gateway.wire.mimetypes import DEADLINE

if TYPE_CHECKING:
    from gateway.forwarding.endpoint import Endpoint

BYTES: Final = 4
_NAME: Final = DEADLINE.encode()
_ENTRY: Final = encode_composite([(DEADLINE, bytes(BYTES))])[:-BYTES]
_MOST_MS: Final = 0xFFFFFFFF


def content_at(start: int, end: int, before: int) -> int:
    """Where the content of a deadline entry is; `before`: where another one was. Raises RequestInvalid."""
    if end - start != BYTES or before:
        raise RequestInvalid("a request has one deadline, of 32 bits", reason="deadline_malformed")
    return start


def check(metadata: bytes, at: int) -> None:
    """Raises DeadlineExceeded for a request whose caller does not wait any more."""
    if not _left_ms(metadata, at):
        raise DeadlineExceeded("deadline exceeded before it came here")


def until(metadata: bytes, at: int, now: float) -> float:
    """When a request that has a deadline is over, by the clock that says `now`."""
    return now + _left_ms(metadata, at) / 1000


def onward_ms(until: float, now: float, target: Endpoint) -> int:
    """What is left of a request when it has come to `target`. Raises DeadlineExceeded when the answer could not be back
    in time."""
    # To the nearest: what came as whole milliseconds goes on as it came.
    left_ms = int((until - now) * 1000 + 0.5)
    if target.side != LOCAL:
        links = target.plane.links
        way_s = 0.0 if links is None else links.way_s(target)
        left_ms -= max(1, ceil(way_s * 1000))
        if left_ms <= 0:
            raise DeadlineExceeded("deadline exceeded: too little is left for the way to the next node")
    elif left_ms <= 0:
        raise DeadlineExceeded("deadline exceeded before it was sent")
    return min(left_ms, _MOST_MS)


def onward(metadata: bytes, at: int, left_ms: int) -> bytes:
    """The metadata of a request that has a deadline, as it goes on."""
    return _with(metadata, at, left_ms)


def entered(section: bytes, left_ms: int) -> bytes:
    """A metadata section (its length, then composite metadata) with an entry at its end."""
    metadata = section[3:] + _ENTRY + left_ms.to_bytes(BYTES, "big")
    return len(metadata).to_bytes(3, "big") + metadata


def entered_anew(section: bytes, left_ms: int) -> bytes:
    """A section that has the entry at its end, with another content."""
    return section[:-BYTES] + left_ms.to_bytes(BYTES, "big")


def aged(metadata: bytes, start: int, end: int, held_s: float) -> bytes:
    """Composite `metadata[start:end]`, in whatever is around it, after this node has held it for so long."""
    at = _find(metadata, start, end)
    return metadata if not at else _with(metadata, at, max(0, _left_ms(metadata, at) - ceil(held_s * 1000)))


def aged_frame(frame: bytes, held_s: float) -> bytes:
    """A request frame after this node has held it for so long."""
    span = metadata_span(frame, 0, len(frame)) if _NAME in frame else None
    return frame if span is None else aged(frame, span[0], span[1], held_s)


def left_s(frame: bytes) -> float:
    """What a request frame has left; without a deadline as long as it takes."""
    span = metadata_span(frame, 0, len(frame)) if _NAME in frame else None
    at = 0 if span is None else _find(frame, span[0], span[1])
    return _left_ms(frame, at) / 1000 if at else inf


def _find(data: bytes, start: int, end: int) -> int:
    """Where the content is; 0: there is none."""
    try:
        for entry in iter_composite(data, start, end):
            if entry.mime == DEADLINE and entry.end - entry.content_start == BYTES:
                return entry.content_start
    except FrameError:
        # Whoever reads it for what it is says so.
        pass
    return 0


def _left_ms(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + BYTES], "big")


def _with(data: bytes, at: int, left_ms: int) -> bytes:
    return data[:at] + left_ms.to_bytes(BYTES, "big") + data[at + BYTES :]
