"""Latencies in buckets against the exact quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.load.histogram import Histogram

durations = st.floats(min_value=0.0, max_value=19.9, allow_nan=False)


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_a_bucket_of_the_exact_ones(recorded: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in recorded:
        histogram.record(duration)
    ordered = sorted(recorded)
    exact = ordered[max(int(-(-share * len(ordered) // 1)) - 1, 0)]
    assert histogram.count == len(recorded)
    assert histogram.longest == max(recorded)
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.005, abs=1e-6)


def test_beyond_the_last_bucket_the_longest_stands() -> None:
    histogram = Histogram()
    for duration in (1e-3, 50.0, 70.0):
        histogram.record(duration)
    assert histogram.quantile(0.99) == 70.0
    assert histogram.quantile(0.1) == pytest.approx(1e-3, abs=1e-6)


def test_empty_and_cleared() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0.0
    histogram.record(1.0)
    histogram.clear()
    assert (histogram.count, histogram.longest, histogram.quantile(0.5)) == (0, 0.0, 0.0)
