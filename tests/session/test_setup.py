"""What a first frame must be. Frames arrive inside a larger buffer, as they do behind other bytes of a socket."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidSetup, UnsupportedSetup
from gateway.session.setup import SetupRules, first_frame, lifetime_ms
from gateway.wire.frames import (
    IGNORE,
    LEASE,
    METADATA,
    RESUME_ENABLE,
    Cancel,
    Error,
    Extension,
    Frame,
    FrameType,
    KeepAlive,
    Lease,
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
    encode,
)

RULES = SetupRules()
PLAIN = Setup(20_000, 90_000, "message/x.rsocket.composite-metadata.v0", "application/json", b"\xfemeta", b"data")


def first(frame: bytes, rules: SetupRules = RULES) -> Setup:
    return first_frame(b"\xff\xff" + frame + b"\xff", 2, 2 + len(frame), rules)


def by_hand(
    *,
    stream_id: int = 0,
    flags: int = 0,
    version: bytes = b"\x00\x01\x00\x00",
    keepalive: int = 20_000,
    lifetime: int = 90_000,
    mimes: bytes = b"\x01m\x01d",
    rest: bytes = b"",
) -> bytes:
    """A SETUP that `encode` would not make."""
    header = struct.pack(">IH", stream_id, FrameType.SETUP << 10 | flags)
    return header + version + struct.pack(">II", keepalive, lifetime) + mimes + rest


def test_a_setup_is_taken() -> None:
    assert first(encode(PLAIN)) == PLAIN


def test_the_golden_setup() -> None:
    """The vector of the specification's profile: 1.0, 20 s and 90 s, composite metadata and JSON."""
    frame = bytes.fromhex(
        "0000000004000001000000004e2000015f90276d6573736167652f782e72736f636b65742e636f6d706f736974652d6d65746164617461"
        "2e7630106170706c69636174696f6e2f6a736f6e"
    )
    assert first(frame) == replace(PLAIN, metadata=None, data=b"")


OTHERS: list[Frame] = [
    Lease(1000, 1),
    KeepAlive(True),
    RequestResponse(1, None, b""),
    RequestFnf(1, None, b""),
    RequestStream(1, None, b"", 1),
    RequestChannel(1, None, b"", 1),
    RequestN(1, 1),
    Cancel(1),
    Payload(1, None, b"", next=True),
    Error(0, 0x101, "no"),
    Error(1, 0x201, "no"),
    MetadataPush(b""),
    ResumeOk(0),
    Extension(0, True, False, 1, b""),
]


@pytest.mark.parametrize("frame", OTHERS, ids=lambda frame: f"{type(frame).__name__}-{getattr(frame, 'stream_id', 0)}")
def test_any_other_first_frame_is_refused(frame: Frame) -> None:
    """P01, fault 17."""
    with pytest.raises(InvalidSetup, match="must be SETUP on stream 0") as caught:
        first(encode(frame))
    assert caught.value.code == 0x001


@pytest.mark.parametrize("kind", [0x00, 0x0F, 0x20, 0x3E])
@pytest.mark.parametrize("flags", [0, IGNORE])
def test_an_unknown_first_frame_is_refused_even_if_it_may_be_ignored(kind: int, flags: int) -> None:
    """P01: nothing but SETUP or RESUME begins a connection, whatever its flags say."""
    with pytest.raises(InvalidSetup):
        first(struct.pack(">IH", 0, kind << 10 | flags) + bytes(20))


@pytest.mark.parametrize("size", range(6))
def test_a_first_frame_without_a_header_is_refused(size: int) -> None:
    """P01, fault 8."""
    with pytest.raises(InvalidSetup, match=f"not {size} bytes"):
        first(encode(PLAIN)[:size])


def test_setup_on_another_stream_is_refused() -> None:
    """P01, fault 17."""
    with pytest.raises(InvalidSetup, match="on stream 0"):
        first(by_hand(stream_id=1))


def test_the_top_bit_of_the_stream_id_means_nothing() -> None:
    """P22: it is reserved."""
    assert first(b"\x80" + by_hand()[1:]).metadata_mime == "m"


@pytest.mark.parametrize("stream_id", [b"\x00\x00\x00\x00", b"\x00\x00\x00\x01"])
def test_resume_is_no_setup(stream_id: bytes) -> None:
    """P01."""
    with pytest.raises(InvalidSetup):
        first(stream_id + encode(Resume(b"token", 0, 0))[4:])


@pytest.mark.parametrize("version", [(0, 0), (0, 2), (0, 255), (1, 1), (2, 0), (0xFFFF, 0xFFFF)])
def test_another_version_is_refused_before_its_layout_is_read(version: tuple[int, int]) -> None:
    """P04, fault 20: what follows the version may mean anything there."""
    major, minor = version
    frame = by_hand(version=struct.pack(">HH", major, minor), keepalive=0, lifetime=0, mimes=b"\xff")
    with pytest.raises(UnsupportedSetup, match=rf"version {major}\.{minor} is not supported") as caught:
        first(frame)
    assert caught.value.code == 0x002


