"""What may be tried again after what, and how long that waits."""

from __future__ import annotations

import pytest

from gateway.policy.retrying import Failure, backoff_s, failure_of, may_repeat
from gateway.policy.traffic import Retries, RetryOn

ALL = frozenset(RetryOn)

SAFE = {Failure.UNSENT: RetryOn.CONNECT_FAILURE, Failure.REJECTED: RetryOn.REJECTED}
IF_IDEMPOTENT = {
    Failure.GONE: RetryOn.CONNECT_FAILURE,
    Failure.APPLICATION_ERROR: RetryOn.APPLICATION_ERROR,
    Failure.TIMEOUT: RetryOn.TIMEOUT,
}


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("idempotent", [False, True])
def test_each_failure(failure: Failure, idempotent: bool) -> None:
    """Nothing that may have been processed is processed twice unless that is no harm; and only what a rule names."""
    repeats = failure in SAFE or (idempotent and failure in IF_IDEMPOTENT)
    assert may_repeat(Retries(2, ALL), failure, idempotent=idempotent) is repeats
    meant = (SAFE | IF_IDEMPOTENT).get(failure)
    for on in RetryOn:
        said = may_repeat(Retries(2, frozenset({on})), failure, idempotent=idempotent)
        assert said is (repeats and on is meant)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (0x201, Failure.APPLICATION_ERROR),
        (0x202, Failure.REJECTED),
        (0x203, Failure.OTHER),
        (0x204, Failure.OTHER),
        (0x301, Failure.OTHER),
        (0xFFFFFFFF, Failure.OTHER),
    ],
)
def test_what_a_code_says(code: int, failure: Failure) -> None:
    assert failure_of(code) is failure


def test_waits_double_up_to_the_longest_and_are_drawn_from_all_of_it() -> None:
    retries = Retries(9, ALL, backoff_s=0.025, max_backoff_s=0.25)
    assert [backoff_s(retries, number, 1.0) for number in range(1, 7)] == [0.025, 0.05, 0.1, 0.2, 0.25, 0.25]
    assert backoff_s(retries, 3, 0.5) == 0.05
    assert backoff_s(retries, 10_000, 1.0) == 0.25
    assert backoff_s(retries, 1, 0.0) == 0.0
    assert backoff_s(Retries(1, ALL, backoff_s=0.0), 5, 0.9) == 0.0
