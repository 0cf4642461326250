"""Cutting messages up and putting them together, within bounds."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import rsocket.frame as stock
from hypothesis import given
from hypothesis import strategies as st
from rsocket.frame_fragment_cache import FrameFragmentCache

from gateway.errors import RequestInvalid
from gateway.wire.codec import decode, encode
from gateway.wire.fragments import MIN_FRAGMENT_BYTES, Reassembly, fragment
from gateway.wire.header import MAX_FRAME_BYTES
from gateway.wire.shapes import (
    Fragmentable,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
)

metadatas = st.none() | st.binary(max_size=400)
contents = st.binary(max_size=400)
messages = st.one_of(
    st.builds(RequestResponse, st.just(1), metadatas, contents),
    st.builds(RequestFnf, st.just(1), metadatas, contents),
    st.builds(RequestStream, st.just(1), metadatas, contents, st.integers(1, 99)),
    st.builds(RequestChannel, st.just(1), metadatas, contents, st.integers(1, 99), st.booleans()),
    st.builds(Payload, st.just(1), metadatas, contents, st.just(False), st.booleans(), st.just(True)),
)


def parts_of(frames: list[bytes]) -> list[Any]:
    return [decode(frame) for frame in frames]


def put_together(frames: list[bytes], assembly: Reassembly | None = None) -> Fragmentable:
    """The message that ``frames`` are; every frame but the last must leave it unfinished."""
    assembly = assembly or Reassembly(1 << 30, 1 << 20)
    *before, last = parts_of(frames)
    for part in before:
        assert assembly.add(part) is None
        assert assembly.pending
    whole = assembly.add(last)
    assert whole is not None
    assert not assembly.pending
    return whole


# Cutting up.


@given(messages, st.integers(64, 200))
def test_fragments_put_together_give_the_message(frame: Fragmentable, mtu: int) -> None:
    assert put_together(fragment(frame, mtu)) == frame


@given(messages, st.integers(64, 200))
def test_fragments_keep_the_rules(frame: Fragmentable, mtu: int) -> None:
    """P40, P42: type and order; every fragment but the last has at least 64 bytes and none is above the MTU."""
    frames = fragment(frame, mtu)
    first, *rest = parts_of(frames)
    assert type(first) is type(frame)
    assert all(type(part) is Payload for part in rest)
    assert all(len(data) <= mtu for data in frames)
    assert all(len(data) >= MIN_FRAGMENT_BYTES for data in frames[:-1])
    assert [part.follows for part in (first, *rest)] == [True] * len(rest) + [False]
    seen_data = False
    for part in (first, *rest):
        assert not (part.metadata is not None and seen_data), "metadata after data"
        seen_data = seen_data or bool(part.data)
    if rest:
        assert not getattr(first, "complete", False)
        assert not any(part.complete for part in rest[:-1])
        assert rest[-1].complete == getattr(frame, "complete", False)
        assert all(part.next for part in rest)


def test_a_message_that_fits_goes_whole() -> None:
    frame = RequestStream(3, b"m" * 20, b"d" * 31, 5)
    assert len(encode(frame)) == 64
    assert fragment(frame, 64) == [encode(frame)]
    assert len(fragment(RequestStream(3, b"m" * 20, b"d" * 32, 5), 64)) == 2


def test_metadata_fills_the_first_fragments() -> None:
    """P40: M on each fragment that carries metadata, and on no other."""
    first, second, third = parts_of(fragment(RequestResponse(1, b"m" * 80, b"d" * 60), 64))
    assert first == RequestResponse(1, b"m" * 55, b"", follows=True)
    assert second == Payload(1, b"m" * 25, b"d" * 30, follows=True, next=True)
    assert third == Payload(1, None, b"d" * 30, next=True)


def test_metadata_that_ends_with_a_fragment_leaves_no_empty_rest() -> None:
    first, second = parts_of(fragment(RequestResponse(1, b"m" * 55, b"d"), 64))
    assert (first.metadata, first.data, second.metadata, second.data) == (b"m" * 55, b"", None, b"d")


def test_empty_metadata_is_kept() -> None:
    frame = RequestResponse(1, b"", b"d" * 100)
    assert put_together(fragment(frame, 64)) == frame


def test_a_payload_without_next_is_cut_without_next() -> None:
    parts = parts_of(fragment(Payload(1, None, b"d" * 100, complete=True), 64))
    assert [(part.next, part.complete) for part in parts] == [(False, False), (False, True)]


def test_a_message_above_16_mib_goes_in_fragments() -> None:
    """P43: what no frame can hold is cut up."""
    frame = RequestResponse(1, b"m" * 10, bytes(MAX_FRAME_BYTES))
    frames = fragment(frame, MAX_FRAME_BYTES)
    assert [len(data) for data in frames] == [MAX_FRAME_BYTES, 6 + 19]
    assert put_together(frames) == frame


def test_fragments_below_64_bytes_are_not_made() -> None:
    """P42, fault 35."""
    with pytest.raises(ValueError, match="below 64"):
        fragment(RequestResponse(1, None, b""), 63)


def test_a_fragment_is_not_cut_again() -> None:
    with pytest.raises(ValueError, match="cannot be fragmented"):
        fragment(Payload(1, None, b"d" * 100, follows=True), 64)


@given(messages.filter(lambda frame: frame.metadata != b""), st.integers(64, 200))
def test_rsocket_py_puts_our_fragments_together(frame: Fragmentable, mtu: int) -> None:
    cache = FrameFragmentCache()
    whole = None
    for data in fragment(frame, mtu):
        whole = cache.append(stock.parse_or_ignore(data))
    assert whole is not None
    assert bytes(whole.metadata or b"") == (frame.metadata or b"")
    assert bytes(whole.data or b"") == frame.data


@given(messages.filter(lambda frame: frame.metadata != b""), st.integers(64, 200))
def test_we_put_fragments_of_rsocket_py_together(frame: Fragmentable, mtu: int) -> None:
    """Its fragments lack C on a request and set N where there are bytes; the bytes must come out right."""
    if not (frame.data or frame.metadata):
        # It loses N on an empty item, which leaves a PAYLOAD that P34 forbids.
        return
    peer: Any = stock.parse_or_ignore(encode(frame))
    peer.fragment_size_bytes = mtu
    frames = []
    while (part := peer.get_next_fragment(False)) is not None:
        frames.append(part.serialize())
    whole = put_together(frames)
    assert (whole.metadata or b"", whole.data) == (frame.metadata or b"", frame.data)


# Putting together.


def big(data: bytes = b"d" * 64, **flags: Any) -> Payload:
    return Payload(1, flags.pop("metadata", None), data, follows=True, **flags)


def test_an_unfragmented_message_comes_straight_back() -> None:
    assembly = Reassembly(1000, 10)
    for frame in (RequestFnf(1, b"md", b"x"), Payload(1, None, b"", next=True), Payload(1, None, b"", complete=True)):
        assert assembly.add(frame) is frame
        assert not assembly.pending


def test_the_last_fragment_may_be_empty_or_short() -> None:
    """P42, fault 35: the 64-byte rule spares the last one."""
    assembly = Reassembly(1000, 10)
    assert assembly.add(RequestFnf(1, None, b"d" * 64, follows=True)) is None
    assert assembly.add(Payload(1, None, b"")) == RequestFnf(1, None, b"d" * 64)


def test_one_object_serves_one_message_after_the_other() -> None:
    assembly = Reassembly(130, 2)
    for _ in range(5):
        assert assembly.add(big()) is None
        assert assembly.add(Payload(1, None, b"end", complete=True)) == Payload(
            1, None, b"d" * 64 + b"end", complete=True, next=True
        )
        assert (assembly.size, assembly.fragments) == (0, 0)


def test_cancel_frees_what_was_gathered() -> None:
    """P41, fault 36."""
    assembly = Reassembly(1000, 10)
    assembly.add(big())
    assert (assembly.pending, assembly.size, assembly.fragments) == (True, 64, 1)
    assembly.clear()
    assert (assembly.pending, assembly.size, assembly.fragments) == (False, 0, 0)
    assert assembly.add(Payload(1, None, b"x", next=True)) == Payload(1, None, b"x", next=True)


def test_complete_of_a_channel_comes_from_its_last_fragment() -> None:
    """P33, P40."""
    assembly = Reassembly(1000, 10)
    assembly.add(RequestChannel(1, None, b"d" * 64, 3, follows=True))
    assert assembly.add(Payload(1, None, b"e", complete=True)) == RequestChannel(1, None, b"d" * 64 + b"e", 3, True)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([Payload(1, None, b"")], "empty_payload"),
        ([Payload(1, None, b"bytes")], "empty_payload"),
        ([big(), RequestResponse(1, None, b"x")], "fragment_order"),
        ([big(), Payload(1, b"md", b"x")], "fragment_order"),
        ([big(b"d" * 57)], "min_fragment_bytes"),
        ([big(b"")], "min_fragment_bytes"),
        ([RequestStream(1, None, b"d" * 53, 1, follows=True)], "min_fragment_bytes"),
        ([big(), big(b"")], "min_fragment_bytes"),
        ([big()] * 5, "max_fragments"),
        ([big()] * 4 + [Payload(1, None, b"")], "max_fragments"),
        ([big(b"d" * 300)] * 2, "max_reassembly_bytes"),
        ([big(b"d" * 200, metadata=b"m" * 200), Payload(1, None, b"d" * 101)], "max_reassembly_bytes"),
        ([RequestFnf(1, b"m" * 500, b"d")], "max_reassembly_bytes"),
    ],
)
def test_a_series_beyond_its_bounds_is_refused_and_dropped(frames: list[Fragmentable], reason: str) -> None:
    """P34, P42, faults 34, 35, 38: ERROR[INVALID] on the stream, and nothing is kept."""
    assembly = Reassembly(500, 4)
    *before, last = frames
    for frame in before:
        assert assembly.add(frame) is None
    with pytest.raises(RequestInvalid) as caught:
        assembly.add(last)
    assert (caught.value.reason, caught.value.code) == (reason, 0x204)
    assert (assembly.pending, assembly.size, assembly.fragments) == (False, 0, 0)


def test_bounds_are_inclusive() -> None:
    assembly = Reassembly(256, 4)
    for _ in range(3):
        assert assembly.add(big()) is None
    assert assembly.add(Payload(1, None, b"d" * 64)) == Payload(1, None, b"d" * 256, next=True)


def test_an_endless_series_holds_no_more_than_its_bound() -> None:
    """Fault 34: 30 MB of fragments without an end leave at most the bound in memory."""
    assembly = Reassembly(1 << 20, 1 << 20)
    refused = 0
    tracemalloc.start()
    try:
        for number in range(480):
            try:
                assembly.add(big(bytes(65_536), next=bool(number % 2)))
            except RequestInvalid:
                refused += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused == 28
    assert peak < 2 << 20


def test_putting_together_copies_each_byte_once() -> None:
    """Fault 37: linear. The parts are joined once, so the peak is the parts and the message, however many parts."""

    def peak_over_size(count: int) -> float:
        assembly = Reassembly(1 << 30, 1 << 20)
        parts = [big(bytes(256)) for _ in range(count)]
        tracemalloc.start()
        try:
            for part in parts:
                assembly.add(part)
            held, _ = tracemalloc.get_traced_memory()
            whole = assembly.add(Payload(1, None, b"end"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert whole is not None
        assert len(whole.data) == count * 256 + 3
        # While it waits it holds references to the parts, not copies of them.
        assert held < count * 16 + 4096
        return peak / (count * 256)

    # bytes.join itself keeps 80 bytes a part while it runs.
    assert peak_over_size(4000) < 1.5
    assert peak_over_size(16_000) < 1.5