def test_what_setup_asks_for_is_read() -> None:
    """P05, P06: whether it may have it is decided when it is known who asks."""
    asking = replace(PLAIN, resume_token=b"t", lease=True)
    assert first(encode(asking)) == asking
    assert first(by_hand(flags=LEASE)).lease


@pytest.mark.parametrize("rest", [b"", b"\x00", b"\x00\x01", b"\xff\xfftoken"])
def test_a_resume_flag_without_its_token_is_malformed(rest: bytes) -> None:
    """P05."""
    with pytest.raises(InvalidSetup):
        first(by_hand(flags=RESUME_ENABLE, mimes=rest))


@pytest.mark.parametrize(
    "intervals",
    [{"keepalive": 0}, {"lifetime": 0}, {"keepalive": 0x8000_0000}, {"lifetime": 0xFFFF_FFFF}],
)
def test_intervals_out_of_range_are_refused(intervals: dict[str, int]) -> None:
    """P08, fault 21."""
    with pytest.raises(InvalidSetup, match="is not within 1 to"):
        first(by_hand(**intervals))


@pytest.mark.parametrize(
    "frame",
    [
        by_hand()[:8],
        by_hand()[:12],
        by_hand()[:18],
        by_hand(mimes=b"\x05m"),
        by_hand(mimes=b"\x01m"),
        by_hand(mimes=b"\x01m\x02d"),
        by_hand(mimes=b"\x01\xff\x01d"),
        by_hand(flags=METADATA),
        by_hand(flags=METADATA, rest=b"\x00\x00"),
        by_hand(flags=METADATA, rest=b"\x00\x00\x02x"),
    ],
)
def test_a_setup_that_is_cut_short_is_refused(frame: bytes) -> None:
    """P08, P24: whatever is missing, the refusal is INVALID_SETUP."""
    with pytest.raises(InvalidSetup):
        first(frame)


def test_a_mime_type_may_have_128_bytes_and_more() -> None:
    """P08: the length byte is unsigned; how long a type may be is the node's rule."""
    rules = SetupRules(max_mime_bytes=200)
    mime = "m" * 200
    assert first(by_hand(mimes=b"\xc8" + mime.encode() + b"\x01d"), rules).metadata_mime == mime


@pytest.mark.parametrize("which", ["metadata_mime", "data_mime"])
def test_a_mime_type_over_the_limit_is_refused(which: str) -> None:
    """Fault 40: limit, and limit and one."""
    longest = replace(PLAIN, **{which: "m" * 127})  # type: ignore[arg-type]
    assert first(encode(longest)) == longest
    with pytest.raises(InvalidSetup, match="128 bytes is over the limit of 127"):
        first(encode(replace(PLAIN, **{which: "m" * 128})))  # type: ignore[arg-type]


def test_a_setup_over_the_limit_is_refused_before_it_is_decoded() -> None:
    frame = encode(PLAIN)
    assert first(frame, SetupRules(max_bytes=len(frame))) == PLAIN
    with pytest.raises(InvalidSetup, match=f"over the limit of {len(frame) - 1}"):
        first(frame, SetupRules(max_bytes=len(frame) - 1))


def test_flag_bits_without_a_meaning_are_ignored() -> None:
    """P22."""
    assert first(by_hand(flags=0x3F | IGNORE)).metadata_mime == "m"


@pytest.mark.parametrize(
    ("keepalive", "lifetime", "expected"),
    [
        (20_000, 90_000, 90_000),
        (1, 1, 5_000),
        (20_000, 4_999, 20_000),
        (1, 5_000, 5_000),
        (1, 3_600_000, 3_600_000),
        (1, 3_600_001, 3_600_000),
        (20_000, 0x7FFF_FFFF, 3_600_000),
        (0x7FFF_FFFF, 0x7FFF_FFFF, 3_600_000),
        (90_000, 30_000, 90_000),
    ],
)
def test_the_lifetime_is_within_bounds_and_not_below_the_keepalive(
    keepalive: int, lifetime: int, expected: int
) -> None:
    """Fault 21: what a client proposes is clamped to 5 s to 1 h."""
    assert lifetime_ms(replace(PLAIN, keepalive_ms=keepalive, lifetime_ms=lifetime), RULES) == expected


@given(st.binary(max_size=80), st.booleans())
def test_whatever_comes_first_is_a_setup_or_a_refusal(noise: bytes, looks_like_setup: bool) -> None:
    """Fault 51."""
    frame = b"\x00\x00\x00\x00\x04" + noise if looks_like_setup else noise
    with suppress(InvalidSetup, UnsupportedSetup):
        assert isinstance(first(frame), Setup)
