"""The streams of one side of a connection, by id: one half of the hops.

`stream_table.pyx` is the compiled twin of this file, which finds a stream without making an integer object; it is built
over it where there is a compiler, and one test suite runs on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.forwarding.stream import Stream


class StreamTable(dict[int, "Stream"]):
    """A dictionary of ids of at least 1. The hot path uses `find`, `insert` and `discard`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def find(self, stream_id: int) -> Stream | None:
            """The stream, or None. Any integer may be asked for."""

        def insert(self, stream_id: int, stream: Stream) -> None:
            """Enter a stream under an id that is free."""

        def discard(self, stream_id: int) -> None:
            """Remove a stream. Raises KeyError when it is not there."""

    else:
        # A dictionary's own methods, without a call between.
        find = dict.get
        insert = dict.__setitem__
        discard = dict.__delitem__
