"""A request whose metadata comes in several fragments: held until it is complete, because the stamp goes behind it.

Only metadata is held, and it is bounded; data is never reassembled (protocol 1, "Forwarding").
"""

from __future__ import annotations

from gateway.errors import FrameError, RequestInvalid
from gateway.policy.limits import LimitsProfile
from gateway.wire.frames import FOLLOWS, MAX_REQUEST_N, METADATA


class Partial:
    """`metadata` is what has come so far, `size` bytes, `since` then; `head` type and flags of the request frame."""

    __slots__ = ("_chunks", "_count", "head", "kind", "n", "since", "size", "stream_id")

    def __init__(self, kind: int, head: int, stream_id: int, n: int, metadata: bytes, since: float) -> None:
        self.kind = kind
        self.head = head
        self.stream_id = stream_id
        self.n = n
        self.since = since
        self._chunks = [metadata]
        self.size = len(metadata)
        self._count = 1

    @property
    def metadata(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def grant(self, n: int) -> None:
        """Credit that comes before the request is complete."""
        self.n = min(self.n + n, MAX_REQUEST_N)

    def take(self, head: int, data: bytes, start: int, end: int, limits: LimitsProfile) -> int:
        """Take one fragment. Return where its data begins when the metadata is complete, -1 while it is not.

        Raises RequestInvalid over a limit (fault 34) and FrameError for a malformed fragment.
        """
        self._count += 1
        if self._count > limits.max_fragments:
            raise RequestInvalid(f"more than {limits.max_fragments} fragments", reason="max_fragments")
        if head & FOLLOWS and end - start < limits.min_fragment_bytes:
            raise RequestInvalid(f"fragment below {limits.min_fragment_bytes} bytes", reason="min_fragment_bytes")
        at = start + 6
        if not head & METADATA:
            return at
        if at + 3 > end:
            raise FrameError("metadata length is cut short")
        body = at + 3 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
        if body > end:
            raise FrameError("metadata length goes beyond the frame")
        self._chunks.append(data[at + 3 : body])
        self.size += body - at - 3
        if self.size > limits.max_metadata_bytes:
            raise RequestInvalid(
                f"metadata is over the limit of {limits.max_metadata_bytes} bytes", reason="max_metadata_bytes"
            )
        return -1 if body == end and head & FOLLOWS else body
