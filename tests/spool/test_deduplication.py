"""Arrivals against a model that remembers every number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.deduplication import MAX_RANGES, Arrivals, TooManyGaps

Steps = st.lists(
    st.one_of(st.tuples(st.just("add"), st.integers(1, 40)), st.tuples(st.just("floor"), st.integers(1, 40)))
)


@given(Steps)
def test_each_number_is_new_once_whatever_the_order(steps: list[tuple[str, int]]) -> None:
    """Fault 77: duplicated, reordered and gapped numbers; below the floor nothing is new."""
    arrivals = Arrivals()
    come: set[int] = set()
    given_up: set[int] = set()
    floor = 1
    for what, number in steps:
        if what == "floor":
            gone = {seq for seq in range(1, number) if seq not in come and seq not in given_up}
            assert arrivals.advance(number) == len(gone)
            given_up |= gone
            floor = max(floor, number)
        else:
            assert arrivals.add(number) == (number not in come and number not in given_up)
            come |= {number} - given_up
        settled = floor - 1
        while settled + 1 in come or settled + 1 in given_up:
            settled += 1
        assert arrivals.settled == settled
        assert arrivals.missing == len(given_up)
        ahead = {seq for first, last in arrivals.above for seq in range(first, last + 1)}
        assert ahead == {seq for seq in come if seq > settled}
        assert all(a[1] + 1 < b[0] for a, b in zip(arrivals.above, arrivals.above[1:], strict=False))


def test_a_sender_that_leaves_holes_for_ever_costs_bounded_memory() -> None:
    """Fault 77: a gap is accepted; when there are too many, what was sent before has to come first: none is lost."""
    arrivals = Arrivals()
    for seq in range(2, 2 * MAX_RANGES + 2, 2):
        assert arrivals.add(seq)
    with pytest.raises(TooManyGaps):
        arrivals.add(2 * MAX_RANGES + 2)
    assert len(arrivals.above) == MAX_RANGES
    assert arrivals.missing == 0
    assert arrivals.add(1)
    assert arrivals.add(2 * MAX_RANGES + 2)
