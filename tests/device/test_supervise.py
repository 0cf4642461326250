"""The pause before the next attempt: full jitter, and respect for whoever refused."""

from __future__ import annotations

from device_sdk import ConnectionLost, RSocketError
from device_sdk.supervise import pause

BACKOFF = (1000, 60000)
DRAWS = 300


def draws(error: Exception, attempt: int) -> list[int]:
    return [pause(BACKOFF, error, attempt) for _ in range(DRAWS)]


def test_full_jitter() -> None:
    """Anywhere between nothing and a limit that doubles up to the longest pause."""
    for attempt, limit in ((0, 1000), (1, 2000), (5, 32000), (6, 60000), (16, 60000)):
        found = draws(ConnectionLost("gone"), attempt)
        assert max(found) <= limit
        assert min(found) >= 20
        assert min(found) < limit * 0.1
        assert max(found) > limit * 0.9


def test_refusals_that_haste_does_not_cure() -> None:
    for code in (0x001, 0x002, 0x003, 401, 403):
        found = draws(RSocketError(code), 0)
        assert min(found) >= 30000
        assert max(found) <= 60000
        assert max(found) - min(found) > 20000


def test_other_refusals_are_tried_again_soon() -> None:
    assert max(draws(RSocketError(0x101), 0)) <= 1000


def test_retry_after() -> None:
    """A gateway under load says how long to stay away: 503 with Retry-After."""
    error = RSocketError(503)
    error.retry_s = 20
    found = draws(error, 0)
    assert min(found) >= 20000
    assert max(found) > 25000
    error.retry_s = 10**9
    assert max(draws(error, 0)) <= 90000
