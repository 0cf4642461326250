"""What a SETUP must be before anybody looks at who sent it (RSocket 1.0, "Setup Frame"; P01, P04, P08).

Knows nothing of tokens or routes, nor whether a session may be resumed: those are the acceptor's.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidSetup, UnsupportedSetup
from gateway.wire.frames import (
    HEADER_BYTES,
    FrameType,
    Setup,
    decode,
    peek_stream_id,
    peek_type,
)


@dataclass(frozen=True, slots=True)
class SetupRules:
    """Bounds that the node puts on what a client proposes (fault 21); milliseconds and bytes."""

    lifetime_min_ms: int = 5_000
    lifetime_max_ms: int = 3_600_000
    max_bytes: int = 65_536
    max_mime_bytes: int = 127


def lifetime_ms(setup: Setup, rules: SetupRules) -> int:
    """How long the node waits for any frame: the client's max lifetime, within bounds, never below its keepalive."""
    return min(max(setup.lifetime_ms, setup.keepalive_ms, rules.lifetime_min_ms), rules.lifetime_max_ms)


def first_frame(data: bytes, start: int, end: int, rules: SetupRules) -> Setup:
    """Return the SETUP that a connection must begin with.

    Raises InvalidSetup or UnsupportedSetup; the connection then closes and nothing that came behind the frame is served
    (P03). A RESUME is none: whoever may be sent one looks for it before.
    """
    if end - start < HEADER_BYTES:
        raise InvalidSetup(f"the first frame must be SETUP, not {end - start} bytes")
    kind = peek_type(data, start)
    if kind != FrameType.SETUP or peek_stream_id(data, start) != 0:
        raise InvalidSetup("the first frame must be SETUP on stream 0")
    if end - start > rules.max_bytes:
        raise InvalidSetup(f"SETUP of {end - start} bytes is over the limit of {rules.max_bytes}")
    version = data[start + 6 : start + 10]
    if len(version) == 4 and version != b"\x00\x01\x00\x00":
        # Before anything else is read: the layout of another version is not known (P04).
        major, minor = int.from_bytes(version[:2], "big"), int.from_bytes(version[2:], "big")
        raise UnsupportedSetup(f"version {major}.{minor} is not supported; this node speaks 1.0")
    setup = decode(data[start:end])
    assert isinstance(setup, Setup)
    for mime in (setup.metadata_mime, setup.data_mime):
        if len(mime) > rules.max_mime_bytes:
            text = f"MIME type of {len(mime)} bytes is over the limit of {rules.max_mime_bytes}"
            raise InvalidSetup(text, reason="max_mime_bytes")
    return setup
