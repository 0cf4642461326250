"""What a process counts of devices' updates: plain figures, written by the service and read by a scrape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class UpdateCounters:
    """Everything but `open` only ever grows. `open`: downloads under way; `downloads`: those that ended, by how:
    complete, canceled, refused; `bytes`: of images, sent. `reports`: by the state that devices said; `calls`: devices
    that were told to ask."""

    open: int = 0
    downloads: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    calls: int = 0
