"""Live candidates, against a plain set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.group import Group
from tests.routing.routes import make_route

ROUTES = [make_route(number) for number in range(60)]


@given(st.sets(st.sampled_from(ROUTES)), st.lists(st.sampled_from(ROUTES), max_size=200))
def test_a_group_holds_what_was_added_and_not_removed(start: set, changes: list) -> None:
    group = Group(start)
    expected = set(start)
    for number, route in enumerate(changes, 1):
        if route in expected:
            expected.remove(route)
            group.remove(route)
        else:
            expected.add(route)
            group.add(route)
        assert group.version == number
        assert len(group) == len(group.routes) == len(expected)
        assert set(group.routes) == expected


@pytest.mark.parametrize("size", [3, 40])
def test_removing_a_route_that_the_group_does_not_hold_is_an_error(size: int) -> None:
    group = Group(ROUTES[:size])
    with pytest.raises((ValueError, KeyError)):
        group.remove(ROUTES[size])


def test_the_list_object_stays_the_same() -> None:
    group = Group()
    routes = group.routes
    for route in ROUTES:
        group.add(route)
    assert group.routes is routes
