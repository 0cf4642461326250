"""What one destination's spool may hold, and what happens when it is full. Plain values: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PRIORITIES = 10
DEFAULT_PRIORITY = 5


class WhenFull(StrEnum):
    """What happens to a message that finds no room."""

    REJECT = "reject"
    """It is refused: whoever sends it knows."""
    DROP_OLDEST = "dropOldest"
    """The oldest of the least important class make room, never one of a more important class than its own."""
    DROP_NEWEST = "dropNewest"
    """It is taken and counted, and kept no longer."""
    CONFLATE = "conflate"
    """Values that a newer one of the same key has replaced make room; where there are none, it is refused."""


@dataclass(frozen=True, slots=True)
class SpoolRules:
    """Bytes are those of messages with `OVERHEAD_BYTES` each; the file is about as large. Times are seconds.

    Raises:
        ValueError: a value is out of its range.
    """

    when_full: WhenFull = WhenFull.REJECT
    max_bytes: int = 1024 * 1024 * 1024
    max_age_s: float = 7 * 24 * 3600.0
    max_message_bytes: int = 256 * 1024
    #: Share of the volume that is left to others.
    min_free: float = 0.10
    #: Share of what is delivered that goes to classes below the most important one that waits.
    lower_share: float = 0.10

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_message_bytes < 1:
            raise ValueError("max_bytes and max_message_bytes must be at least 1")
        if not self.max_age_s > 0:
            raise ValueError("max_age_s must be above 0")
        if not 0 <= self.min_free < 1:
            raise ValueError("min_free is a share from 0 to below 1")
        if not 0 <= self.lower_share <= 0.5:
            raise ValueError("lower_share is a share from 0 to 0.5")
