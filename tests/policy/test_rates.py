"""Token buckets: exact counts at the limit, a bounded table, and what may be promised by lease."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest

from gateway.policy import rates
from gateway.policy.rates import FORGET_ABOVE, Rates
from gateway.policy.traffic import Per, Rate

RULE = Rate(tokens=100, fill_interval_s=1.0, burst=200, per=Per.PRINCIPAL)


def taken(limit: Rates, key: str, now: float, asked: int) -> int:
    return sum(limit.take(key, now) for _ in range(asked))


def test_the_burst_goes_at_once_and_then_what_comes_in() -> None:
    limit = Rates(RULE)
    assert taken(limit, "a", 10.0, 500) == 200
    assert limit.limited == 300
    assert taken(limit, "a", 10.5, 500) == 50
    assert taken(limit, "a", 10.509, 5) == 0
    assert taken(limit, "a", 10.51, 5) == 1
    assert taken(limit, "a", 1000.0, 500) == 200


@pytest.mark.parametrize("asked", [199, 200, 201])
def test_limit_minus_one_limit_limit_plus_one(asked: int) -> None:
    limit = Rates(RULE)
    assert taken(limit, "a", 10.0, asked) == min(asked, 200)
    assert limit.limited == max(0, asked - 200)


def test_each_key_has_its_own() -> None:
    limit = Rates(RULE)
    assert taken(limit, "a", 10.0, 300) == 200
    assert taken(limit, "b", 10.0, 300) == 200


def test_a_dry_run_counts_and_refuses_nobody() -> None:
    limit = Rates(Rate(100, 1.0, 200, Per.PRINCIPAL, dry_run=True))
    assert taken(limit, "a", 10.0, 500) == 500
    assert limit.limited == 300
    limit.debit("a", 10.0, 1)
    assert limit.limited == 301
    assert limit.leave("a", 10.0, 1) > 1_000_000


@pytest.mark.parametrize("seed", range(6))
def test_it_lets_through_what_exact_arithmetic_lets_through(seed: int) -> None:
    random = Random(seed)
    rule = Rate(random.randint(1, 20), random.choice((0.5, 1.0, 4.0)), random.randint(1, 30), Per.PRINCIPAL)
    limit = Rates(rule)
    ticks = 0
    left, at = Fraction(rule.burst), 0
    for _ in range(4000):
        ticks += random.choice((0, 0, 1, 3, 40))  # of 1/64 s: exact in binary
        left = min(Fraction(rule.burst), left + Fraction(ticks - at, 64) * rule.tokens / Fraction(rule.fill_interval_s))
        at = ticks
        allowed = left >= 1
        assert limit.take("a", ticks / 64) is allowed
        left -= allowed


def test_ten_thousand_devices_that_went_quiet_take_no_memory() -> None:
    limit = Rates(RULE)
    for number in range(10_000):
        limit.take(f"device-{number}", 10.0)
    assert len(limit) == 10_000
    # A token each is back after 10 ms; the next that are new find out.
    for number in range(20_001):
        limit.take(f"other-{number % 50}", 20.0 + number / 1000)
        limit.take(f"new-{number}", 20.0 + number / 1000)
    assert len(limit) <= FORGET_ABOVE + 60


def test_a_bucket_that_is_forgotten_was_full() -> None:
    limit = Rates(RULE)
    assert taken(limit, "busy", 10.0, 200) == 200
    limit.forget_full(10.5)
    assert len(limit) == 1
    assert taken(limit, "busy", 10.5, 200) == 50
    limit.forget_full(12.5)
    assert len(limit) == 0
    assert taken(limit, "busy", 12.5, 300) == 200


def test_keys_that_are_made_up_share_one_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_BUCKETS", 300)
    limit = Rates(Rate(1, 3600.0, 2, Per.ROUTE))
    passed = sum(taken(limit, f"route-{number}", 10.0, 3) for number in range(1000))
    assert len(limit) <= 301
    assert passed == 300 * 2 + 2
    assert limit.leave("yet-another", 10.0, 1) == 0


def test_what_may_be_promised_is_what_is_left() -> None:
    limit = Rates(RULE)
    assert limit.leave("a", 10.0, 1) == 200
    for _ in range(150):
        limit.debit("a", 10.0, 1)
    assert limit.leave("a", 10.0, 1) == 50
    assert limit.leave("a", 10.25, 1) == 75


def test_what_was_taken_by_lease_beyond_it_is_owed() -> None:
    limit = Rates(RULE)
    for _ in range(230):
        limit.debit("a", 10.0, 1)
    assert limit.limited == 0
    assert limit.leave("a", 10.0, 1) == 0
    assert not limit.take("a", 10.3)
    assert limit.take("a", 10.31)
    assert limit.retry_after_s("a", 10.31) == pytest.approx(0.01)


def test_those_who_share_a_bucket_by_lease_are_promised_a_part_each() -> None:
    limit = Rates(Rate(100, 1.0, 200, Per.SERVICE))
    for borrower in range(4):
        limit.debit("", 10.0, borrower)
    assert [limit.leave("", 10.0, borrower) for borrower in range(5)] == [49, 49, 49, 49, 39]
    # Who has asked nothing for as long as a lease lasts has none that counts.
    limit.debit("", 30.0, 3)
    assert limit.leave("", 41.0, 3) == 200


def test_a_reset_fills_every_bucket() -> None:
    limit = Rates(RULE)
    assert limit.least(10.0) is None
    taken(limit, "a", 10.0, 500)
    taken(limit, "b", 10.0, 20)
    assert limit.least(10.0) == ("a", 0.0)
    limit.reset()
    assert taken(limit, "a", 10.0, 500) == 200
