"""What is given up, by how late the event loop is."""

from __future__ import annotations

import pytest

from gateway.policy.overload import HOLD_S, LoopLoad, Overload


@pytest.mark.parametrize(
    ("late_s", "level"),
    [
        (0.0, Overload.NONE),
        (0.099, Overload.NONE),
        (0.1, Overload.LATE),
        (0.101, Overload.LATE),
        (0.499, Overload.LATE),
        (0.5, Overload.SHEDDING),
        (0.501, Overload.SHEDDING),
    ],
)
def test_bounds(late_s: float, level: Overload) -> None:
    """limits.lag_warn_ms, limits.lag_shed_ms: below, at and above each."""
    load = LoopLoad(0.1, 0.5)
    assert load.level is Overload.NONE
    assert load.observe(late_s, 100.0) is level
    assert load.level is level


def test_a_level_holds_for_a_moment_and_gives_way_to_the_next() -> None:
    load = LoopLoad(0.1, 0.5)
    load.observe(0.6, 100.0)
    assert load.observe(0.0, 100.0 + HOLD_S / 2) is Overload.SHEDDING
    assert load.observe(0.2, 100.0 + HOLD_S * 0.9) is Overload.SHEDDING
    assert load.observe(0.0, 100.0 + HOLD_S) is Overload.LATE
    assert load.observe(0.0, 100.0 + HOLD_S * 1.9) is Overload.NONE
