"""Who goes first when a limit is reached, and what an overloaded node still takes."""

from __future__ import annotations

from random import Random

import pytest

from gateway.policy.overload import Overload
from gateway.policy.shedding import PRIORITIES, REMEMBER_S, Shedder, serves


@pytest.mark.parametrize("asked", [9, 10, 11])
def test_the_limit_is_exact(asked: int) -> None:
    shedder = Shedder(100.0)
    assert sum(shedder.admit(4, 10, 100.0) for _ in range(asked)) == min(10, asked)
    assert shedder.open == min(10, asked)
    assert shedder.shed[4] == max(0, asked - 10)
    if asked > 10:
        shedder.ended(4)
        assert shedder.admit(4, 10, 100.0)
        assert not shedder.admit(4, 10, 100.0)


def test_without_a_limit_all_are_taken_and_counted() -> None:
    shedder = Shedder(100.0)
    assert all(shedder.admit(7, 0, 100.0) for _ in range(1000))
    assert shedder.open_of(7) == 1000


@pytest.mark.parametrize("priority", range(PRIORITIES))
def test_one_priority_alone_may_use_all_of_it(priority: int) -> None:
    shedder, now = Shedder(100.0), 100.0
    for _ in range(50):
        now += 0.1
        assert sum(shedder.admit(priority, 10, now) for _ in range(20)) == 10
        for _ in range(10):
            shedder.ended(priority)


def test_the_lower_leaves_room_for_what_the_higher_has_lately_used() -> None:
    shedder = Shedder(100.0)
    for _ in range(4):
        assert shedder.admit(0, 10, 100.0)
    for _ in range(4):
        shedder.ended(0)
    assert sum(shedder.admit(7, 10, 100.5) for _ in range(20)) == 6
    assert sum(shedder.admit(0, 10, 100.5) for _ in range(20)) == 4


def test_what_the_higher_was_refused_is_kept_for_it() -> None:
    shedder = Shedder(100.0)
    assert sum(shedder.admit(7, 10, 100.0) for _ in range(20)) == 10
    for _ in range(3):
        assert not shedder.admit(0, 10, 100.1)
    for _ in range(3):
        shedder.ended(7)
        assert not shedder.admit(7, 10, 100.1)
    assert sum(shedder.admit(0, 10, 100.2) for _ in range(9)) == 3


def test_room_is_not_kept_for_ever() -> None:
    shedder = Shedder(100.0)
    for _ in range(4):
        shedder.admit(0, 10, 100.0)
        shedder.ended(0)
    shedder.admit(7, 10, 100.0 + REMEMBER_S)
    shedder.ended(7)
    assert sum(shedder.admit(7, 10, 100.0 + 2 * REMEMBER_S) for _ in range(20)) == 10


@pytest.mark.parametrize("seed", range(6))
def test_under_overload_the_low_are_shed_first_and_never_more_are_open_than_the_limit(seed: int) -> None:
    """Twice as much is asked as the limit lets through; of the highest nearly all gets through, and all is counted."""
    random, now = Random(seed), 100.0
    shedder = Shedder(now)
    under_way: list[int] = []
    asked, passed = [0] * PRIORITIES, [0] * PRIORITIES
    for _ in range(8000):
        now += 0.002
        for priority in random.choices((1, 4, 6), (1, 2, 2), k=2):
            asked[priority] += 1
            if shedder.admit(priority, 20, now):
                passed[priority] += 1
                under_way.append(priority)
        assert shedder.open == len(under_way) <= 20
        if under_way:
            shedder.ended(under_way.pop(random.randrange(len(under_way))))
    shares = [passed[priority] / asked[priority] for priority in (1, 4, 6)]
    assert shares[0] > 0.85
    assert shares[0] > shares[1] > shares[2]
    assert [asked[each] - passed[each] for each in range(PRIORITIES)] == shedder.shed


@pytest.mark.parametrize(("overload", "served"), [(Overload.NONE, 7), (Overload.LATE, 5), (Overload.SHEDDING, 4)])
def test_an_overloaded_node_sheds_what_was_declared_less_important(overload: Overload, served: int) -> None:
    assert [priority for priority in range(PRIORITIES) if serves(priority, overload)] == list(range(served + 1))
