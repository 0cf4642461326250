"""Stream ids that one side of a connection hands out (RSocket 1.0, "Stream Identifiers"; P20)."""

from __future__ import annotations

from collections.abc import Container

from gateway.wire.frames import MAX_STREAM_ID

CLIENT_FIRST = 1
SERVER_FIRST = 2


class StreamIds:
    """Odd ids from 1 for the side that dialled, even ids from 2 for the side that accepted, two apart.

    At 2^31-1 the ids wrap; those in use are skipped. `start` is where a side goes on that has handed out ids before.
    """

    __slots__ = ("_first", "_next")

    def __init__(self, first: int, start: int = 0) -> None:
        self._first = first
        self._next = start or first

    def allocate(self, in_use: Container[int]) -> int:
        """Return the next free id. The caller puts it into `in_use` before it asks again."""
        stream_id = self.advance()
        while stream_id in in_use:
            stream_id = self.advance()
        return stream_id

    def advance(self) -> int:
        """Return the next id, which may be in use: the caller looks."""
        stream_id = self._next
        self._next = stream_id + 2 if stream_id <= MAX_STREAM_ID - 2 else self._first
        return stream_id
