"""KEEPALIVE frames and the positions in them (RSocket 1.0, "Keepalive Frame"; P10, P11, P54).

`received` is the sender's own `Received.position`, 0 where nothing resumes. Knows nothing of intervals and lifetimes.
"""

from __future__ import annotations

from gateway.errors import FrameError
from gateway.wire.frames import HEADER_BYTES, RESPOND, Buffer, KeepAlive, encode, peek_flags

_POSITION_BYTES = 8
_DATA = HEADER_BYTES + _POSITION_BYTES


def claimed(data: Buffer, start: int, end: int) -> int:
    """How much the peer says to have received, in the KEEPALIVE at `start` to `end`; for `Retained.trim` (P54).

    Whatever its eight bytes hold: 2^63 and above is no position, and more than anybody has sent (fault 47). Raises
    FrameError when the frame is cut short.
    """
    if end - start < _DATA:
        raise FrameError("KEEPALIVE is cut short")
    return int.from_bytes(data[start + HEADER_BYTES : start + _DATA], "big")


def answer(data: Buffer, start: int, end: int, received: int = 0) -> bytes:
    """The frame that the KEEPALIVE at `start` to `end` is answered with; empty when it asks for none (P10).

    Raises FrameError when the frame is cut short.
    """
    if end - start < _DATA:
        raise FrameError("KEEPALIVE is cut short")
    if not peek_flags(data, start) & RESPOND:
        return b""
    return encode(KeepAlive(respond=False, position=received, data=bytes(data[start + _DATA : end])))


def question(received: int = 0, data: bytes = b"") -> bytes:
    """A KEEPALIVE that the peer must answer, with its own position (P11) and this data."""
    return encode(KeepAlive(respond=True, position=received, data=data))
