"""Frames that wait to be written: order, framing and sizes, by both twins of the buffer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.framing import FrameBuffer
from gateway.wire.prefix import prefix
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import header


class Touched(FrameBuffer):
    def __init__(self, prefixed: bool) -> None:
        super().__init__(prefixed)
        self.touches = 0

    def touched(self) -> None:
        self.touches += 1


def framed(frame: bytes, prefixed: bool) -> bytes:
    return (prefix(len(frame)) if prefixed else header(len(frame))) + frame


@given(st.booleans(), st.lists(st.tuples(st.binary(min_size=4, max_size=300), st.booleans()), max_size=20))
def test_frames_leave_in_order(prefixed: bool, frames: list[tuple[bytes, bool]]) -> None:
    buffer = Touched(prefixed)
    for frame, as_request in frames:
        if as_request:
            third = len(frame[4:]) // 3
            buffer.put_request(
                int.from_bytes(frame[:4], "big"),
                frame[4 : 4 + third],
                frame[4 + third : 4 + 2 * third],
                frame,
                4 + 2 * third,
                len(frame),
            )
        else:
            buffer.put_frame(frame)
    expected = b"".join(framed(frame, prefixed) for frame, _ in frames)
    assert (buffer.frames, buffer.waiting) == (len(frames), len(expected))
    assert buffer.size == sum(len(frame) for frame, _ in frames)
    assert buffer.take() == expected
    assert (buffer.frames, buffer.waiting) == (0, 0)


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("size", [4, 125, 126, 65535, 65536, 1 << 20])
def test_every_length_form(size: int, prefixed: bool) -> None:
    frame = bytes(range(256)) * (size // 256 + 1)
    frame = frame[:size]
    buffer = Touched(prefixed)
    buffer.put(0x00010203, frame, 4, size)
    buffer.put_request(0x00010203, b"", b"", frame, 4, size)
    assert buffer.take() == framed(frame, prefixed) * 2


def test_touched_once_between_takes() -> None:
    buffer = Touched(False)
    for _ in range(3):
        buffer.put_frame(b"abcdef")
        buffer.put_frame(b"abcdef")
        buffer.take()
    assert buffer.touches == 3


def test_a_sink_and_a_buffer_are_for_subclasses() -> None:
    with pytest.raises(NotImplementedError):
        FrameSink().frame_received(b"", 0, 0)
    with pytest.raises(NotImplementedError):
        FrameBuffer(False).put_frame(b"abcd")
