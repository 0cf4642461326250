"""The 24-bit length prefix of RSocket over TCP (RSocket 1.0, "Framing Protocol Usage"). No I/O, no clock.

The prefix counts the frame without itself.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.wire.sink import UNBOUNDED, FrameSink

PREFIX_BYTES = 3


def prefix(length: int) -> bytes:
    """Return the prefix of a frame of `length` bytes (0 to 16,777,215)."""
    return length.to_bytes(PREFIX_BYTES, "big")


class FrameReader:
    """Cuts a TCP stream into frames.

    `sink.frame_received(buffer, start, end)` gets each frame as a span; `on_failure(text)` is called once, after which
    input is dropped. `at_once` bounds the frames that one call of `feed` handles.
    """

    __slots__ = ("_at", "_at_once", "_done", "_on_failure", "_sink", "_tail", "_waiting", "_wanted", "max_frame")

    def __init__(
        self, sink: FrameSink, on_failure: Callable[[str], None], *, max_frame: int, at_once: int = UNBOUNDED
    ) -> None:
        self._sink = sink
        self._on_failure = on_failure
        self.max_frame = max_frame
        #: The frame that is not complete, and the bytes it takes with its prefix; 0 while the prefix is cut, too.
        self._tail = bytearray()
        self._wanted = 0
        #: What `at_once` left for the next call, from `_at` on; there is no tail then.
        self._waiting: bytes | None = None
        self._at = 0
        self._at_once = at_once
        self._done = False

    @property
    def done(self) -> bool:
        return self._done

    @property
    def held(self) -> int:
        """Bytes kept: what waits for the next call, or of one frame never more than `max_frame` and its prefix."""
        return len(self._tail) + (0 if self._waiting is None else len(self._waiting) - self._at)

    def redirect(self, sink: FrameSink) -> None:
        """Give what is cut from now on to another sink, also the rest of what is being fed."""
        self._sink = sink

    def stop(self) -> None:
        """Drop what is buffered and ignore whatever comes."""
        self._done = True
        self._tail.clear()
        self._waiting = None

    def feed(self, data: bytes) -> bool:
        """Take what the socket gave. Returns whether some of it waits for another call, which may bring nothing new."""
        tail = self._tail
        at = 0
        if self._waiting is not None:
            data, at = (self._waiting, self._at) if not data else (self._waiting[self._at :] + data, 0)
            self._waiting = None
        elif tail:
            if len(tail) + len(data) < self._wanted:
                tail += data
                return False
            # A prefix that was cut is looked at with what came, so that its limit holds before the frame is there.
            data = b"".join((tail, data))
            tail.clear()
        size = len(data)
        left = self._at_once
        while size - at >= PREFIX_BYTES:
            if self._done:
                return False
            if left == 0:
                self._waiting = data
                self._at = at
                return True
            left -= 1
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > self.max_frame:
                self.stop()
                self._on_failure(f"frame of {length} bytes is over the limit of {self.max_frame}")
                return False
            end = at + PREFIX_BYTES + length
            if end > size:
                break
            self._sink.frame_received(data, at + PREFIX_BYTES, end)
            at = end
        if at < size and not self._done:
            tail += data[at:] if at else data
            self._wanted = end - at if size - at >= PREFIX_BYTES else 0
        return False
