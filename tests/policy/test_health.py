"""When a node has got worse by what it acts by."""

from __future__ import annotations

import pytest

from gateway.policy.health import ALONE, ENOUGH, MARGIN, UPLINK_S, Pulse, Trial, Vitals

FINE = Vitals(ended=1000, failed=50, refused=0, uplink=True)
#: The last minute before: 5 % failed.
BEFORE = Vitals(ended=200, failed=10, refused=0)


def after(ended: int = 0, failed: int = 0, refused: int = 0, uplink: bool = True, **failing: str) -> Vitals:
    return Vitals(FINE.ended + ended, FINE.failed + failed, FINE.refused + refused, failing, uplink)


def trial(before: Vitals = BEFORE, start: Vitals = FINE) -> Trial:
    return Trial(100.0, 60.0, start, before)


def test_it_ends_when_nothing_got_worse() -> None:
    watched = trial()
    for now in range(102, 160, 2):
        assert watched.look(now, after(ended=now, failed=now // 20)) is None
        assert not watched.is_over(now)
    assert watched.is_over(160.0)


@pytest.mark.parametrize(
    ("ended", "failed", "worse"),
    [
        (ENOUGH - 1, ENOUGH - 1, None),
        (ENOUGH, 3, None),
        (ENOUGH, 4, "20% of 20 requests failed, 5% before"),
        (100, 15, None),
        (100, 16, "16% of 100 requests failed, 5% before"),
    ],
)
def test_requests_that_fail(ended: int, failed: int, worse: str | None) -> None:
    assert trial().look(110.0, after(ended, failed)) == worse


@pytest.mark.parametrize(("share", "most"), [(0.0, MARGIN), (0.05, 0.15), (0.2, 0.4), (0.6, 1.2)])
def test_how_much_more_may_be_refused(share: float, most: float) -> None:
    before = Vitals(ended=1000, refused=int(1000 * share))
    for refused in range(0, 1001, 10):
        worse = trial(before).look(110.0, after(1000, refused=refused))
        assert (worse is not None) == (refused / 1000 > most + 1e-9), refused


def test_without_requests_before_only_half_of_them_is_too_much() -> None:
    idle = Vitals(ended=ENOUGH - 1, failed=0)
    assert trial(idle).look(110.0, after(100, failed=int(100 * ALONE))) is None
    assert trial(idle).look(110.0, after(100, failed=51)) == "51% of 100 requests failed"


def test_readiness_has_to_fail_twice_and_not_before() -> None:
    watched = trial(start=Vitals(uplink=True, failing={"workers": "one is not there"}))
    assert watched.look(102.0, Vitals(uplink=True, failing={"workers": "one is not there"})) is None
    bad = Vitals(uplink=True, failing={"tcp": "listen.tcp is not accepting"})
    assert watched.look(104.0, bad) is None
    assert watched.look(106.0, Vitals(uplink=True)) is None
    assert watched.look(108.0, bad) is None
    assert watched.look(110.0, bad) == "not ready: listen.tcp is not accepting"


def test_an_uplink_that_comes_back_in_time_is_none_that_was_lost() -> None:
    watched = trial()
    assert watched.look(102.0, after(uplink=False)) is None
    assert watched.look(102.0 + UPLINK_S - 1, after(uplink=False)) is None
    assert watched.look(102.0 + UPLINK_S, after()) is None
    assert watched.look(125.0, after(uplink=False)) is None
    assert watched.look(125.0 + UPLINK_S, after(uplink=False)) == "no uplink for 20 s"


def test_who_had_no_uplink_cannot_lose_it() -> None:
    watched = trial(start=Vitals())
    assert [watched.look(now, Vitals()) for now in (102.0, 140.0, 159.0)] == [None] * 3


def test_what_was_before_is_the_last_minute() -> None:
    pulse = Pulse()
    for at in range(0, 200, 10):
        assert pulse.is_due(at)
        pulse.take(at, Vitals(ended=at * 10, failed=at))
        assert not pulse.is_due(at + 9)
    found = pulse.before(200.0, Vitals(ended=2000, failed=200))
    assert (found.ended, found.failed) == (600, 60)
    assert Pulse().before(200.0, Vitals(ended=2000)) == Vitals()
