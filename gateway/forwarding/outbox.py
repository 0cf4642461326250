"""Bytes waiting to leave on one connection.

Frames are appended during a loop turn and written once at its end (`Flusher`). When the carrier stops taking bytes the
outbox grows: above `high` the credit of streams that feed it is withheld, above `hard` whoever feeds it is paused,
counted per source; at half of `high` both are let go. Ordering: frames leave in the order in which they were put, but
for those of stream 0 that keep the connection alive, which go ahead of what waits (`put_first`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.wire.framing import FrameBuffer

#: How long one connection may keep others from being read: while it takes nothing, and while it takes too little.
PATIENCE_S = 0.25
MAX_PAUSE_S = 1.0
#: How often over its hard mark the outbox of a slow connection may grow before the connection is closed.
DROWNING = 16

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.stream import Stream
    from gateway.observe.metrics import Counters
    from gateway.wire.sink import FrameSink


class Carrier(Protocol):
    """What carries a connection: a socket with its framing. All sizes are bytes: `buffered` on their way out, `held` of
    a frame whose end has not come."""

    def write(self, data: bytes) -> int:
        """Take all of it. Returns how much the carrier now holds, as `buffered` says."""

    def buffered(self) -> int: ...
    def held(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def allow(self, max_frame_bytes: int) -> None: ...
    def close(self, code: int, text: str) -> None: ...
    def abort(self) -> None: ...

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        """What becomes of the carrier concerns `connection` from now on, and what it brings goes to `sink`."""

    def detach(self) -> None:
        """What becomes of the carrier concerns nobody any more."""


class NoCarrier:
    """The carrier of a connection that has no socket: always writable, never closed by the other end."""

    def write(self, data: bytes) -> int:
        return 0

    def buffered(self) -> int:
        return 0

    def held(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def allow(self, max_frame_bytes: int) -> None: ...

    def close(self, code: int, text: str) -> None: ...

    def abort(self) -> None: ...

    def attach(self, connection: Connection, sink: FrameSink) -> None: ...

    def detach(self) -> None: ...


class Flusher:
    """Flushes every outbox touched in a loop turn once, at its end (DESIGN 3, step 6)."""

    __slots__ = ("_dirty", "_schedule", "_scheduled")

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._scheduled = False
        self._dirty: list[Outbox] = []

    def touch(self, outbox: Outbox) -> None:
        self._dirty.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self.flush)

    def flush(self) -> None:
        self._scheduled = False
        remaining = iter(self._dirty)
        self._dirty = []
        try:
            for outbox in remaining:
                outbox.flush()
        finally:
            # There is a rest only after a bug, which must not cost those who merely shared its loop turn.
            for outbox in remaining:
                self.touch(outbox)


class Outbox(FrameBuffer):
    """A queue of framed bytes in front of a carrier. `size` is what waits here and in the carrier; `frames_sent` and
    `bytes_sent` are what the carrier was given."""

    __slots__ = (
        "ahead",
        "blocked",
        "blocked_since",
        "bytes_sent",
        "carrier",
        "counters",
        "feeders",
        "feeders_since",
        "flusher",
        "frames_sent",
        "hard",
        "high",
        "left_when_blocked",
        "slow",
        "throttled",
    )

    def __init__(
        self, carrier: Carrier, flusher: Flusher, counters: Counters, high: int, hard: int, *, prefixed: bool = False
    ) -> None:
        super().__init__(prefixed)
        self.carrier = carrier
        self.flusher = flusher
        self.counters = counters
        self.high = high
        self.hard = hard
        self.frames_sent = 0
        self.bytes_sent = 0
        self.blocked = False
        self.blocked_since = 0.0
        self.left_when_blocked = 0
        self.feeders: set[Endpoint] | None = None
        self.feeders_since = 0.0
        self.slow = False
        self.throttled: set[Stream] | None = None
        #: Frames that go ahead of all that waits; None where there are none.
        self.ahead: FrameBuffer | None = None

    def put_first(self, frame: bytes) -> None:
        """Append a frame of stream 0 that nothing else is in order with: KEEPALIVE, LEASE. Data does not delay it."""
        if not self.blocked or not self.frames:
            self.put_frame(frame)
            return
        if self.ahead is None:
            self.ahead = FrameBuffer(self.prefixed)
            self.ahead.masked = self.masked
            # It is written with what waits here, and touches nobody by itself.
            self.ahead.untouched = False
        self.ahead.put_frame(frame)
        self.size += len(frame)

    def touched(self) -> None:
        self.flusher.touch(self)

    @property
    def congested(self) -> bool:
        """Whether streams that feed this outbox should get no further credit."""
        return self.blocked and self.size > self.high

    @property
    def drained(self) -> bool:
        """Whether those who were held back may go on."""
        # A carrier that has taken everything without being blocked calls nobody back, however much it holds.
        return not self.blocked or self.size <= self.high >> 1

    def flush(self) -> None:
        """Hand everything to the carrier, unless it is blocked."""
        if self.blocked:
            self.untouched = True
            return
        frames = self.frames
        if frames:
            data = self.take()
            if self.ahead is not None:
                frames += self.ahead.frames
                data = self.ahead.take() + data
                self.ahead = None
            self.counters.frames_out += frames
            self.counters.bytes_out += len(data)
            self.frames_sent += frames
            self.bytes_sent += len(data)
            self.size = self.carrier.write(data)
        if (self.feeders or self.throttled or self.slow) and self.drained:
            self._relieve()

    def block(self, now: float) -> None:
        """The carrier takes no more for now."""
        self.blocked = True
        self.blocked_since = now
        self.left_when_blocked = self.carrier.buffered()

    def unblock(self) -> None:
        """The carrier takes bytes again."""
        self.blocked = False
        self.size = self.carrier.buffered() + self.waiting + (0 if self.ahead is None else self.ahead.waiting)
        self.flush()

    def stuck_for(self, now: float) -> float:
        """Seconds since the carrier last took a byte; 0 when it is not blocked (fault 14, fault 32)."""
        if not self.blocked:
            return 0.0
        left = self.carrier.buffered()
        if left < self.left_when_blocked:
            self.left_when_blocked = left
            self.blocked_since = now
        return now - self.blocked_since

    def impatient(self, now: float) -> bool:
        """Whether others have been stopped for this outbox for longer than they should be."""
        if not self.feeders or self.slow:
            return False
        return now - self.feeders_since > MAX_PAUSE_S or min(self.stuck_for(now), now - self.feeders_since) > PATIENCE_S

    def give_up(self, owner: Endpoint) -> None:
        """Let those go on who were stopped for this outbox; what they have for it piles up, or is refused, until it has
        drained."""
        self.slow = True
        feeders, self.feeders = self.feeders, None
        for feeder in feeders or ():
            if feeder is owner:
                self.feeders = {owner}
            else:
                feeder.resume_after(self)

    def discard(self) -> None:
        """Drop what waits and let every feeder go; the connection is over."""
        self.take()
        self.ahead = None
        self.size = 0
        self._relieve()

    def _relieve(self) -> None:
        self.slow = False
        feeders, self.feeders = self.feeders, None
        for feeder in feeders or ():
            feeder.resume_after(self)
        throttled, self.throttled = self.throttled, None
        for stream in throttled or ():
            stream.requester.relieved(stream)
