"""The bounded cache of tag queries: exact while an answer is cached, least recently asked out first."""

from __future__ import annotations

from gateway.routing.queries import QueryCache
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, Tag
from tests.routing.routes import make_route, route_id

EU: Tag = ("zone", "eu")


def rack(number: int) -> Tag:
    return ("rack", str(number))


def test_an_answer_follows_joins_and_leaves_that_match_every_term() -> None:
    cache = QueryCache()
    first = make_route(1, tags={"zone": "eu", "rack": "1"})
    answer = cache.put((rack(1), EU), EU, [first])
    second = make_route(2, tags={"zone": "eu", "rack": "1"})
    other = make_route(3, tags={"zone": "eu", "rack": "2"})
    for route in (second, other):
        cache.joined(route)
    assert answer.routes == [first, second]
    for route in (first, other):
        cache.left(route)
    assert answer.routes == [second]
    assert answer.version == 2
    assert cache.get((rack(1), EU)) is answer


def test_an_answer_may_be_anchored_at_an_implicit_tag() -> None:
    cache = QueryCache()
    anchors = [(SERVICE_NAME, "pong"), (SUB, "device-1"), (ROUTE_ID, route_id(1).hex())]
    answers = [cache.put((anchor, EU), anchor, []) for anchor in anchors]
    route = make_route(1, "pong", subject="device-1", tags=dict([EU]))
    cache.joined(route)
    assert [answer.routes for answer in answers] == [[route]] * 3


def test_the_least_recently_asked_answer_goes_first() -> None:
    cache = QueryCache(capacity=3)
    queries = [(EU, rack(number)) for number in range(4)]
    for query in queries[:3]:
        cache.put(query, query[1], [])
    assert cache.get(queries[0]) is not None
    cache.put(queries[3], queries[3][1], [])
    assert len(cache) == 3
    assert cache.get(queries[1]) is None
    assert all(cache.get(queries[number]) is not None for number in (0, 2, 3))


def test_answers_at_one_anchor_are_bounded() -> None:
    """What a join at a popular tag costs does not depend on how many queries clients make up."""
    cache = QueryCache(capacity=100, anchor_capacity=4)
    answers = [cache.put((EU, rack(number)), EU, []) for number in range(10)]
    assert len(cache) == 4
    for number in range(10):
        cache.joined(make_route(number, tags=dict([EU, rack(number)])))
    assert [len(answer) for answer in answers] == [0] * 6 + [1] * 4


def test_an_answer_that_fell_out_is_not_changed_any_more() -> None:
    cache = QueryCache(capacity=1)
    dropped = cache.put((EU, rack(1)), EU, [])
    cache.put((EU, rack(2)), EU, [])
    cache.joined(make_route(1, tags=dict([EU, rack(1)])))
    assert dropped.routes == []
    assert dropped.version == 0
