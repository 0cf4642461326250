"""The messages of one connection that the node holds partly: how many, how much, and since when nothing more came.

Fragments to services of others are passed on as they come. Held are the metadata of requests, because the stamp goes
behind it (`partial`), and messages to the node's own services (`exchange`). Both keep account here, so that a peer has
one allowance for all of it (faults 34 and 36). Knows nothing of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.errors import Overloaded, RequestError, RequestInvalid
from gateway.policy.limits import LimitsProfile

#: The time over which messages that broke a limit are counted, in seconds.
WINDOW_S: Final = 60.0
#: Reasons for which a fragmented message is refused, that count towards the end of the connection.
BREAKING: Final = frozenset(
    {
        "max_fragments",
        "max_partial_bytes",
        "max_reassembly_bytes",
        "min_fragment_bytes",
        "partial_idle_s",
    }
)

GiveUp = Callable[[RequestError], None]


class _Series:
    __slots__ = ("give_up", "grown_at", "size")

    def __init__(self, size: int, now: float, give_up: GiveUp) -> None:
        self.size = size
        self.grown_at = now
        self.give_up = give_up


class Assembly:
    """`size`: bytes held. Series are known by the peer's stream ids; `now` is in seconds of the plane's clock."""

    __slots__ = ("_broken", "_broken_since", "_series", "size")

    def __init__(self) -> None:
        self.size = 0
        self._series: dict[int, _Series] = {}
        self._broken = 0
        self._broken_since = 0.0

    def __len__(self) -> int:
        return len(self._series)

    def begin(self, stream_id: int, size: int, limits: LimitsProfile, now: float, give_up: GiveUp) -> None:
        """A message has begun. `give_up` is called with the reason when its next fragment takes too long.

        Raises Overloaded when there are as many as may be, RequestInvalid when there is no room for its bytes.
        """
        if len(self._series) >= limits.max_partials:
            raise Overloaded(f"over the limit of {limits.max_partials} unfinished messages", reason="max_partials")
        self._take(size, limits)
        self._series[stream_id] = _Series(size, now, give_up)

    def grow(self, stream_id: int, size: int, limits: LimitsProfile, now: float) -> None:
        """`size` more bytes of it. Raises RequestInvalid when there is no room for them."""
        series = self._series[stream_id]
        self._take(size, limits)
        series.size += size
        series.grown_at = now

    def end(self, stream_id: int) -> None:
        """It is complete, or will never be. Harmless for what is not there."""
        series = self._series.pop(stream_id, None)
        if series is not None:
            self.size -= series.size

    def tick(self, limits: LimitsProfile, now: float) -> None:
        """Give up those of which nothing has come for too long."""
        late = [series for series in self._series.values() if now - series.grown_at > limits.partial_idle_s]
        for series in late:
            text = f"no fragment for {limits.partial_idle_s:g} s"
            series.give_up(RequestInvalid(text, reason="partial_idle_s"))

    def forgive(self, seconds: float) -> None:
        """Nobody could be heard for so long."""
        for series in self._series.values():
            series.grown_at += seconds

    def broke(self, limits: LimitsProfile, now: float) -> bool:
        """A message broke a limit of fragments. Returns whether that is enough of them (fault 34)."""
        if now - self._broken_since > WINDOW_S:
            self._broken = 0
            self._broken_since = now
        self._broken += 1
        return 0 < limits.broken_messages <= self._broken

    def _take(self, size: int, limits: LimitsProfile) -> None:
        if self.size + size > limits.max_partial_bytes:
            raise RequestInvalid(
                f"over the limit of {limits.max_partial_bytes} bytes in unfinished messages", reason="max_partial_bytes"
            )
        self.size += size
