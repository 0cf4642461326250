"""Where frames wait, framed, until they are written. No I/O.

`framing.pyx` is the compiled twin of this file, with the frames in one block of memory instead of a list of byte
strings; it is built over it where there is a compiler, and one test suite runs on both.
"""

from __future__ import annotations

from gateway.wire.prefix import prefix as tcp_prefix
from gateway.wire.websocket import SHORT_HEADERS, masked_header
from gateway.wire.websocket import header as websocket_header


class FrameBuffer:
    """Frames that wait to be written, framed, in the order in which they were put.

    `prefixed`: a 24-bit length before each frame (TCP); otherwise one binary message each (WebSocket), unmasked, or
    with `masked` under a mask of zeros, as the side that dialled must send it and without cost to the bytes. `size`
    grows by each frame's length and is otherwise the subclass's to keep. `touched` is called by the first put after
    `take`.
    """

    __slots__ = ("_parts", "masked", "prefixed", "size", "untouched")

    def __init__(self, prefixed: bool) -> None:
        self.prefixed = prefixed
        self.masked = False
        self.size = 0
        self.untouched = True
        self._parts: list[bytes] = []

    def put(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Append the frame made of its stream id and `data[start:end]`."""
        length = end - start + 4
        prefix = stream_id.to_bytes(4, "big")
        self._parts.append(self._framing(length) + prefix + data[start:end])
        self.size += length
        if self.untouched:
            self.untouched = False
            self.touched()

    def put_request(self, stream_id: int, head: bytes, metadata: bytes, data: bytes, start: int, end: int) -> None:
        """Append a request frame: stream id, type and flags with credit, metadata with its length, data."""
        prefix = stream_id.to_bytes(4, "big")
        length = 4 + len(head) + len(metadata) + end - start
        self._parts.append(self._framing(length) + prefix + head + metadata + data[start:end])
        self.size += length
        if self.untouched:
            self.untouched = False
            self.touched()

    def _framing(self, length: int) -> bytes:
        if self.prefixed:
            return tcp_prefix(length)
        if self.masked:
            return masked_header(length)
        return SHORT_HEADERS[length] if length < 126 else websocket_header(length)

    def put_frame(self, frame: bytes) -> None:
        """Append a whole frame."""
        self.put(int.from_bytes(frame[:4], "big"), frame, 4, len(frame))

    def touched(self) -> None:
        """The buffer holds something to write."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Bytes that `take` would give."""
        return sum(map(len, self._parts))

    @property
    def frames(self) -> int:
        """Frames that `take` would give."""
        return len(self._parts)

    def take(self) -> bytes:
        """Everything that waits, as it goes on the wire."""
        data = b"".join(self._parts)
        self._parts = []
        self.untouched = True
        return data
