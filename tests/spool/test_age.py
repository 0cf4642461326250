"""Ages on hosts whose wall clock may say anything."""

from __future__ import annotations

import pytest

from gateway.spool.age import MAX_OFF_MS, SETTLE_MS, Clock, Timeline
from tests.spool.conftest import HandClock

HOUR = 3600.0
HOUR_MS = 3600 * 1000


def timeline(time: HandClock, run_before: int = 0) -> Timeline:
    return Timeline(time.clock(), run_before)


@pytest.mark.parametrize("jump", [-50 * 365 * 24 * HOUR, -HOUR, HOUR, 10 * 365 * 24 * HOUR])
def test_a_wall_clock_that_jumps_ages_nothing_of_this_run(jump: float) -> None:
    time = HandClock()
    line = timeline(time)
    stamp = line.running(), line.wall()
    time.pass_time(60)
    time.wall += jump
    assert line.age(*stamp) == 60_000


def test_time_without_power_counts_once_the_clock_had_time_to_be_set() -> None:
    time = HandClock()
    before = timeline(time)
    stamp = before.running(), before.wall()
    time.pass_time(10)
    run = before.running()
    time.wall += 5 * HOUR
    time.monotonic = 3.0
    after = timeline(time, run)
    assert after.age(*stamp) == pytest.approx(10_000, abs=2)
    time.pass_time(SETTLE_MS / 1000 + 1)
    assert after.age(*stamp) == pytest.approx(10_000 + 5 * HOUR_MS + SETTLE_MS + 1000, abs=2)


@pytest.mark.parametrize("wall", [0.0, 946_684_800.0, 1_900_000_000.0 + 10 * 365 * 24 * HOUR])
def test_a_clock_that_is_wrong_at_start_makes_nothing_old(wall: float) -> None:
    """1970, 2000 and ten years ahead: what is certain counts, and no more."""
    time = HandClock()
    before = timeline(time)
    stamp = before.running(), before.wall()
    time.pass_time(10)
    run = before.running()
    time.wall, time.monotonic = wall, 3.0
    after = timeline(time, run)
    time.pass_time(600)
    assert after.age(*stamp) == pytest.approx(610_000, abs=2)


def test_accepted_under_a_wrong_clock_is_not_old_when_the_clock_is_right_again() -> None:
    time = HandClock()
    right, time.wall = time.wall, 0.0
    before = timeline(time)
    stamp = before.running(), before.wall()
    time.pass_time(10)
    time.wall = right
    assert before.age(*stamp) == 10_000
    after = timeline(time, before.running())
    time.pass_time(600)
    assert right * 1000 > MAX_OFF_MS
    assert after.age(*stamp) == pytest.approx(610_000, abs=2)


def test_the_systems_clocks() -> None:
    line = Timeline(Clock(), 5)
    assert line.started == 6
    assert 0 <= line.age(line.running(), line.wall()) < 10_000
