"""RSocket over TCP: the 24-bit length prefix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.prefix import FrameReader, prefix
from gateway.wire.sink import FrameSink


class Sink(FrameSink):
    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.take = take

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        self.take(bytes(data[start:end]))


def read(chunks: list[bytes], max_frame: int = 1 << 20) -> list[bytes | str]:
    out: list[bytes | str] = []
    reader = FrameReader(Sink(out.append), out.append, max_frame=max_frame)
    for chunk in chunks:
        reader.feed(chunk)
    return out


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_survive_any_split(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(prefix(len(frame)) + frame for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read([chunk for chunk in chunks if chunk]) == frames


def test_byte_by_byte() -> None:
    stream = prefix(5) + b"hello" + prefix(0) + prefix(2) + b"yo"
    assert read([bytes((byte,)) for byte in stream]) == [b"hello", b"", b"yo"]


def test_limit_is_checked_on_the_prefix() -> None:
    assert read([prefix(101)], max_frame=100) == ["frame of 101 bytes is over the limit of 100"]
    assert read([prefix(100) + bytes(100), b"x"], max_frame=100) == [bytes(100)]


@pytest.mark.parametrize("cut", [1, 2])
def test_limit_holds_for_a_prefix_in_two_pieces(cut: int) -> None:
    """Fault 10: wherever its prefix is cut, a frame over the limit is refused before any of it is kept."""
    stream = prefix(101) + bytes(50)
    assert read([stream[:cut], stream[cut:]], max_frame=100) == ["frame of 101 bytes is over the limit of 100"]


def test_what_is_held_is_less_than_a_frame() -> None:
    got: list[bytes] = []
    reader = FrameReader(Sink(got.append), lambda text: None, max_frame=1000)
    stream = prefix(1000) + bytes(1000)
    held = []
    for at in range(len(stream)):
        reader.feed(stream[at : at + 1])
        held.append(reader.held)
    assert got == [bytes(1000)]
    assert held == [*range(1, 1003), 0]


def test_nothing_is_read_after_a_stop() -> None:
    got: list[bytes] = []

    def take(frame: bytes) -> None:
        got.append(frame)
        reader.stop()

    reader = FrameReader(Sink(take), got.append, max_frame=9)
    reader.feed(prefix(1) + b"a" + prefix(1) + b"b" + b"\0")
    reader.feed(prefix(1) + b"c")
    assert got == [b"a"]
    assert reader.done


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30), st.integers(1, 7), st.integers(0, 12))
def test_a_bound_on_frames_at_once(frames: list[bytes], at_once: int, cut: int) -> None:
    """What a call leaves is handled by the next, in order, also where something comes before."""
    stream = b"".join(prefix(len(frame)) + frame for frame in frames)
    got: list[bytes] = []
    reader = FrameReader(Sink(got.append), lambda text: None, max_frame=1000, at_once=at_once)
    waits = reader.feed(stream[:-cut] if cut else stream)
    if waits:
        assert len(got) == at_once
        assert reader.held
    waits = reader.feed(stream[-cut:] if cut else b"")
    while waits:
        before = len(got)
        waits = reader.feed(b"")
        assert len(got) - before <= at_once
    assert got == frames
    assert reader.held == 0


def test_a_stop_drops_what_waits() -> None:
    got: list[bytes] = []
    reader = FrameReader(Sink(got.append), lambda text: None, max_frame=1000, at_once=2)
    assert reader.feed((prefix(1) + b"a") * 5)
    assert reader.held == 3 * 4
    reader.stop()
    assert reader.held == 0
    assert not reader.feed(b"")
    assert got == [b"a", b"a"]
