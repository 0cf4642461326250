"""The peeks and patches of the hot path agree with the codec, on every buffer and at every offset."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FrameError
from gateway.wire.codec import decode, encode
from gateway.wire.header import (
    COMPLETE,
    FOLLOWS,
    HEADER_BYTES,
    IGNORE,
    LEASE,
    MAX_STREAM_ID,
    METADATA,
    NEXT,
    RESPOND,
    RESUME_ENABLE,
    ErrorCode,
    FrameType,
    metadata_span,
    patch_stream_id,
    payload_start,
    peek_error_code,
    peek_flags,
    peek_n,
    peek_stream_id,
    peek_type,
)
from gateway.wire.shapes import Error, Payload, RequestChannel, RequestFnf, RequestN, RequestResponse, RequestStream

from .vectors import load, parameters

VECTORS = load("frames.json")
WITH_PAYLOAD = [vector for vector in VECTORS if vector["type"] in {"PAYLOAD", "REQUEST_RESPONSE", "REQUEST_FNF"}]
WITH_CREDIT = [vector for vector in VECTORS if vector["type"] in {"REQUEST_STREAM", "REQUEST_CHANNEL"}]
MALFORMED = [vector for vector in load("malformed.json") if vector["kind"] == "frame"]

FLAGS = {
    "metadata": METADATA,
    "resume_token": RESUME_ENABLE,
    "lease": LEASE,
    "respond": RESPOND,
    "follows": FOLLOWS,
    "complete": COMPLETE,
    "next": NEXT,
    "ignore": IGNORE,
    "metadata_flag": METADATA,
}


def _within(vector: dict[str, Any]) -> tuple[bytearray, int, int]:
    """The vector's bytes in the middle of a larger buffer, with where they start and end."""
    data = bytes.fromhex(vector["hex"])
    return bytearray(b"\xff\xee\xdd" + data + b"\xcc\xbb"), 3, 3 + len(data)


@pytest.mark.parametrize("vector", parameters(VECTORS))
def test_peeks_see_what_decoding_sees(vector: dict[str, Any]) -> None:
    """P20: the stream id is masked."""
    buf, at, _ = _within(vector)
    for view in (buf, bytes(buf), memoryview(buf)):
        assert peek_stream_id(view, at) == vector.get("stream_id", 0)
        assert peek_type(view, at) == FrameType[vector["type"]]
    if "decode_only" not in vector:
        flags = sum(bit for name, bit in FLAGS.items() if vector.get(name) not in (None, False))
        if vector["type"] == "METADATA_PUSH":
            flags = METADATA
        assert peek_flags(buf, at) == flags


@pytest.mark.parametrize("vector", parameters(WITH_PAYLOAD + WITH_CREDIT))
def test_metadata_span_is_where_decoding_finds_it(vector: dict[str, Any]) -> None:
    buf, start, end = _within(vector)
    for view in (buf, bytes(buf), memoryview(buf)):
        span = metadata_span(view, start, end)
        if vector["metadata"] is None:
            assert span is None
            assert bytes(view[payload_start(view, start) : end]).hex() == vector["data"]
        else:
            assert span is not None
            metadata_start, metadata_end, data_start = span
            assert metadata_start == payload_start(view, start) + 3
            assert bytes(view[metadata_start:metadata_end]).hex() == vector["metadata"]
            assert bytes(view[data_start:end]).hex() == vector["data"]


@pytest.mark.parametrize("vector", parameters(MALFORMED))
def test_spans_and_credits_refuse_what_decoding_refuses(vector: dict[str, Any]) -> None:
    """P24, P30, fault 39: a frame with metadata beyond its end or a bad credit is refused without being decoded."""
    data = bytes.fromhex(vector["hex"])
    kind = vector["name"].split()[0]
    # More bytes behind the frame must not make it whole.
    buf = data + bytes(64)
    if " metadata" in vector["name"] and kind.startswith(("REQUEST", "PAYLOAD")):
        with pytest.raises(FrameError):
            metadata_span(buf, 0, len(data))
    elif kind in {"REQUEST_STREAM", "REQUEST_CHANNEL", "REQUEST_N"} and "stream 0" not in vector["name"]:
        with pytest.raises(FrameError):
            peek_n(buf, 0, len(data))
    elif kind == "ERROR":
        with pytest.raises(FrameError):
            peek_error_code(buf, 0, len(data))


def test_span_of_a_frame_shorter_than_its_own_fields() -> None:
    data = encode(RequestStream(1, None, b"", 1))
    assert metadata_span(data, 0, 10) is None
    with pytest.raises(FrameError, match="cut short"):
        metadata_span(data, 0, 9)


@pytest.mark.parametrize("n", [1, 256, 2**31 - 1])
def test_credit_is_read(n: int) -> None:
    """P30."""
    for frame in (RequestN(1, n), RequestStream(1, b"md", b"", n), RequestChannel(1, None, b"x", n)):
        data = b"\xff" + encode(frame)
        assert peek_n(data, 1, len(data)) == n


@pytest.mark.parametrize("code", [ErrorCode.REJECTED, 0x301, 0xFFFFFFFE])
def test_error_code_is_read(code: int) -> None:
    data = b"\xff" + encode(Error(1, code, "why"))
    assert peek_error_code(data, 1, len(data)) == code


@given(
    st.sampled_from([RequestResponse, RequestFnf, Payload]),
    st.none() | st.binary(max_size=70),
    st.binary(max_size=70),
    st.binary(max_size=9),
)
def test_spans_cut_a_frame_as_decoding_does(cls: Any, metadata: bytes | None, data: bytes, before: bytes) -> None:
    buf = before + encode(cls(1, metadata, data)) + b"after"
    start, end = len(before), len(buf) - 5
    span = metadata_span(buf, start, end)
    if metadata is None:
        assert span is None
        assert buf[payload_start(buf, start) : end] == data
    else:
        assert span is not None
        assert (buf[span[0] : span[1]], buf[span[2] : end]) == (metadata, data)


@given(st.binary(min_size=HEADER_BYTES, max_size=60))
def test_spans_of_random_bytes_stay_within_the_frame(data: bytes) -> None:
    """Fault 39: whatever the bytes, a span lies in order within the frame or is refused."""
    try:
        span = metadata_span(data, 0, len(data))
    except FrameError:
        return
    if span is not None:
        assert HEADER_BYTES <= span[0] <= span[1] == span[2] <= len(data)


@given(st.integers(0, MAX_STREAM_ID), st.integers(0, MAX_STREAM_ID))
def test_patching_changes_the_stream_id_alone(before: int, after: int) -> None:
    frame = Payload(before, b"md", b"data", next=True)
    buf = bytearray(b"\x01" + encode(frame) + b"\x02")
    patch_stream_id(buf, 1, after)
    assert peek_stream_id(buf, 1) == after
    assert decode(buf[1:-1]) == Payload(after, b"md", b"data", next=True)
    assert (buf[0], buf[-1]) == (1, 2)
    patch_stream_id(memoryview(buf), 1, before)
    assert buf[1:-1] == encode(frame)


def test_flag_bits_are_those_of_the_specification() -> None:
    assert (IGNORE, METADATA, FOLLOWS, COMPLETE, NEXT) == (0x200, 0x100, 0x80, 0x40, 0x20)
    assert (RESUME_ENABLE, LEASE, RESPOND) == (0x80, 0x40, 0x80)
