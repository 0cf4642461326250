"""How much of what a consumer grants is passed on, and when the rest follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarding.credit import LARGE_ITEM_BYTES, WINDOW, Credit
from gateway.wire.frames import MAX_REQUEST_N


@pytest.mark.parametrize("n", [1, 2, 100, WINDOW])
def test_a_grant_within_the_window_passes_untouched(n: int) -> None:
    """P31."""
    assert Credit().grant(n, congested=False) == n


def test_grants_add_up_within_the_window() -> None:
    """P30."""
    credit = Credit()
    assert [credit.grant(64, congested=False) for _ in range(4)] == [64] * 4
    assert (credit.outstanding, credit.held) == (256, 0)


def test_a_larger_grant_is_held_beyond_the_window() -> None:
    """Fault 27."""
    credit = Credit()
    assert credit.grant(1000, congested=False) == WINDOW
    assert (credit.outstanding, credit.held) == (WINDOW, 1000 - WINDOW)


def test_what_is_held_follows_once_half_the_window_is_used() -> None:
    credit = Credit()
    credit.grant(1000, congested=False)
    credit.outstanding -= WINDOW // 2 - 1
    assert credit.refill() == 0
    credit.outstanding -= 1
    assert credit.refill() == WINDOW // 2
    assert (credit.outstanding, credit.held) == (WINDOW, 1000 - WINDOW - WINDOW // 2)


def test_the_last_instalment_is_what_is_left() -> None:
    credit = Credit()
    credit.grant(WINDOW + 10, congested=False)
    credit.outstanding = 0
    assert credit.refill() == 10
    assert credit.refill() == 0


def test_a_small_grant_behind_a_held_one_waits_its_turn() -> None:
    credit = Credit()
    credit.grant(1000, congested=False)
    assert credit.grant(1, congested=False) == 0
    credit.outstanding = 100
    assert credit.grant(1, congested=False) == WINDOW - 100


def test_the_largest_grant_twice_keeps_flowing() -> None:
    """P30, fault 25: it saturates, nothing wraps."""
    credit = Credit()
    assert credit.grant(MAX_REQUEST_N, congested=False) == WINDOW
    assert credit.grant(MAX_REQUEST_N, congested=False) == 0
    assert credit.held == MAX_REQUEST_N
    passed = WINDOW
    for _ in range(10_000):
        credit.outstanding -= 1
        passed += credit.refill()
    assert credit.outstanding + 10_000 == passed
    assert credit.outstanding > 0


def test_a_congested_consumer_gets_nothing_for_now() -> None:
    """Fault 27."""
    credit = Credit()
    assert credit.grant(5, congested=True) == 0
    assert (credit.outstanding, credit.held) == (0, 5)
    assert credit.refill() == 5


def test_large_items_narrow_the_window() -> None:
    """Fault 27: what is under way is bounded in bytes as well."""
    credit = Credit()
    assert credit.grant(1000, congested=False) == WINDOW
    credit.narrow(16 * LARGE_ITEM_BYTES)
    credit.outstanding = 9
    assert credit.refill() == 0
    credit.outstanding = 8
    assert credit.refill() == 8
    credit.narrow(2 * LARGE_ITEM_BYTES)
    credit.outstanding = 8
    assert credit.refill() == 8, "it does not widen again"


def test_the_largest_items_go_one_by_one() -> None:
    credit = Credit()
    credit.grant(1000, congested=False)
    credit.narrow(0xFFFFFF)
    credit.outstanding = 1
    assert credit.refill() == 0
    credit.outstanding = 0
    assert credit.refill() == 1


class Course:
    """A consumer, a producer and the credit between them."""

    def __init__(self) -> None:
        self.credit = Credit()
        self.granted = self.passed = self.used = 0

    def grant(self, n: int, congested: bool) -> None:
        self.granted += n
        self.passed += self.credit.grant(n, congested)

    def item(self, size: int, congested: bool) -> None:
        if self.used == self.passed:
            return
        self.used += 1
        self.credit.outstanding -= 1
        if size > LARGE_ITEM_BYTES:
            self.credit.narrow(size)
        if self.credit.held and not congested:
            self.passed += self.credit.refill()

    def check(self) -> None:
        assert self.credit.outstanding == self.passed - self.used
        assert 0 <= self.credit.outstanding <= WINDOW
        assert self.credit.held == self.granted - self.passed


STEPS = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 2000), st.booleans()),
    st.tuples(st.just("item"), st.integers(0, 100_000), st.booleans()),
    st.tuples(st.just("drained"), st.just(0), st.just(False)),
)


@given(st.lists(STEPS, max_size=60))
def test_over_any_course_no_more_is_passed_on_than_was_granted_and_all_of_it_in_the_end(
    steps: list[tuple[str, int, bool]],
) -> None:
    """P30, P31."""
    course = Course()
    for what, number, congested in steps:
        if what == "grant":
            course.grant(number, congested)
        elif what == "item":
            course.item(number, congested)
        elif course.credit.held:
            course.passed += course.credit.refill()
        course.check()
    # From here on nobody is congested and items flow.
    if course.credit.held:
        course.passed += course.credit.refill()
    for _ in range(course.granted):
        course.item(1, congested=False)
    course.check()
    assert course.passed == course.granted == course.used
