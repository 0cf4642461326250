"""The few operations on octets that every frame costs. No I/O.

`octets.pyx` is the compiled twin of this file, built over it where there is a compiler; one test suite runs on both.
"""

from __future__ import annotations

__all__ = ["apply_mask", "cut", "equal", "id_bytes", "unmask"]

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel with the C extension for this platform
    from websockets.utils import apply_mask

_NO_MASK = b"\x00\x00\x00\x00"


def cut(data: bytes, start: int, end: int) -> bytes:
    """`data[start:end]`, for 0 ≤ start ≤ end ≤ len(data)."""
    return data[start:end]


def equal(data: bytes, start: int, end: int, other: bytes) -> bool:
    """Whether `data[start:end]` is `other`, for 0 ≤ start ≤ end ≤ len(data)."""
    return data[start:end] == other


def id_bytes(stream_id: int) -> bytes:
    """The four bytes of a stream id, which replace the first four of every frame that crosses."""
    return stream_id.to_bytes(4, "big")


def unmask(data: bytes, start: int, end: int) -> bytes | None:
    """`data[start:end]` unmasked by the four bytes before it (RFC 6455 5.3); None where they are zero and it stands."""
    key = data[start - 4 : start]
    return None if key == _NO_MASK else apply_mask(data[start:end], key)
