"""What protects services, as it is counted: one object a service, written by the data plane and read by a scrape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class GuardFigures:
    """`refused`: requests kept back, by reason; `would_refuse`: those that a dry run would have; `faults`: injected, by
    kind; `ejections`: by cause; `mirrors`: copies of requests, by what became of them; `waits`: requests that
    waited for a route, by how that ended; `retries`: further tries that were wished for, by what became of them.
    `breaker`: 0 closed, 1 half-open, 2 open; `opened`: how often it opened. `ejected`: out now. `limit`: requests that
    may be open at once now, 0 for no limit; `open`: those that are; `waiting`: those that wait."""

    refused: Counter[str] = field(default_factory=Counter)
    would_refuse: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ejections: Counter[str] = field(default_factory=Counter)
    breaker: int | None = None
    opened: int = 0
    ejected: int = 0
    limit: int = 0
    open: int = 0
    waiting: int = 0
    mirrors: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)

    def forget(self) -> None:
        """Nothing is protected any more: what was counted stays."""
        self.breaker = None
        self.ejected = self.limit = self.open = self.waiting = 0
