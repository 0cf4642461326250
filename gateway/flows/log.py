"""Who wants to see requests, on one process: a `Telemetry` document, viewers, whoever has just looked.

The ring is there only while somebody does. Viewers are served a few records every `PACE_S`, all of them together
`LOOKS`, so that what they cost does not depend on how many there are or how much goes on; who cannot keep up is told
what it has missed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.observe.flow_fields import LOST, VERDICTS, Record, View
from gateway.observe.flow_filter import FilterError, FlowFilter
from gateway.observe.flow_reader import Reader
from gateway.observe.flows import IDENTITY_BYTES, FlowRing
from gateway.policy import telemetry

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane, Timer

#: Between two servings, in seconds.
PACE_S: Final = 0.02
#: Records that are put into words at one serving, for all viewers together, and for one of many at least.
LOOKS: Final = 128
LEAST_LOOKS: Final = 8
#: How long a look at the list keeps the ring, where nothing else does, in seconds.
LOOK_S: Final = 30.0
_NOTHING: Final = FlowFilter.parse('verdict == "LOST"')


class Viewing:
    """One viewer's place in the log, until `close`."""

    def __init__(self, log: FlowLog, reader: Reader, wanted: FlowFilter | None) -> None:
        self._log = log
        self._reader = reader
        self.wanted = wanted
        self.waiting: Callable[[], None] | None = None
        self._served = True

    @property
    def behind(self) -> bool:
        return self._reader.behind > 0

    @property
    def last(self) -> int:
        """The number of the record that it has looked at last."""
        return self._reader.last

    def take(self, limit: int) -> list[Record]:
        """What is new, oldest first: up to `limit` records, and once a serving."""
        if limit <= 0 or not self._served:
            return []
        self._served = False
        before = self._reader.missed
        found = self._reader.take(limit, self._log.share)
        self._log.lost += self._reader.missed - before
        return found

    def when_more(self, callback: Callable[[], None]) -> None:
        """Call once when `take` may have something."""
        self.waiting = callback
        self._log.await_more(self)

    def serve(self) -> None:
        callback, self.waiting, self._served = self.waiting, None, True
        if callback is not None:
            callback()

    def close(self) -> None:
        self.waiting = None
        self._log.leave(self)


