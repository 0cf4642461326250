"""Answers to tag queries of several terms, kept exact while they are cached.

A query is filed under one of its terms, its anchor. A route that joins or leaves has a few terms; only the queries
anchored at one of them can change, so keeping hundreds of answers exact costs a join a few dictionary lookups. Both the
number of answers and the number filed under one anchor are bounded, which bounds that cost whatever clients ask for.

An answer that falls out is not maintained any longer, but it is exact at the generation at which it fell out; whoever
holds it looks again when the generation has moved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from gateway.routing.group import Group
from gateway.routing.route import Route
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, Query, Tag

_CAPACITY = 1024
_ANCHOR_CAPACITY = 64


class _Answer(Group):
    __slots__ = ("anchor", "query")

    def __init__(self, query: Query, anchor: Tag, routes: Iterable[Route]) -> None:
        super().__init__(routes)
        self.query = query
        self.anchor = anchor


class QueryCache:
    """query -> live group; the least recently asked answer goes first."""

    __slots__ = ("_anchor_capacity", "_anchors", "_answers", "_capacity")

    def __init__(self, capacity: int = _CAPACITY, anchor_capacity: int = _ANCHOR_CAPACITY) -> None:
        self._capacity = capacity
        self._anchor_capacity = anchor_capacity
        # An OrderedDict finds its oldest entry at once; a dict scans the places of all that were dropped before it.
        self._answers: OrderedDict[Query, _Answer] = OrderedDict()
        self._anchors: dict[Tag, list[_Answer]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, query: Query) -> Group | None:
        answer = self._answers.get(query)
        if answer is not None:
            self._answers.move_to_end(query)
        return answer

    def put(self, query: Query, anchor: Tag, routes: Iterable[Route]) -> Group:
        """Files the answer to a query that is not cached; ``anchor`` is one of its terms, best the rarest."""
        if len(self._answers) >= self._capacity:
            self._drop(next(iter(self._answers.values())))
        filed = self._anchors.get(anchor)
        if filed is not None and len(filed) >= self._anchor_capacity:
            self._drop(filed[0])
        answer = _Answer(query, anchor, routes)
        self._answers[query] = answer
        self._anchors.setdefault(anchor, []).append(answer)
        return answer

    def joined(self, route: Route) -> None:
        for answer in self._affected(route):
            answer.add(route)

    def left(self, route: Route) -> None:
        for answer in self._affected(route):
            answer.remove(route)

    def _affected(self, route: Route) -> Iterator[_Answer]:
        anchors = self._anchors
        if not anchors:
            return
        for term in (
            (SERVICE_NAME, route.service),
            (SUB, route.subject),
            (ROUTE_ID, route.route_id.hex()),
            *route.tags.items(),
        ):
            filed = anchors.get(term)
            if filed is not None:
                for answer in filed:
                    if route.matches(answer.query):
                        yield answer

    def _drop(self, answer: _Answer) -> None:
        del self._answers[answer.query]
        filed = self._anchors[answer.anchor]
        if len(filed) == 1:
            del self._anchors[answer.anchor]
        else:
            filed.remove(answer)
