"""What has become of links: which are up, which have gone and why, and what somebody should look at.

Told by `Federation`; tells events, and raises alarms through what the composition root hands in. Must not know: HTTP,
the control plane.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.forwarding.links import DOWNLINK

if TYPE_CHECKING:
    from gateway.federation.link import Link

#: Nodes of which the end of the last link is remembered.
MAX_ENDED: Final = 4096
#: For how long an edge has to be without an uplink before that is an alarm, in seconds.
UPLINK_DOWN_S: Final = 60.0
#: So many digests of one link that do not add up, within so many seconds, are an alarm.
MISMATCHES: Final = 3
MISMATCHES_S: Final = 600.0


class Tell(Protocol):
    """Where events go."""

    def __call__(self, kind: str, subject: str, **data: object) -> None: ...


#: Nodes that have a label of their own in metrics; edges share one, and so do those that come later.
MAX_LABELS: Final = 64
EDGES: Final = "(edges)"
OTHERS: Final = "(other)"


class Past(NamedTuple):
    """What links of one kind to one node have counted that are over."""

    bytes_in: int = 0
    bytes_out: int = 0
    restarts: int = 0
    mismatches: int = 0

    def and_of(self, link: Link) -> Past:
        connection = link.connection
        return Past(
            self.bytes_in + connection.bytes_in,
            self.bytes_out + connection.outbox.bytes_sent,
            self.restarts + link.restarts,
            self.mismatches + link.mismatched,
        )


class Ended(NamedTuple):
    """A link that is over. `at`: Unix seconds."""

    kind: str
    at: float
    why: str


def _nobody(kind: str, subject: str, **data: object) -> None:
    pass


class Journal:
    """`ended`: by node, the last link that ended and that no other has replaced. `past`: what links have counted that
    are over, by kind and label; each that was ever up has one."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.tell: Tell = _nobody
        self.alarm: Callable[[str, str], None] = lambda slug, text: None
        self.calm: Callable[[str], None] = lambda slug: None
        self.ended: OrderedDict[bytes, Ended] = OrderedDict()
        self.past: dict[tuple[str, str], Past] = {}
        self._up: set[Link] = set()

    def up(self, link: Link) -> None:
        """It is known who is at the other end."""
        self._up.add(link)
        self.past.setdefault((link.kind, self.label(link)), Past())
        self.ended.pop(link.node, None)
        self.tell("link.up", link.name, link=link.kind, address=link.url or link.connection.peer)

    def label(self, link: Link) -> str:
        """What a link goes by in metrics, of which there may be only so many."""
        label = EDGES if link.side == DOWNLINK else link.name
        return label if (link.kind, label) in self.past or len(self.past) < MAX_LABELS else OTHERS

    def down(self, link: Link, why: str) -> None:
        if link not in self._up:
            return
        self._up.discard(link)
        key = (link.kind, self.label(link))
        self.past[key] = self.past.get(key, Past()).and_of(link)
        now = self._wall()
        if not any(other.node == link.node for other in self._up):
            self.ended[link.node] = Ended(link.kind, now, why)
            self.ended.move_to_end(link.node)
            if len(self.ended) > MAX_ENDED:
                self.ended.popitem(last=False)
        self.tell("link.down", link.name, link=link.kind, why=why, duration_s=round(now - link.up_since, 3))

    def moved(self, before: Link | None, link: Link | None) -> None:
        """Another uplink is in use, or none."""
        if link is not None:
            self.tell("link.moved", link.name, before="" if before is None else before.name)

    def raise_alarm(self, slug: str, text: str) -> None:
        self.alarm(slug, text)

    def end_alarm(self, slug: str) -> None:
        self.calm(slug)

    def look(self, links: Iterable[Link], down_since: float | None) -> None:
        """See whether something lasts too long. `down_since`: there should be an uplink, and is none."""
        now = self._wall()
        if down_since is not None and now - down_since > UPLINK_DOWN_S:
            self.alarm("uplink_down", "this edge has no uplink: what is local goes on, and nothing else does")
        elif down_since is None:
            self.calm("uplink_down")
        names = sorted(link.name for link in links if self._differs(link, now))
        if names:
            self.alarm("routes_differ", f"what {', '.join(names)} tells of its routes does not add up again and again")
        else:
            self.calm("routes_differ")

    @staticmethod
    def _differs(link: Link, now: float) -> bool:
        times = link.mismatches
        return len(times) == MISMATCHES and now - times[0] < MISMATCHES_S
