"""Credit of one direction of one stream, on its way from the consumer to the producer.

RSocket credit is end to end: what the consumer grants is passed on as it came. The exception is a grant larger than
what the gateway lets be under way at once. A consumer may ask for 2^31-1 items and then not read; passed on, its
producer would fill the consumer's outbox, and the only way left to stop it would be to stop reading the producer's
connection, which stalls everybody whom that producer serves. So no more than WINDOW items of a stream are under way,
fewer when they are large; the rest of a grant waits here and follows as items go out and the outbox drains (fault 27;
docs/adr/0003).
"""

from __future__ import annotations

from gateway.wire.frames import MAX_REQUEST_N

WINDOW = 256
#: Items above it narrow the window of their stream, so that no more than WINDOW times this is under way.
LARGE_ITEM_BYTES = 1024


class Credit:
    """Item counts. `outstanding`: passed on to the producer, not used yet. `held`: granted by the consumer, not passed
    on yet. `grants`: how often the consumer granted some."""

    __slots__ = ("_granted", "_window", "grants", "held", "outstanding")

    def __init__(self) -> None:
        self._window = WINDOW
        self._granted = 0
        self.grants = 0
        self.outstanding = 0
        self.held = 0

    def grant(self, n: int, congested: bool) -> int:
        """The consumer grants `n` items. Return how many to pass on now; grants add up and saturate (P30)."""
        self.grants += 1
        if not self.held and not congested and self.outstanding + n <= self._window:
            self.outstanding += n
            self._granted += n
            return n
        if n > MAX_REQUEST_N - self.held:
            n = MAX_REQUEST_N - self.held
        self.held += n
        self._granted += n
        return 0 if congested else self.refill()

    @property
    def used(self) -> int:
        """How many items have come."""
        return self._granted - self.held - self.outstanding

    def refill(self) -> int:
        """Return how much held credit to pass on now: a window's worth once half of it is used."""
        if self.outstanding > self._window >> 1:
            return 0
        n = min(self.held, self._window - self.outstanding)
        self.held -= n
        self.outstanding += n
        return n

    def narrow(self, size: int) -> None:
        """An item, or a fragment of one, of `size` bytes passed: fewer of that size may be under way."""
        self._window = min(self._window, max(1, WINDOW * LARGE_ITEM_BYTES // size))
