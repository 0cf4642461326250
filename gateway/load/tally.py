"""What one run has counted so far. One object, shared by every connection of the run; plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.load.histogram import Histogram

if TYPE_CHECKING:
    from gateway.load.calls import Calls

_KEPT_TEXTS = 3
_BUFFER_BYTES = 262_144


class Tally:
    """`operations` came to their end, `begun` were started, `errors` went wrong; the latencies are those of operations.

    `running`: whether a connection begins a new operation where one has ended. `ending`: connections are being closed,
    so that losing one is no error. `owing`: connections that begin operations a little later, because of an error.
    `buffer` is where bytes arrive.
    """

    def __init__(self) -> None:
        self.running = False
        self.ending = False
        self.begun = 0
        self.operations = 0
        self.finished = 0
        self.errors = 0
        self.latencies = Histogram()
        self.texts: list[str] = []
        self.buffer = bytearray(_BUFFER_BYTES)
        self.owing: list[Calls] = []

    def fail(self, text: str) -> None:
        """Count something that went wrong; what it was is kept for the first few."""
        self.errors += 1
        if len(self.texts) < _KEPT_TEXTS and text not in self.texts:
            self.texts.append(text)
