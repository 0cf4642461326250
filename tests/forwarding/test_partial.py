"""The metadata of a request in fragments, held until it is complete."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import FrameError, RequestInvalid
from gateway.forwarding.partial import Partial
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind
from gateway.wire.frames import FOLLOWS, MAX_REQUEST_N, METADATA, NEXT, FrameType, Payload, encode

#: Fragments are as small here as they please.
LIMITS = replace(profile_for(Kind.DEVICE), min_fragment_bytes=0)
REQUEST = int(FrameType.REQUEST_STREAM)


def begun(metadata: bytes = b"first") -> Partial:
    return Partial(REQUEST, REQUEST << 10 | METADATA | FOLLOWS, 1, 5, metadata, 0.0)


def take(partial: Partial, metadata: bytes | None, data: bytes = b"", *, follows: bool = True) -> tuple[bool, bytes]:
    """Whether the metadata is complete now, and the data behind it. The frame is part of a larger buffer."""
    frame = encode(Payload(1, metadata, data, follows=follows))
    head = int.from_bytes(frame[4:6], "big")
    at = partial.take(head, b"\xff\xff" + frame + b"\xff", 2, 2 + len(frame), LIMITS)
    return at >= 0, frame[at - 2 :] if at >= 0 else b""


def test_what_it_remembers() -> None:
    partial = begun()
    assert (partial.kind, partial.stream_id, partial.n, partial.metadata) == (REQUEST, 1, 5, b"first")
    assert partial.head & FOLLOWS


def test_metadata_goes_on_while_it_fills_its_frames() -> None:
    """P40."""
    partial = begun()
    assert take(partial, b"second") == (False, b"")
    assert take(partial, b"") == (False, b"")
    assert take(partial, b"third", b"data") == (True, b"data")
    assert partial.metadata == b"firstsecondthird"


def test_a_fragment_without_metadata_ends_it() -> None:
    """P40: metadata is finished before data begins."""
    partial = begun()
    assert take(partial, None, b"data") == (True, b"data")
    assert partial.metadata == b"first"


@pytest.mark.parametrize("metadata", [b"last", b"", None])
def test_the_last_fragment_ends_it(metadata: bytes | None) -> None:
    partial = begun()
    assert take(partial, metadata, follows=False) == (True, b"")
    assert partial.metadata == b"first" + (metadata or b"")


def test_its_size_is_bounded() -> None:
    """P42, fault 34: limit, and limit and one."""
    partial = begun(bytes(4000))
    assert take(partial, bytes(96)) == (False, b"")
    with pytest.raises(RequestInvalid, match="over the limit of 4096 bytes") as caught:
        take(partial, b"x")
    assert caught.value.reason == "max_metadata_bytes"


def test_its_fragments_are_bounded() -> None:
    """P42, fault 34: limit, and limit and one; empty ones count (fault 35)."""
    partial = begun()
    for _ in range(LIMITS.max_fragments - 1):
        assert take(partial, b"") == (False, b"")
    with pytest.raises(RequestInvalid, match="more than 64 fragments") as caught:
        take(partial, b"")
    assert caught.value.reason == "max_fragments"


@pytest.mark.parametrize(("size", "small"), [(54, True), (55, False), (56, False)])
def test_its_fragments_are_large_enough(size: int, small: bool) -> None:
    """limits.device.min_fragment_bytes, fault 35: 63, 64 and 65 bytes with the header; the last one may be smaller."""
    frame = encode(Payload(1, bytes(size), b"", follows=True))
    head = int.from_bytes(frame[4:6], "big")
    partial = begun()
    if small:
        with pytest.raises(RequestInvalid, match="fragment below 64 bytes") as caught:
            partial.take(head, frame, 0, len(frame), profile_for(Kind.DEVICE))
        assert caught.value.reason == "min_fragment_bytes"
    else:
        assert partial.take(head, frame, 0, len(frame), profile_for(Kind.DEVICE)) == -1
    assert partial.take(head & ~FOLLOWS, frame, 0, len(frame), profile_for(Kind.DEVICE)) > 0


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\0\x01", b"\0\0\x05four"])
def test_a_torn_fragment(body: bytes) -> None:
    """P24."""
    frame = b"\0\0\0\x01" + (FrameType.PAYLOAD << 10 | METADATA | NEXT).to_bytes(2, "big") + body
    with pytest.raises(FrameError):
        begun().take(METADATA | NEXT, frame, 0, len(frame), LIMITS)


def test_credit_adds_up_and_saturates() -> None:
    """P30."""
    partial = begun()
    partial.grant(7)
    assert partial.n == 12
    partial.grant(MAX_REQUEST_N)
    assert partial.n == MAX_REQUEST_N


def test_limits_are_those_of_the_moment() -> None:
    """A snapshot may change them amid a request."""
    partial = begun(bytes(100))
    frame = encode(Payload(1, bytes(100), b"", follows=True))
    head = int.from_bytes(frame[4:6], "big")
    with pytest.raises(RequestInvalid):
        partial.take(head, frame, 0, len(frame), replace(LIMITS, max_metadata_bytes=150))
