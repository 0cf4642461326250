"""Budgets of one connection, each at its limit and on either side of it; the clock is passed in."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from gateway.errors import ConnectionFailed
from gateway.forwarding.budgets import Budgets
from gateway.forwarding.credit import Credit
from gateway.policy.limits import LimitsProfile, profile_for
from gateway.policy.principal import Kind
from gateway.wire.frames import MAX_REQUEST_N


def budgets(keepalive_ms: int = 10_000, **limits: int) -> Budgets:
    return Budgets(replace(LimitsProfile(), **limits), keepalive_ms, 0.0)


@pytest.mark.parametrize(("kind", "has"), [(kind, kind in (Kind.DEVICE, Kind.USER)) for kind in Kind])
def test_who_has_budgets(kind: Kind, has: bool) -> None:
    assert profile_for(kind).has_budgets == has


# limits.<kind>.premature_ends, fault 23


def test_premature_ends_are_judged_from_the_limit_on() -> None:
    account = budgets(premature_ends=500)
    for _ in range(499):
        account.asked += 1
        account.premature_end(0)
    account.asked += 1
    with pytest.raises(ConnectionFailed) as ended:
        account.premature_end(0)
    assert ended.value.reason == "premature_ends"


@pytest.mark.parametrize(("ended", "closed"), [(499, False), (500, True), (501, False), (502, False)])
def test_half_of_them_is_too_many(ended: int, closed: bool) -> None:
    account = budgets(premature_ends=500)
    account.asked = ended
    for _ in range(249):
        account.premature_end(0)
    with pytest.raises(ConnectionFailed) if closed else nullcontext():
        account.premature_end(0)


def test_streams_that_are_open_have_not_ended() -> None:
    account = budgets(premature_ends=500)
    account.asked = 500
    for _ in range(300):
        account.premature_end(1)  # 499 have ended
    with pytest.raises(ConnectionFailed):
        account.premature_end(0)


def test_a_long_past_in_order_does_not_last_for_ever() -> None:
    account = budgets(premature_ends=500)
    account.asked = 1_000_000

    def flood() -> None:
        for _ in range(1001):
            account.asked += 1
            account.premature_end(0)

    with pytest.raises(ConnectionFailed):
        flood()


def test_now_and_then_is_in_order_for_ever() -> None:
    account = budgets(premature_ends=500)
    for _ in range(10_000):
        account.asked += 3
        account.premature_end(0)


# limits.<kind>.keepalive_burst, fault 31


def test_keepalives() -> None:
    account = budgets(keepalive_ms=10_000, keepalive_burst=5)
    for _ in range(7):
        account.keepalive(0.0)
    with pytest.raises(ConnectionFailed) as ended:
        account.keepalive(4.9)
    assert ended.value.reason == "keepalive_burst"
    account = budgets(keepalive_ms=10_000, keepalive_burst=5)
    for number in range(1000):
        account.keepalive(number * 5.0)  # two an interval, for as long as it likes
    for _ in range(6):
        account.keepalive(5000.0)


@pytest.mark.parametrize("announced_ms", [1, 50, 100])
def test_keepalives_of_who_announces_very_many(announced_ms: int) -> None:
    account = budgets(keepalive_ms=announced_ms, keepalive_burst=5)

    def flood() -> None:
        for number in range(100):
            account.keepalive(number / 1000)

    with pytest.raises(ConnectionFailed):
        flood()


def test_keepalives_that_the_node_asked_for() -> None:
    """P54: the answer to a question is no flood, and a question is answered once."""
    account = budgets(keepalive_ms=10_000, keepalive_burst=5)
    for _ in range(20):
        account.expect_keepalive()
        account.keepalive(0.0)
    for _ in range(7):
        account.keepalive(0.0)
    with pytest.raises(ConnectionFailed):
        account.keepalive(0.0)


def test_one_answer_waits() -> None:
    """Fault 31: while nothing leaves, answers do not pile up."""
    account = budgets()
    assert [account.may_answer(blocked) for blocked in (False, True, True, True, False, False, True, True)] == [
        *(True, True, False, False, True, True, True, False)
    ]


# limits.<kind>.pushes_per_second, fault 43


def test_pushes() -> None:
    account = budgets(pushes_per_second=10)
    assert [account.push(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert [account.push(0.11) for _ in range(2)] == [True, False]
    assert [account.push(9.0) for _ in range(11)] == [True] * 10 + [False]


# limits.<kind>.request_n_burst, fault 28


def test_spare_request_n() -> None:
    account, credit = budgets(request_n_burst=3), Credit()
    for _ in range(3):
        credit.grant(1, False)
        assert not account.spare(credit)
    credit.grant(1, False)
    assert account.spare(credit)
    credit.outstanding -= 1  # an item came
    assert not account.spare(credit)
    credit.grant(1, False)
    assert account.spare(credit)


@pytest.mark.parametrize("n", [1, 7, 255, 257, 100_000, MAX_REQUEST_N])
def test_used_counts_items_however_they_were_granted(n: int) -> None:
    credit = Credit()
    items = 0
    for turn in range(200):
        credit.grant(n, turn % 5 == 0)
        for _ in range(min(3, credit.outstanding)):
            credit.outstanding -= 1
            items += 1
        credit.refill()
        assert credit.used == items


# limits.<kind>.bytes_per_second


def test_bytes() -> None:
    account = budgets(bytes_per_second=1000)
    assert not account.read(999, 0.0)
    assert not account.read(1, 0.0)
    assert account.read(1, 0.0)
    assert not account.rested(0.0)
    assert account.rested(0.0015)
    assert account.read(2000, 100.0)
    assert not account.rested(100.99)
    assert account.rested(101.1)


def test_a_limit_of_0_is_none() -> None:
    names = ("bytes_per_second", "premature_ends", "keepalive_burst", "pushes_per_second", "request_n_burst")
    account, credit = budgets(**dict.fromkeys(names, 0)), Credit()
    for _ in range(2000):
        account.asked += 1
        account.premature_end(0)
        account.keepalive(0.0)
        assert account.push(0.0)
        assert not account.read(1 << 20, 0.0)
        credit.grant(1, False)
        assert not account.spare(credit)


def test_a_rate_that_is_lifted_lets_go_on() -> None:
    account = budgets(bytes_per_second=1000)
    assert account.read(5000, 0.0)
    account.limits = replace(LimitsProfile(), bytes_per_second=0)
    assert account.rested(0.0)
