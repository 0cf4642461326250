"""Where the frames that a reader cuts go. The seam between framing and the data plane, typed for both."""

from __future__ import annotations

from typing import Final

#: For a reader that cuts whatever it is given in one go.
UNBOUNDED: Final = -1


class FrameSink:
    """Whoever takes the frames that a reader cuts. `pending`: requests that it has yet to answer, a balancer's load."""

    __slots__ = ("pending",)

    pending: int

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        """Take one whole frame, `data[start:end]`; the buffer must not be kept beyond the call."""
        raise NotImplementedError
