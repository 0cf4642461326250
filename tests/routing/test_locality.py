"""How near a route is, against an oracle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.locality import distance, tiers
from tests.routing.routes import make_route

LEVELS = ("edge", "site", "region")


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({"edge": "e1", "site": "7", "region": "eu"}, {"edge": "e1", "site": "7", "region": "eu"}, 0),
        ({"edge": "e1", "site": "7", "region": "eu"}, {"edge": "e2", "site": "7", "region": "eu"}, 1),
        ({"edge": "e1", "site": "7", "region": "eu"}, {"edge": "e2", "site": "8", "region": "eu"}, 2),
        ({"edge": "e1", "site": "7", "region": "eu"}, {"edge": "e2", "site": "8", "region": "us"}, 3),
        # Site 7 of another region is another site.
        ({"site": "7", "region": "eu"}, {"site": "7", "region": "us"}, 3),
        # Whoever says less is told apart by less.
        ({"site": "7", "region": "eu"}, {"site": "7"}, 1),
        ({}, {"site": "7"}, 3),
        ({}, {}, 3),
    ],
)
def test_the_nearest_level_at_which_they_meet(here: dict[str, str], there: dict[str, str], expected: int) -> None:
    assert distance(LEVELS, here, there) == expected
    assert distance(LEVELS, there, here) == expected


places = st.dictionaries(st.sampled_from(LEVELS), st.sampled_from(["1", "2"]))


@given(places, places)
def test_against_an_oracle(here: dict[str, str], there: dict[str, str]) -> None:
    meeting = []
    for index, level in enumerate(LEVELS):
        apart = any(here.get(wider, there.get(wider)) != there.get(wider, here.get(wider)) for wider in LEVELS[index:])
        if level in here and level in there and not apart:
            meeting.append(index)
    assert distance(LEVELS, here, there) == min(meeting, default=len(LEVELS))


@given(st.lists(st.integers(0, 3), max_size=8))
def test_tiers_are_in_order_and_lose_nobody(distances: list[int]) -> None:
    routes = [make_route(number) for number in range(len(distances))]
    by_route = dict(zip(routes, distances, strict=True))
    found = tiers(routes, by_route)
    assert [[by_route[route] for route in tier] for tier in found] == [
        [distance] * distances.count(distance) for distance in sorted(set(distances))
    ]
    assert sorted((route for tier in found for route in tier), key=routes.index) == routes
