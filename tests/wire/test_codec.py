"""Every RSocket 1.0 frame: golden vectors, round trips, what is refused, and rsocket-py as a second opinion."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields, replace
from typing import Any

import pytest
import rsocket.frame as stock
from hypothesis import given
from hypothesis import strategies as st
from rsocket.error_codes import ErrorCode as StockErrorCode

from gateway.errors import InvalidSetup
from gateway.wire.codec import decode, encode
from gateway.wire.header import MAX_FRAME_BYTES, MAX_REQUEST_N, MAX_STREAM_ID, ErrorCode, FrameType, patch_stream_id
from gateway.wire.shapes import (
    Cancel,
    Error,
    Extension,
    Frame,
    KeepAlive,
    Lease,
    MalformedFrame,
    MetadataPush,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    Resume,
    ResumeOk,
    Setup,
    UnknownFrame,
)

from .vectors import FRAMES, frame_of, load, parameters

VECTORS = load("frames.json")
ROUND_TRIPS = [vector for vector in VECTORS if "decode_only" not in vector]
MALFORMED = [vector for vector in load("malformed.json") if vector["kind"] == "frame"]

MAX_U31 = 2**31 - 1
MAX_U63 = 2**63 - 1

stream_ids = st.integers(0, MAX_STREAM_ID)
request_ids = st.integers(1, MAX_STREAM_ID)
u31 = st.integers(0, MAX_U31)
positive_u31 = st.integers(1, MAX_U31)
u63 = st.integers(0, MAX_U63)
u16 = st.integers(0, 0xFFFF)
contents = st.binary(max_size=300)
metadatas = st.none() | contents
mimes = st.text(st.characters(max_codepoint=0x7F), max_size=255)

SHAPES: dict[FrameType, st.SearchStrategy[Any]] = {
    FrameType.SETUP: st.builds(
        Setup, positive_u31, positive_u31, mimes, mimes, metadatas, contents, metadatas, st.booleans(), u16, u16
    ),
    FrameType.LEASE: st.builds(Lease, u31, u31, metadatas),
    FrameType.KEEPALIVE: st.builds(KeepAlive, st.booleans(), u63, contents),
    FrameType.REQUEST_RESPONSE: st.builds(RequestResponse, request_ids, metadatas, contents, st.booleans()),
    FrameType.REQUEST_FNF: st.builds(RequestFnf, request_ids, metadatas, contents, st.booleans()),
    FrameType.REQUEST_STREAM: st.builds(RequestStream, request_ids, metadatas, contents, positive_u31, st.booleans()),
    FrameType.REQUEST_CHANNEL: st.builds(
        RequestChannel, request_ids, metadatas, contents, positive_u31, st.booleans(), st.booleans()
    ).filter(lambda frame: not (frame.complete and frame.follows)),
    FrameType.REQUEST_N: st.builds(RequestN, stream_ids, positive_u31),
    FrameType.CANCEL: st.builds(Cancel, stream_ids),
    FrameType.PAYLOAD: st.builds(
        Payload, stream_ids, metadatas, contents, st.booleans(), st.booleans(), st.booleans()
    ).filter(lambda frame: not (frame.complete and frame.follows)),
    FrameType.ERROR: st.builds(Error, stream_ids, st.integers(0, 0xFFFFFFFF), st.text(max_size=80)),
    FrameType.METADATA_PUSH: st.builds(MetadataPush, contents),
    FrameType.RESUME: st.builds(Resume, contents, u63, u63, u16, u16),
    FrameType.RESUME_OK: st.builds(ResumeOk, u63),
    FrameType.EXT: st.builds(Extension, stream_ids, st.booleans(), st.booleans(), positive_u31, contents),
}
any_frame = st.one_of(*SHAPES.values())


# Golden vectors.


@pytest.mark.parametrize("vector", parameters(VECTORS))
def test_vector_decodes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    expected = frame_of(vector)
    assert decode(data) == expected
    assert decode(bytearray(data)) == expected
    assert decode(memoryview(data)) == expected


@pytest.mark.parametrize("vector", parameters(ROUND_TRIPS))
def test_vector_encodes(vector: dict[str, Any]) -> None:
    assert encode(frame_of(vector)).hex() == vector["hex"]


def test_every_frame_type_and_flag_has_a_vector() -> None:
    assert {vector["type"] for vector in VECTORS} == set(FRAMES) == {kind.name for kind in FrameType}
    for cls in FRAMES.values():
        for field in fields(cls):
            if field.type == "bool":
                seen = {vector[field.name] for vector in VECTORS if FRAMES[vector["type"]] is cls}
                assert seen == {True, False}, (cls, field.name)


@pytest.mark.parametrize("vector", parameters(MALFORMED))
def test_malformed_vector_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    """P01, P08, P22, P23, P24, P30, fault 39: malformed bytes end in the error that the vector names."""
    for data in (bytes.fromhex(vector["hex"]), bytearray.fromhex(vector["hex"])):
        with pytest.raises((MalformedFrame, InvalidSetup)) as caught:
            decode(data)
        assert caught.value.code == vector["code"]
        assert getattr(caught.value, "ignore", False) is vector["ignore"]
        assert caught.value.text


# Single rules.


def test_versions_are_left_to_the_session() -> None:
    """P04: a version that is not served decodes all the same."""
    frame = Setup(1, 1, "a/b", "a/b", major=2, minor=7)
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize("length", [0, 1, 127, 128, 200, 255])
def test_mime_length_is_unsigned(length: int) -> None:
    """P08: MIME lengths above 127 are not negative."""
    frame = Setup(20_000, 90_000, "m" * length, "d" * length, metadata=b"md", data=b"data")
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize("kind", [kind for kind in FrameType if kind is not FrameType.SETUP])
def test_top_bit_of_the_stream_id_is_masked(kind: FrameType) -> None:
    """P20: the reserved bit says nothing."""
    for vector in VECTORS:
        if vector["type"] == kind.name:
            data = bytearray.fromhex(vector["hex"])
            patch_stream_id(data, 0, int.from_bytes(data[:4], "big") | 0x80000000)
            assert decode(data) == frame_of(vector)


@pytest.mark.parametrize("kind", range(64))
@pytest.mark.parametrize("ignore", [False, True])
def test_unknown_types_say_whether_to_ignore_them(kind: int, ignore: bool) -> None:
    """P23: an unknown type with I is dropped, without I it ends the connection."""
    data = bytes(4) + (kind << 10 | (0x200 if ignore else 0)).to_bytes(2, "big")
    if kind in set(FrameType):
        return
    with pytest.raises(UnknownFrame) as caught:
        decode(data + b"anything")
    assert (caught.value.type, caught.value.ignore, caught.value.code) == (kind, ignore, 0x101)


@pytest.mark.parametrize("code", [0x000, 0x201, 0x301, 0x12345, 0xFFFFFFFE, 0xFFFFFFFF])
def test_error_codes_of_applications_survive(code: int) -> None:
    """0x301 to 0xFFFFFFFE must be relayed intact (RSocket 1.0, "Error Codes")."""
    decoded = decode(encode(Error(7, code, "why")))
    assert decoded == Error(7, code, "why")


def test_next_with_no_bytes_is_an_item() -> None:
    """P34: N with zero bytes is a real item, and encoding does not add N where there is none."""
    assert decode(encode(Payload(1, None, b"", next=True))) == Payload(1, None, b"", next=True)
    assert decode(encode(Payload(1, None, b"", complete=True))) == Payload(1, None, b"", complete=True)


def test_complete_wins_over_follows() -> None:
    """P34, fault 38: with both F and C set, F is ignored."""
    payload = bytearray(encode(Payload(1, None, b"x", complete=True, next=True)))
    payload[5] |= 0x80
    assert decode(payload) == Payload(1, None, b"x", complete=True, next=True)
    channel = bytearray(encode(RequestChannel(1, None, b"x", 1, complete=True)))
    channel[5] |= 0x80
    assert decode(channel) == RequestChannel(1, None, b"x", 1, complete=True)


def test_metadata_ending_exactly_at_the_frame_is_whole() -> None:
    """P24: the boundary itself is legal, one byte less is not."""
    data = encode(RequestResponse(1, b"metadata", b""))
    assert decode(data) == RequestResponse(1, b"metadata", b"")
    with pytest.raises(MalformedFrame):
        decode(data[:-1])


def test_empty_metadata_is_not_missing_metadata() -> None:
    assert decode(encode(RequestResponse(1, b"", b"x"))) == RequestResponse(1, b"", b"x")
    assert decode(encode(RequestResponse(1, None, b"x"))) == RequestResponse(1, None, b"x")


# What cannot be encoded.


@pytest.mark.parametrize(
    "frame",
    [
        Setup(0, 1, "a", "b"),
        Setup(1, 0, "a", "b"),
        Setup(2**31, 1, "a", "b"),
        Setup(1, 2**31, "a", "b"),
        Setup(1, 1, "a" * 256, "b"),
        Setup(1, 1, "a", "b" * 256),
        Setup(1, 1, "ä", "b"),
        Setup(1, 1, "a", "b", resume_token=bytes(65_536)),
        Setup(1, 1, "a", "b", major=65_536),
        Setup(1, 1, "a", "b", minor=-1),
        Lease(-1, 1),
        Lease(1, 2**31),
        KeepAlive(True, 2**63),
        KeepAlive(True, -1),
        RequestResponse(0, None, b""),
        RequestResponse(2**31, None, b""),
        RequestFnf(0, None, b""),
        RequestStream(0, None, b"", 1),
        RequestStream(1, None, b"", 0),
        RequestStream(1, None, b"", 2**31),
        RequestChannel(0, None, b"", 1),
        RequestChannel(1, None, b"", 0),
        RequestChannel(1, None, b"", 1, complete=True, follows=True),
        RequestN(1, 0),
        RequestN(1, 2**31),
        RequestN(-1, 1),
        Cancel(2**31),
        Payload(2**31, None, b""),
        Payload(1, None, b"", follows=True, complete=True),
        Error(1, -1),
        Error(1, 2**32),
        Resume(bytes(65_536), 0, 0),
        Resume(b"", 2**63, 0),
        Resume(b"", 0, 2**63),
        Resume(b"", 0, 0, major=65_536),
        Resume(b"", 0, 0, minor=65_536),
        ResumeOk(2**63),
        Extension(1, False, False, 0),
        Extension(1, False, False, 2**31),
    ],
    ids=repr,
)
def test_values_beyond_their_field_are_refused(frame: Frame) -> None:
    """P30 and the widths of the header: encode raises ValueError instead of writing something else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs by field
        encode(frame)