class FlowLog:
    """`on_want`: told when what is wanted has changed, for the other processes of the node. `lost`: records that some
    viewer has missed."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._rules: telemetry.FlowLog | None = None
        self._filter: FlowFilter | None = None
        self._viewings: list[Viewing] = []
        self._asked: list[FlowFilter | None] = []
        self._capacity = telemetry.FlowLog().capacity
        self._identity = secrets.token_bytes(IDENTITY_BYTES)
        self._latest = 0
        self._timer: Timer | None = None
        self._looked: Timer | None = None
        self.lost = 0
        self.on_want: Callable[[], None] = _ignore

    # What is wanted

    @property
    def ring(self) -> FlowRing | None:
        return self._plane.flows

    @property
    def share(self) -> int:
        """Records that one viewer may have put into words at a serving."""
        return max(LEAST_LOOKS, LOOKS // max(1, len(self._viewings)))

    @property
    def kept(self) -> FlowFilter | None:
        """What the document keeps; None: everything."""
        return self._filter

    @property
    def wanted(self) -> list[str]:
        """The filters of all who want something; empty where nobody does, "" for everything."""
        return ["" if each is None else each.text for each in self._wants()]

    def _wants(self) -> list[FlowFilter | None]:
        wants: list[FlowFilter | None] = [] if self._rules is None else [self._filter]
        wants += [viewing.wanted for viewing in self._viewings]
        wants += self._asked
        if self._looked is not None and self._rules is None:
            wants.append(None)
        return wants

    def govern(self, rules: telemetry.FlowLog | None) -> None:
        """Go by what a document says, or by none."""
        if rules == self._rules:
            return
        self._rules = rules
        self._filter = _parsed(rules)
        self._settle()

    def want(self, filters: list[str], capacity: int) -> None:
        """The first process of the node wants what fits any of these; nothing, where there are none."""
        self._asked = [_read(text) for text in filters]
        self._capacity = capacity
        self._settle()

    @property
    def capacity(self) -> int:
        """Records that the ring holds."""
        return self._capacity if self._rules is None else self._rules.capacity

    def _settle(self, *more: FlowFilter | None, here: bool = False) -> None:
        """Have the ring as it is wanted. `more`: what is about to be; `here`: whoever wants it tells the others."""
        plane, wants = self._plane, [*self._wants(), *more]
        if not wants:
            if plane.flows is not None:
                self._latest = plane.flows.latest
                plane.record(None)
            self.on_want()
            return
        if plane.flows is None:
            ring = FlowRing(self.capacity, plane.node, self._identity, plane.monotonic, plane.wall, latest=self._latest)
            ring.news = self._news
            plane.record(ring)
        assert plane.flows is not None
        plane.flows.resize(self.capacity)
        plane.flows.view = View(redact=() if self._rules is None else self._rules.redact)
        plane.flows.want(wants)
        if not here:
            self.on_want()

    # Viewers

    def view(
        self,
        wanted: FlowFilter | None = None,
        *,
        everything: bool = False,
        fields: tuple[str, ...] = (),
        last: int | None = None,
        raw: bool = False,
    ) -> Viewing:
        """Begin to look: at what the document keeps, or with `everything` at what it does not keep, too. `last`: the
        number behind which to begin; not said: at what comes next. `raw`: for another process of the node, whatever
        that has asked for."""
        everything = everything or self._rules is None
        kept = None if everything else self._filter
        want = _NOTHING if raw else wanted if everything else kept
        fresh = self.ring is None
        self._settle(want, here=True)
        ring = self.ring
        assert ring is not None
        # Where there was no ring, what was last seen is no place in this one.
        reader = Reader(ring, wanted, kept=kept, fields=fields, last=None if fresh else last, raw=raw)
        viewing = Viewing(self, reader, want)
        self._viewings.append(viewing)
        self.on_want()
        return viewing

    def look(self) -> FlowRing:
        """The ring, for a list of what it holds now. It stays for a while, so that a second look finds something."""
        if self._looked is not None:
            self._looked.cancel()
        self._looked = self._plane.later(LOOK_S, self._looked_away)
        if self.ring is None:
            self._settle()
        ring = self.ring
        assert ring is not None
        return ring

    def _looked_away(self) -> None:
        self._looked = None
        self._settle()

    def leave(self, viewing: Viewing) -> None:
        if viewing in self._viewings:
            self._viewings.remove(viewing)
            self._settle()

    def stop(self) -> None:
        for timer in (self._timer, self._looked):
            if timer is not None:
                timer.cancel()
        self._timer = self._looked = None

    # Serving

    def await_more(self, viewing: Viewing) -> None:
        """Serve it when there is something, and not before its time."""
        if viewing.behind:
            self._news()
        elif self.ring is not None:
            self.ring.awaited = True

    def _news(self) -> None:
        if self._timer is None:
            self._timer = self._plane.later(PACE_S, self._serve)

    def _serve(self) -> None:
        self._timer = None
        for viewing in [each for each in self._viewings if each.waiting is not None and each.behind]:
            viewing.serve()
        waiting = [each for each in self._viewings if each.waiting is not None]
        if any(each.behind for each in waiting):
            self._news()
        elif waiting and self.ring is not None:
            self.ring.awaited = True

    # Other processes of the node

    def hear(self, records: list[Record]) -> None:
        """What another process has written."""
        ring = self.ring
        if ring is not None:
            for record in records:
                if record["verdict"] == VERDICTS[LOST]:
                    self.lost += int(record["lost"])
                ring.put_record(record)


def _parsed(rules: telemetry.FlowLog | None) -> FlowFilter | None:
    return None if rules is None else _read(rules.filter)


def _read(text: str) -> FlowFilter | None:
    try:
        return FlowFilter.parse(text)
    except FilterError:
        # The validator takes no such document; one that stands all the same keeps everything.
        return None


def _ignore() -> None:
    return
