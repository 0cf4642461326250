"""A session on another link: what each side must remember so that nothing is lost, doubled or reordered.

Frames of streams have positions, one count of bytes in each direction (RSocket 1.0, "Implied Position"; P50). A
position always means "everything before this": a side that has received `Received.position` bytes lacks the frame that
begins there. `Retained` keeps what was sent until the peer says that it has it; `judge` compares both sides when the
peer comes back with RESUME.

A link that comes back is taken in this order: `resume_frame`, `ParkedSessions.find`, `judge`; only when all three agree
is the old link dropped, `Retained.trim` forgets what the peer has, RESUME_OK goes out, then `replay_from` the same
position, then whatever is sent from then on. A refusal at any step leaves everything as it was (fault 47). Nothing that
the old link still delivers may be taken after `judge`: the peer sends it again.

A connection that did not ask to resume has none of these objects. Must not know: sockets, clocks, streams, credentials.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from gateway.errors import ConnectionFailed, FrameError, ProtocolError, RejectedResume
from gateway.session.parking import MAX_TOKEN_BYTES
from gateway.wire.frames import HEADER_BYTES, Buffer, ErrorCode, FrameType, Resume, ResumeOk, decode

#: Bytes of sent frames that a session keeps unless its limits say otherwise (fault 48).
RETAINED_BYTES = 256 * 1024

#: P52: CONNECTION_ERROR and REJECTED_RESUME alone may answer a RESUME. What a refusal goes out as, by the code that it
#: was raised with. A client tries again after the first and falls back to a fresh SETUP after the second.
ANSWERS: Mapping[int, type[ProtocolError]] = {
    ErrorCode.INVALID_SETUP: RejectedResume,
    ErrorCode.UNSUPPORTED_SETUP: RejectedResume,
    ErrorCode.REJECTED_SETUP: RejectedResume,
    ErrorCode.REJECTED_RESUME: RejectedResume,
    ErrorCode.CONNECTION_ERROR: ConnectionFailed,
    ErrorCode.CONNECTION_CLOSE: ConnectionFailed,
}

_VERSION = (1, 0)
_MAX_RESUME_BYTES = HEADER_BYTES + 6 + MAX_TOKEN_BYTES + 16
# P50: REQUEST_*, REQUEST_N, CANCEL, PAYLOAD and ERROR have positions, and have no gap between their types.
_FIRST = int(FrameType.REQUEST_RESPONSE)
_LAST = int(FrameType.ERROR)
# The same in the fifth byte of a header, whose upper six bits are the type.
_FIRST_BYTE = _FIRST << 2
_LAST_BYTE = _LAST << 2 | 3
_STREAM_ZERO = (b"\x00\x00\x00\x00", b"\x80\x00\x00\x00")


class Received:
    """How many bytes of tracked frames have come in: what KEEPALIVE, RESUME and RESUME_OK tell the peer (P50)."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = 0

    def take(self, kind: int, stream_id: int, size: int) -> None:
        """Count a frame, unless it has no position. `size` is with its header and without a length prefix.

        Call it with every frame of the peer, also with one that is ignored or refused: the peer has counted it. An
        ERROR on stream 0 is the link's and not counted.
        """
        if stream_id and _FIRST <= kind <= _LAST:
            self.position += size


