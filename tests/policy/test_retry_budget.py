"""How many retries a service is worth: under way at once, and over time."""

from __future__ import annotations

from random import Random

import pytest

from gateway.policy.retry_budget import SAVED, RetryAccount
from gateway.policy.traffic import RetryBudget


def began(account: RetryAccount, number: int) -> RetryAccount:
    for _ in range(number):
        account.begin()
    return account


def granted(account: RetryAccount, asked: int) -> int:
    return sum(account.take(False) for _ in range(asked))


@pytest.mark.parametrize(
    ("few", "open_", "expected"), [(3, 4, 3), (0, 4, 0), (0, 5, 0), (0, 6, 1), (1, 12, 2), (3, 24, 4)]
)
def test_a_share_of_what_is_under_way_or_a_few(few: int, open_: int, expected: int) -> None:
    """Those that are tried again are no part of what is under way: of six, one retry leaves five."""
    account = began(RetryAccount(RetryBudget(0.2, few)), open_)
    assert granted(account, open_) == expected
    assert (account.open, account.retrying) == (open_ - expected, expected)


def test_who_is_tried_again_once_more_asks_once_more() -> None:
    account = began(RetryAccount(RetryBudget(0.2, 1)), 2)
    assert account.take(False)
    assert not account.take(False)
    assert account.take(True)  # it has its place already
    assert (account.open, account.retrying) == (1, 1)
    account.end(True)
    assert account.take(False)
    account.end(True)
    assert (account.open, account.retrying) == (0, 0)


def test_no_retries_at_all() -> None:
    account = began(RetryAccount(RetryBudget(0.0, 0)), 1000)
    assert granted(account, 1000) == 0


def test_requests_that_go_quickly_bring_their_share_along_all_the_same() -> None:
    """A retry takes no time here and a request long, so the share of what is under way alone would bound nothing."""
    account = began(RetryAccount(RetryBudget(0.2, 0)), 500)
    retried = 0
    for _ in range(10_000):
        account.begin()
        if account.take(False):
            retried += 1
            account.end(True)
        else:
            account.end(False)
    assert retried <= 0.2 * 10_500
    assert retried >= 0.2 * 10_000


def test_what_quiet_times_save_has_a_limit() -> None:
    account = began(RetryAccount(RetryBudget(0.2, 0)), 100_000)
    assert granted(account, 50_000) == SAVED


@pytest.mark.parametrize("few", [0, 3])
def test_at_any_load_and_any_failures_there_are_no_more(few: int) -> None:
    random = Random(3)
    for _ in range(20):
        account = RetryAccount(RetryBudget(0.2, few))
        begun = retried = 0
        under_way: list[bool] = []
        failing, width = random.random(), random.randrange(1, 200)
        for _ in range(3000):
            if len(under_way) < width and random.random() < 0.6:
                account.begin()
                begun += 1
                under_way.append(False)
            elif under_way:
                index = random.randrange(len(under_way))
                if random.random() < failing and account.take(under_way[index]):
                    retried += 1
                    under_way[index] = True
                else:
                    account.end(under_way.pop(index))
            assert account.open + account.retrying == len(under_way)
            assert account.retrying == sum(under_way)
        if not few:
            assert retried <= 0.2 * begun
        for was_retried in under_way:
            account.end(was_retried)
        assert (account.open, account.retrying) == (0, 0)
