"""What a broker is asked for, so that each message comes once, whatever the filters have in common.

A filter within another one is left out. Of two that overlap a broker may send a message once each (MQTT 5.0, 3.3.4), as
Mosquitto does. Under MQTT 5 such filters have identifiers, which a message brings along: one of its copies counts, that
of the highest QoS. Version 4 has none: there a filter within another raises that one's QoS, and what overlaps only
partly may come twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from gateway.policy.mqtt_filters import SEPARATOR, SHARE, common, covers
from gateway.topics.tree import FilterTree

#: Identifiers are 1 to 2^28 - 1: which filters overlap, as a digest, and a place among them.
_PLACES: Final = 1 << 10
_DIGESTS: Final = 1 << 18


class Subscription(NamedTuple):
    """`number`: its identifier; 0 where it has nothing in common with another."""

    topic: str
    qos: int
    number: int = 0


class Subscriptions:
    """Those of one session, `asked`."""

    def __init__(self, filters: Iterable[tuple[str, int]], *, identifiers: bool) -> None:
        """`filters`: with the QoS of each. `identifiers`: whether messages say by which of them they come."""
        wanted: dict[str, int] = {}
        for topic, qos in filters:
            wanted[topic] = max(qos, wanted.get(topic, 0))
        if not identifiers:
            for topic in wanted:
                wanted[topic] = max(qos for other, qos in wanted.items() if covers(topic, other))
        kept = [
            Subscription(topic, qos)
            for topic, qos in wanted.items()
            if not any(other != topic and most >= qos and covers(other, topic) for other, most in wanted.items())
        ]
        self.asked = tuple(_numbered(kept) if identifiers else kept)
        self._numbers = frozenset(each.number for each in self.asked if each.number)
        self._tree: FilterTree[Subscription] = FilterTree()
        for each in self.asked:
            if each.number:
                self._tree.add(each.topic, each)

    def is_copy(self, topic: str, numbers: Sequence[int]) -> bool:
        """Whether a message that comes by these identifiers comes another time, too, and that one counts.

        An identifier that is not of now is of before the filters changed: such a message is none, since nobody knows
        what else of it comes.
        """
        if not self._numbers.issuperset(numbers):
            return False
        found = self._tree.find(topic.split(SEPARATOR))
        if len(found) < 2:
            return False
        return max(found, key=_rank).number not in numbers


def _rank(each: Subscription) -> tuple[int, int]:
    return each.qos, -each.number


def _numbered(kept: list[Subscription]) -> list[Subscription]:
    # Of what is shared nobody knows which message comes.
    whole = [each for each in kept if not each.topic.startswith(SHARE)]
    overlapping = [
        each for each in whole if any(other is not each and common(each.topic, other.topic) for other in whole)
    ]
    # Another number for each as soon as one of them changes: what the broker held until then came by the old ones.
    digest = crc32(repr(overlapping).encode()) % (_DIGESTS - 1)
    places = {each.topic: place for place, each in enumerate(overlapping[: _PLACES - 1], 1)}
    return [
        each._replace(number=digest * _PLACES + places[each.topic]) if each.topic in places else each for each in kept
    ]