class Retained:
    """What was sent and the peer has not confirmed, at most `limit` bytes of frames (P54, fault 48).

    `position`: bytes of tracked frames sent so far. `first_available`: where the oldest frame that is kept begins.
    `overflowed`: more than `limit` bytes were unconfirmed; the session cannot be resumed any more, nothing is kept.

    Frames lie end to end in one buffer, with eight bytes each for where they end: a peer that makes the node send the
    smallest of frames makes it hold no more than about three times `limit`.
    """

    __slots__ = ("_asked", "_bounds", "_held", "first_available", "limit", "overflowed", "position")

    def __init__(self, limit: int = RETAINED_BYTES) -> None:
        self.limit = limit
        self.position = 0
        self.first_available = 0
        self.overflowed = False
        self._held = bytearray()
        # Where the first frame that is kept begins, then where each of them ends.
        self._bounds = array("Q", (0,))
        self._asked = False

    @property
    def size(self) -> int:
        """Bytes of frames that are kept."""
        return self.position - self.first_available

    def append(self, frame: bytes) -> None:
        """Take a whole frame as it is sent, without a length prefix; one that has no position is let pass (P50)."""
        if not _FIRST_BYTE <= frame[4] <= _LAST_BYTE or frame[:4] in _STREAM_ZERO:
            return
        position = self.position + len(frame)
        self.position = position
        if self.overflowed:
            self.first_available = position
        elif position - self.first_available <= self.limit:
            self._held += frame
            self._bounds.append(position)
        else:
            self.give_up()

    def give_up(self) -> None:
        """Keep nothing any more, as after an overflow: nobody confirms anything."""
        self.overflowed = True
        self.first_available = self.position
        self._held = bytearray()
        self._bounds = array("Q")

    def should_ask(self) -> bool:
        """Whether to send the peer a KEEPALIVE that asks for its position: half full, and not asked in vain before.

        Clients send their own every 20 s or so, which is too rare for one that streams are sent to.
        """
        size = self.size
        if self._asked or not size or size << 1 < self.limit:
            return False
        self._asked = True
        return True

    def trim(self, position: int) -> None:
        """Forget what the peer says to have received, in its KEEPALIVE or RESUME (P54).

        A position before what is kept says nothing new and is let pass: clients that keep no count send 0, and two
        KEEPALIVEs of one client may overtake each other. Raises ConnectionFailed, and forgets nothing, when the peer
        claims more than was sent, or a part of a frame (fault 47).
        """
        if position <= self.first_available:
            return
        error = self.refusal(position)
        if error is not None:
            raise error
        del self._bounds[: bisect_right(self._bounds, position) - 1]
        del self._held[: position - self.first_available]
        self.first_available = position
        self._asked = False

    def refusal(self, position: int) -> ConnectionFailed | None:
        """Why the peer cannot have received just the bytes before `position`, or cannot get what follows them.

        None when it can. Changes nothing.
        """
        if position > self.position:
            return ConnectionFailed(f"position {position} is beyond {self.position}", reason="resume_beyond_sent")
        if self.overflowed:
            text = f"more than {self.limit} bytes were unconfirmed"
            return ConnectionFailed(text, reason="resume_overflowed")
        if position < self.first_available:
            text = f"frames from {position} are not kept; the first is at {self.first_available}"
            return ConnectionFailed(text, reason="resume_not_retained")
        if self._bounds[bisect_right(self._bounds, position) - 1] != position:
            return ConnectionFailed(f"position {position} is inside a frame", reason="resume_inside_frame")
        return None

    def replay_from(self, position: int) -> Iterator[bytes]:
        """The frames that are kept from `position` on, whole and in order, as they are now.

        Appending and trimming meanwhile do not change what is replayed. Raises ConnectionFailed at once when there is a
        `refusal`: a server has had it from `judge` before; a client learns the position by RESUME_OK.
        """
        error = self.refusal(position)
        if error is not None:
            raise error
        # A question that was on the old link has got no answer.
        self._asked = False
        held = bytes(self._held[position - self.first_available :])
        return _cut(held, self._bounds[bisect_right(self._bounds, position) :], position)


def _cut(held: bytes, ends: array[int], base: int) -> Iterator[bytes]:
    start = 0
    for end in ends:
        yield held[start : end - base]
        start = end - base


def resume_frame(data: Buffer, start: int, end: int) -> Resume:
    """The RESUME that begins a connection, `data[start:end]`, whose type has been looked at.

    Raises RejectedResume for whatever will be as wrong when it is sent again (P52).
    """
    if end - start > _MAX_RESUME_BYTES:
        text = f"RESUME of {end - start} bytes is over the limit of {_MAX_RESUME_BYTES}"
        raise RejectedResume(text, reason="resume_size")
    try:
        frame = decode(data[start:end])
    except FrameError as error:
        raise RejectedResume(error.text, reason="resume_malformed") from None
    assert isinstance(frame, Resume)
    if (frame.major, frame.minor) != _VERSION:
        raise RejectedResume(f"version {frame.major}.{frame.minor} is not supported", reason="resume_version")
    return frame


def judge(frame: Resume, received: Received, retained: Retained) -> ResumeOk:
    """Whether both sides hold what the other lacks (P51); changes nothing (fault 47).

    Raises RejectedResume, with a reason for the counter, when the client no longer has what is missing here, when what
    the client lacks is no longer kept here, or when it claims what cannot be.
    """
    if frame.client_position > received.position:
        raise RejectedResume(
            f"frames from {received.position} are missing; the client has them from {frame.client_position}",
            reason="resume_client_lost",
        )
    error = retained.refusal(frame.server_position)
    if error is not None:
        raise RejectedResume(error.text, reason=error.reason)
    return ResumeOk(received.position)


def answer(error: ProtocolError) -> ProtocolError:
    """What a refusal, whichever step raised it, goes out as when it answers a RESUME (P52)."""
    allowed = ANSWERS[error.code]
    return error if isinstance(error, allowed) else allowed(error.text, reason=error.reason)
