"""Parts of the requests, against counting."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.split import Share, Split

MASK = 0xFFFFFFFF
weights = st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(any)
starts = st.integers(0, MASK)


@given(weights, starts, st.integers(1, 2000))
def test_any_run_of_requests_is_shared_by_weight(weights: list[int], start: int, n: int) -> None:
    split = Split(weights, start)
    drawn = Counter(split.draw() for _ in range(n))
    assert sum(drawn.values()) == n
    for part, weight in enumerate(weights):
        assert abs(drawn[part] - n * weight / sum(weights)) <= 6
        if not weight:
            assert not drawn[part]


@pytest.mark.parametrize("stride", [2, 3, 10, 20, 97, 100])
def test_who_sees_every_so_many_requests_sees_the_same_shares(stride: int) -> None:
    split = Split([95, 5], 1)
    drawn = [split.draw() for _ in range(2000 * stride)]
    for first in range(min(stride, 5)):
        assert abs(sum(drawn[first::stride]) - 100) <= 30


def test_five_percent_of_a_hundred_thousand() -> None:
    split = Split([95, 5], 12345)
    assert abs(sum(split.draw() for _ in range(100_000)) - 5000) <= 6


@given(weights, st.lists(st.integers(0, MASK), min_size=1, max_size=50))
def test_a_point_belongs_to_the_part_that_covers_it(weights: list[int], points: list[int]) -> None:
    split = Split(weights)
    total = sum(weights)
    for point in points:
        bounds = [round(sum(weights[: part + 1]) / total * (MASK + 1)) for part in range(len(weights))]
        assert split.at(point) == next(part for part, bound in enumerate(bounds) if point < bound)


def test_growing_a_part_moves_only_what_it_takes() -> None:
    before, after = Split([95, 5]), Split([90, 10])
    points = [number * 2654435761 & MASK for number in range(10_000)]
    moved = [point for point in points if before.at(point) != after.at(point)]
    assert all((before.at(point), after.at(point)) == (0, 1) for point in moved)
    assert abs(len(moved) - 500) <= 25


@pytest.mark.parametrize("bad", [[], [0], [0, 0], [101, -1]])
def test_weights_that_mean_nothing_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Split(bad)


@given(st.floats(0, 1), starts, st.integers(1, 1000))
def test_a_share_of_any_run(share: float, start: int, n: int) -> None:
    drawn = Share(share, start)
    assert abs(sum(drawn.draw() for _ in range(n)) - n * share) <= 6


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float) -> None:
    drawn = Share(share, 99)
    assert {drawn.draw() for _ in range(1000)} == {bool(share)}
