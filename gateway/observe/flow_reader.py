"""One reader of the flow log: its own place in the ring, its own filter, and what it has missed.

What the document hides is hidden before a reader's filter is asked, so that no filter can find it out.
"""

from __future__ import annotations

import math
from typing import Final

from gateway.observe.flow_fields import VERDICTS, Record, View
from gateway.observe.flow_filter import FlowFilter
from gateway.observe.flows import FlowRing

#: Records that are passed over, by verdict and latency alone, for one that is put into words.
_CHEAP: Final = 64
_ANYTHING: Final = [-math.inf] * len(VERDICTS)


class Reader:
    """`last`: the number of the record behind which it begins; None: behind the latest. `kept`: what the document wants
    besides what `wanted` says, asked before anything is hidden. `raw`: nothing is hidden from it; for another process
    of the node. `missed` counts what was overwritten before it was read."""

    def __init__(
        self,
        ring: FlowRing,
        wanted: FlowFilter | None = None,
        *,
        kept: FlowFilter | None = None,
        fields: tuple[str, ...] = (),
        last: int | None = None,
        raw: bool = False,
    ) -> None:
        self.ring = ring
        self.last = ring.latest if last is None or last > ring.latest else max(0, last)
        self.missed = 0
        self._wanted = wanted
        self._kept = kept
        self._mask = View(fields=fields)
        self._raw = raw
        self._unwanted = _joint(wanted, kept)

    @property
    def behind(self) -> int:
        """Records that it has not looked at."""
        return self.ring.latest - self.last

    def lost(self) -> int:
        """How many were overwritten since it looked last; it goes on behind them."""
        count = self.ring.oldest - 1 - self.last
        if count <= 0:
            return 0
        self.last += count
        self.missed += count
        return count

    def take(self, limit: int, looks: int | None = None) -> list[Record]:
        """Up to `limit` records, oldest first, one for what was lost among them. `looks`: how many records it may put
        into words for that."""
        found: list[Record] = []
        if limit <= 0:
            return found
        lost = self.lost()
        if lost:
            found.append(self.ring.lost(lost))
        looks = limit if looks is None else looks
        passed = looks * _CHEAP
        while len(found) < limit and looks > 0 and passed > 0 and self.last < self.ring.latest:
            start = self.last + 1
            number = self.ring.next_wanted(start, self._unwanted, passed)
            if number - start >= passed or number > self.ring.latest:
                self.last = number - 1
                break
            self.last = number
            passed -= number - start + 1
            looks -= 1
            record = self.ring.record(number)
            if self._kept is not None and not self._kept.fits(record):
                continue
            if not self._raw:
                record = self.ring.view.redacted(record)
            if self._wanted is None or self._wanted.fits(record):
                found.append(self._mask.masked(record))
        return found


def _joint(*filters: FlowFilter | None) -> list[float]:
    tables = [each.unwanted_ns() for each in filters if each is not None]
    return [max(column) for column in zip(*tables, strict=True)] if tables else list(_ANYTHING)
