"""The 24-bit length prefix of RSocket over TCP (RSocket 1.0, "Framing Protocol Usage"). No I/O, no clock.

The prefix counts the frame without itself.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.wire.sink import FrameSink

PREFIX_BYTES = 3


def prefix(length: int) -> bytes:
    """Return the prefix of a frame of `length` bytes (0 to 16,777,215)."""
    return length.to_bytes(PREFIX_BYTES, "big")


class FrameReader:
    """Cuts a TCP stream into frames.

    `sink.frame_received(buffer, start, end)` gets each frame as a span; `on_failure(text)` is called once, after which
    input is dropped.
    """

    __slots__ = ("_done", "_on_failure", "_sink", "_tail", "_wanted", "max_frame")

    def __init__(self, sink: FrameSink, on_failure: Callable[[str], None], *, max_frame: int) -> None:
        self._sink = sink
        self._on_failure = on_failure
        self.max_frame = max_frame
        #: The frame that is not complete, and the bytes it takes with its prefix; 0 while the prefix is cut, too.
        self._tail = bytearray()
        self._wanted = 0
        self._done = False

    @property
    def done(self) -> bool:
        return self._done

    @property
    def held(self) -> int:
        """Bytes kept for a frame that is not complete: never more than `max_frame` and its prefix."""
        return len(self._tail)

    def redirect(self, sink: FrameSink) -> None:
        """Give what is cut from now on to another sink, also the rest of what is being fed."""
        self._sink = sink

    def stop(self) -> None:
        """Drop what is buffered and ignore whatever comes."""
        self._done = True
        self._tail.clear()

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        tail = self._tail
        if tail:
            if len(tail) + len(data) < self._wanted:
                tail += data
                return
            # A prefix that was cut is looked at with what came, so that its limit holds before the frame is there.
            data = b"".join((tail, data))
            tail.clear()
        at = 0
        size = len(data)
        while size - at >= PREFIX_BYTES:
            if self._done:
                return
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > self.max_frame:
                self.stop()
                self._on_failure(f"frame of {length} bytes is over the limit of {self.max_frame}")
                return
            end = at + PREFIX_BYTES + length
            if end > size:
                break
            self._sink.frame_received(data, at + PREFIX_BYTES, end)
            at = end
        if at < size and not self._done:
            tail += data[at:] if at else data
            self._wanted = end - at if size - at >= PREFIX_BYTES else 0
