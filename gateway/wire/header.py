"""Names and numbers of the RSocket 1.0 frame header, and reads of single fields from raw bytes.

The peeks are the data plane's: a forwarded frame is never decoded, only looked at and patched. They take any buffer and
an offset, make nothing but ints, and check nothing that their docstring does not name: whoever calls has cut a frame of
at least ``HEADER_BYTES`` bytes. Every integer on the wire is big endian.

Must not know: connections, the states of streams, what is inside metadata.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TypeAlias

from gateway.errors import FrameError

Buffer: TypeAlias = bytes | bytearray | memoryview


class FrameType(IntEnum):
    """The six bits of a header that say which frame it is (RSocket 1.0, "Frame Types")."""

    SETUP = 0x01
    LEASE = 0x02
    KEEPALIVE = 0x03
    REQUEST_RESPONSE = 0x04
    REQUEST_FNF = 0x05
    REQUEST_STREAM = 0x06
    REQUEST_CHANNEL = 0x07
    REQUEST_N = 0x08
    CANCEL = 0x09
    PAYLOAD = 0x0A
    ERROR = 0x0B
    METADATA_PUSH = 0x0C
    RESUME = 0x0D
    RESUME_OK = 0x0E
    EXT = 0x3F


class ErrorCode(IntEnum):
    """The codes the specification names. 0x301 to 0xFFFFFFFE belong to applications and are relayed as they came."""

    INVALID_SETUP = 0x001
    UNSUPPORTED_SETUP = 0x002
    REJECTED_SETUP = 0x003
    REJECTED_RESUME = 0x004
    CONNECTION_ERROR = 0x101
    CONNECTION_CLOSE = 0x102
    APPLICATION_ERROR = 0x201
    REJECTED = 0x202
    CANCELED = 0x203
    INVALID = 0x204


HEADER_BYTES = 6
MAX_FRAME_BYTES = 0xFFFFFF
MAX_STREAM_ID = 0x7FFFFFFF
MAX_REQUEST_N = 0x7FFFFFFF

# Flags. One bit means different things on different frames, hence several names for 0x80 and 0x40.
IGNORE = 0x200
METADATA = 0x100
RESUME_ENABLE = 0x80
RESPOND = 0x80
FOLLOWS = 0x80
LEASE = 0x40
COMPLETE = 0x40
NEXT = 0x20

_U32 = struct.Struct(">I")
_unpack_u32 = _U32.unpack_from
_pack_u32 = _U32.pack_into


def peek_stream_id(buf: Buffer, at: int = 0) -> int:
    """The stream id of the frame at ``at``; its reserved top bit is masked (P20)."""
    stream_id: int = _unpack_u32(buf, at)[0]
    return stream_id & 0x7FFFFFFF


def peek_type(buf: Buffer, at: int = 0) -> int:
    """The six type bits of the frame at ``at``, known to the specification or not."""
    return buf[at + 4] >> 2


def peek_flags(buf: Buffer, at: int = 0) -> int:
    """The ten flag bits of the frame at ``at``."""
    return (buf[at + 4] & 3) << 8 | buf[at + 5]


def peek_n(buf: Buffer, at: int, end: int) -> int:
    """The credit in the REQUEST_N, REQUEST_STREAM or REQUEST_CHANNEL frame at ``at`` to ``end``.

    Raises FrameError when the field is cut short, 0, or has its top bit set (P30).
    """
    if end - at < 10:
        raise FrameError("request n is cut short")
    n: int = _unpack_u32(buf, at + 6)[0]
    if not 0 < n <= MAX_REQUEST_N:
        raise FrameError(f"request n {n} is not within 1 to {MAX_REQUEST_N}")
    return n


def peek_error_code(buf: Buffer, at: int, end: int) -> int:
    """The code of the ERROR frame at ``at`` to ``end``. Raises FrameError when it is cut short."""
    if end - at < 10:
        raise FrameError("error code is cut short")
    code: int = _unpack_u32(buf, at + 6)[0]
    return code


def patch_stream_id(buf: bytearray | memoryview, at: int, stream_id: int) -> None:
    """Write ``stream_id`` (0 to 2^31-1) into the frame at ``at``."""
    _pack_u32(buf, at, stream_id)


def payload_start(buf: Buffer, start: int) -> int:
    """Where metadata length, metadata and data begin in the request or PAYLOAD frame at ``start``.

    REQUEST_STREAM and REQUEST_CHANNEL carry four bytes of credit before them.
    """
    # Types 6 and 7 differ in their lowest bit alone.
    return start + (10 if buf[start + 4] >> 3 == 3 else 6)


def metadata_span(buf: Buffer, start: int, end: int) -> tuple[int, int, int] | None:
    """``(metadata_start, metadata_end, data_start)`` of the request or PAYLOAD frame at ``start`` to ``end``.

    None when the frame has no metadata (M flag clear); its data then begins at ``payload_start``. Raises FrameError
    when the frame is too short for its own fields or the metadata length goes beyond it (P24, fault 39).
    """
    kind = buf[start + 4]
    first = start + (13 if kind >> 3 == 3 else 9)
    if not kind & 1:
        if first - 3 > end:
            raise FrameError("frame is cut short")
        return None
    if first > end:
        raise FrameError("metadata length is cut short")
    # One read of four bytes, the first of them flags or credit, is cheaper than three of one.
    last: int = first + (_unpack_u32(buf, first - 4)[0] & 0xFFFFFF)
    if last > end:
        raise FrameError(f"metadata length {last - first} goes beyond the frame")
    return first, last, last