def test_a_frame_above_16_mib_is_refused() -> None:
    """P43: outbound above 16,777,215 bytes is never sent."""
    largest = RequestResponse(1, None, bytes(MAX_FRAME_BYTES - 6))
    assert len(encode(largest)) == MAX_FRAME_BYTES
    with pytest.raises(ValueError, match="fragment it"):
        encode(replace(largest, data=bytes(MAX_FRAME_BYTES - 5)))
    with pytest.raises(ValueError, match="metadata length"):
        encode(replace(largest, metadata=bytes(MAX_FRAME_BYTES + 1)))


# Properties.


@given(any_frame)
def test_encoding_then_decoding_gives_the_frame(frame: Frame) -> None:
    data = encode(frame)
    assert decode(data) == frame
    assert encode(decode(memoryview(data))) == data


@pytest.mark.parametrize("kind", list(FrameType))
def test_each_shape_round_trips(kind: FrameType) -> None:
    @given(SHAPES[kind])
    def round_trip(frame: Frame) -> None:
        assert frame.frame_type is kind
        assert decode(encode(frame)) == frame

    round_trip()


def _decode_or_refuse(data: bytes) -> Frame | None:
    try:
        return decode(data)
    except (MalformedFrame, InvalidSetup):
        return None


@given(st.binary(max_size=200))
def test_random_bytes_give_a_frame_or_a_documented_error(data: bytes) -> None:
    frame = _decode_or_refuse(data)
    if frame is not None:
        assert decode(encode(frame)) == frame


