"""Frames of one peer that belong to no stream: what is forgiven, what is metered, and when it is enough (P22, P41).

When one side ends a stream, frames of the other are already under way: items that it had credit for, the rest of a
message in fragments, a REQUEST_N or CANCEL that crosses the end. They are no offence, and there may be many of them;
were they metered, a caller that cancels large responses could have an innocent responder closed. So every ended stream
excuses as many frames as its peers may have sent by then. What is not excused is ignored, too, but on a budget
(faults 22, 41 to 43).
"""

from __future__ import annotations

from gateway.errors import ConnectionFailed
from gateway.policy.limits import LimitsProfile
from gateway.wire.frames import COMPLETE, FOLLOWS

#: Series of fragments that are remembered as dropped; the oldest goes first.
_MAX_SERIES = 64
#: More than a peer can have under way.
_MAX_EXCUSED = 1 << 20


class Strays:
    """`excused`: frames that may still come for streams that have ended; whoever ends a stream adds to it."""

    __slots__ = ("_bytes", "_frames", "_series", "_since", "excused")

    def __init__(self, now: float) -> None:
        self.excused = 0
        self._series: dict[int, int] | None = None
        self._since = now
        self._frames = 0
        self._bytes = 0

    def drop_rest(self, stream_id: int, limits: LimitsProfile) -> None:
        """The message that this stream is in the middle of goes nowhere: its further fragments are forgiven, up to the
        size of a message."""
        series = self._series
        if series is None:
            series = self._series = {}
        elif len(series) >= _MAX_SERIES:
            del series[next(iter(series))]
        series[stream_id] = limits.max_reassembly_bytes

    def forget(self, stream_id: int) -> bool:
        """No more fragments come: the peer canceled the stream, or uses its id anew. False if none were awaited."""
        return self._series is not None and self._series.pop(stream_id, None) is not None

    def payload(self, stream_id: int, head: int, size: int, limits: LimitsProfile, now: float) -> None:
        """A PAYLOAD of `size` bytes for no stream. Raises ConnectionFailed when the budget is spent."""
        follows = head & (FOLLOWS | COMPLETE) == FOLLOWS
        series = self._series
        left = None if series is None else series.get(stream_id)
        if left is not None:
            assert series is not None
            left -= size
            if follows and left >= 0:
                series[stream_id] = left
                return
            del series[stream_id]
            if left >= 0:
                return
        elif follows and self.excused > 0:
            self.drop_rest(stream_id, limits)
        self.meter(size, limits, now)

    def meter(self, size: int, limits: LimitsProfile, now: float) -> None:
        """A frame of `size` bytes that means nothing. Raises ConnectionFailed when the budget is spent."""
        if self.excused > 0:
            self.excused = min(self.excused, _MAX_EXCUSED) - 1
            return
        if not limits.ignored_frames:
            return
        if now - self._since > limits.ignored_window_s:
            self._since = now
            self._frames = self._bytes = 0
        self._frames += 1
        self._bytes += size
        if self._frames > limits.ignored_frames or self._bytes > limits.ignored_bytes:
            raise ConnectionFailed("too many frames that mean nothing", reason="ignored_frames")
