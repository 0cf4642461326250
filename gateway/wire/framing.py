"""Where frames wait, framed, until they are written. No I/O.

`framing.pyx` is the compiled twin of this file, with the frames in one block of memory instead of a list of byte
strings; it is built over it where there is a compiler, and one test suite runs on both.
"""

from __future__ import annotations

from gateway.wire.prefix import prefix as tcp_prefix
from gateway.wire.websocket import SHORT_HEADERS
from gateway.wire.websocket import header as websocket_header


class FrameBuffer:
    """Frames that wait to be written, framed, in the order in which they were put.

    `prefixed`: a 24-bit length before each frame (TCP); otherwise one unmasked binary message each (WebSocket). `size`
    grows by each frame's length and is otherwise the subclass's to keep. `touched` is called by the first put after
    `take`.
    """

    __slots__ = ("_parts", "prefixed", "size", "untouched")

    def __init__(self, prefixed: bool) -> None:
        self.prefixed = prefixed
        self.size = 0
        self.untouched = True
        self._parts: list[bytes] = []

    def put(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Append the frame made of its stream id and `data[start:end]`."""
        length = end - start + 4
        prefix = stream_id.to_bytes(4, "big")
        if self.prefixed:
            self._parts.append(tcp_prefix(length) + prefix + data[start:end])
        elif length < 126:
            self._parts.append(SHORT_HEADERS[length] + prefix + data[start:end])
        else:
            self._parts.append(websocket_header(length) + prefix + data[start:end])
        self.size += length
        if self.untouched:
            self.untouched = False
            self.touched()

    def put_request(self, stream_id: int, head: bytes, metadata: bytes, data: bytes, start: int, end: int) -> None:
        """Append a request frame: stream id, type and flags with credit, metadata with its length, data."""
        prefix = stream_id.to_bytes(4, "big")
        length = 4 + len(head) + len(metadata) + end - start
        if self.prefixed:
            framing = tcp_prefix(length)
        elif length < 126:
            framing = SHORT_HEADERS[length]
        else:
            framing = websocket_header(length)
        self._parts.append(framing + prefix + head + metadata + data[start:end])
        self.size += length
        if self.untouched:
            self.untouched = False
            self.touched()

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