@given(st.sampled_from(list(FrameType)), st.integers(0, 0x3FF), st.booleans(), st.binary(max_size=80))
def test_random_bodies_give_a_frame_or_a_documented_error(
    kind: FrameType, flags: int, on_zero: bool, body: bytes
) -> None:
    data = (0 if on_zero else 1).to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big") + body
    frame = _decode_or_refuse(data)
    if frame is not None:
        assert decode(encode(frame)) == frame


@given(any_frame, st.data())
def test_damaged_frames_give_a_frame_or_a_documented_error(frame: Frame, data: st.DataObject) -> None:
    """Fault 39: a frame cut anywhere or with any byte changed never gives anything but a frame or its error."""
    whole = bytearray(encode(frame))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_decoding_copies_no_more_than_the_frame() -> None:
    """Decoding is linear: each byte is copied at most once, so a frame of 8 MiB costs no more than 8 MiB."""
    size = 8 * 1024 * 1024
    data = memoryview(encode(RequestResponse(1, bytes(size // 2), bytes(size // 2))))
    tracemalloc.start()
    try:
        frame = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(frame, RequestResponse)
    assert peak < size * 1.05


# rsocket-py as a second opinion. What it gets wrong is left out: codes it does not know, EXT, MIME types above 127
# bytes, empty metadata (it drops the M flag), N on a PAYLOAD with bytes (it always sets it).


def _stock_setup(frame: Setup) -> stock.Frame:
    peer = stock.SetupFrame()
    peer.major_version, peer.minor_version = frame.major, frame.minor
    peer.keep_alive_milliseconds, peer.max_lifetime_milliseconds = frame.keepalive_ms, frame.lifetime_ms
    peer.metadata_encoding, peer.data_encoding = frame.metadata_mime.encode(), frame.data_mime.encode()
    peer.flags_lease = frame.lease
    if frame.resume_token is not None:
        peer.flags_resume = True
        peer.token_length, peer.resume_identification_token = len(frame.resume_token), frame.resume_token
    return peer


def _stock_frame(frame: Any) -> stock.Frame:
    """``frame`` as rsocket-py's object."""
    peer: Any
    if isinstance(frame, Setup):
        peer = _stock_setup(frame)
    elif isinstance(frame, Lease):
        peer = stock.LeaseFrame()
        peer.time_to_live, peer.number_of_requests = frame.ttl_ms, frame.requests
    elif isinstance(frame, KeepAlive):
        peer = stock.KeepAliveFrame()
        peer.flags_respond, peer.last_received_position = frame.respond, frame.position
    elif isinstance(frame, RequestN):
        peer = stock.RequestNFrame()
        peer.request_n = frame.n
    elif isinstance(frame, Error):
        peer = stock.ErrorFrame()
        peer.error_code, peer.data = StockErrorCode(frame.code), frame.text.encode()
    elif isinstance(frame, Resume):
        peer = stock.ResumeFrame()
        peer.major_version, peer.minor_version = frame.major, frame.minor
        peer.resume_identification_token = frame.token
        peer.last_server_position, peer.first_client_position = frame.server_position, frame.client_position
    elif isinstance(frame, ResumeOk):
        peer = stock.ResumeOKFrame()
        peer.last_received_client_position = frame.position
    else:
        peer = {
            RequestResponse: stock.RequestResponseFrame,
            RequestFnf: stock.RequestFireAndForgetFrame,
            RequestStream: stock.RequestStreamFrame,
            RequestChannel: stock.RequestChannelFrame,
            Cancel: stock.CancelFrame,
            Payload: stock.PayloadFrame,
            MetadataPush: stock.MetadataPushFrame,
        }[type(frame)]()
        if isinstance(frame, RequestStream | RequestChannel):
            peer.initial_request_n = frame.initial_n
        for name in ("follows", "complete", "next"):
            if hasattr(frame, name):
                setattr(peer, f"flags_{name}", getattr(frame, name))
    peer.stream_id = getattr(frame, "stream_id", 0)
    peer.metadata = getattr(frame, "metadata", None) or b""
    peer.flags_metadata = bool(peer.metadata)
    if not isinstance(frame, Error):
        peer.data = getattr(frame, "data", b"")
    return peer


def _understood_by_stock(frame: Frame) -> bool:
    if getattr(frame, "metadata", None) == b"" or isinstance(frame, Extension):
        return False
    if isinstance(frame, Setup):
        return max(len(frame.metadata_mime), len(frame.data_mime)) < 128
    if isinstance(frame, Payload):
        return frame.next or not (frame.data or frame.metadata)
    return not isinstance(frame, Error) or frame.code in set(ErrorCode)


stock_frames = st.one_of(
    any_frame.filter(_understood_by_stock),
    st.builds(Error, stream_ids, st.sampled_from([int(code) for code in ErrorCode]), st.text(max_size=80)),
)


@given(stock_frames)
def test_rsocket_py_encodes_the_same_bytes(frame: Frame) -> None:
    assert _stock_frame(frame).serialize() == encode(frame)


@given(stock_frames)
def test_rsocket_py_reads_our_bytes_back_to_the_same_bytes(frame: Frame) -> None:
    data = encode(frame)
    peer = stock.parse_or_ignore(data)
    assert peer is not None
    assert decode(peer.serialize()) == frame


@pytest.mark.parametrize("vector", parameters(ROUND_TRIPS))
def test_rsocket_py_agrees_with_the_vectors(vector: dict[str, Any]) -> None:
    frame = frame_of(vector)
    if _understood_by_stock(frame):
        assert _stock_frame(frame).serialize().hex() == vector["hex"]


def test_limits_have_the_values_of_the_specification() -> None:
    assert (MAX_FRAME_BYTES, MAX_STREAM_ID, MAX_REQUEST_N) == (16_777_215, 2**31 - 1, 2**31 - 1)
