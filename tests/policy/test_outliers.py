"""Outlier ejection: when, for how long, how many at most, and how an instance comes back."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from gateway.policy.outliers import MAX_IDLE, Cause, Ejection, OutlierDetector
from gateway.policy.traffic import Outliers

RULES = Outliers(max_ejection_share=0.5, failure_share=0.2)
A, B, C, D = (bytes([number]) * 16 for number in range(4))


def detector(now: float = 1000.0, **fields: object) -> OutlierDetector:
    return OutlierDetector(replace(RULES, **fields), now)  # type: ignore[arg-type]


def fail(machine: OutlierDetector, key: bytes, now: float, times: int = 1, hosts: int = 3) -> Ejection | None:
    ejection = None
    for _ in range(times):
        ejection = machine.failed(key, now, hosts)
    return ejection


def work(machine: OutlierDetector, keys: tuple[bytes, ...], now: float, times: int = 1, seconds: float = 0.01) -> None:
    for key in keys:
        for _ in range(times):
            machine.succeeded(key, seconds, now, 3)


def test_five_errors_in_a_row_eject_and_four_do_not() -> None:
    machine = detector(failure_share=0.0)
    assert fail(machine, A, 1000.0, 4) is None
    work(machine, (A,), 1000.0)
    assert fail(machine, A, 1000.0, 4) is None
    assert fail(machine, A, 1000.0) == Ejection(A, Cause.CONSECUTIVE, 1000.0, 1030.0)
    assert list(machine.out) == [A]
    assert machine.ejections == {Cause.CONSECUTIVE: 1}


def test_one_of_three_that_fails_thirty_of_a_hundred_is_out_within_ten_seconds_and_back_after() -> None:
    """Issue 8, with a clock of its own: 30 requests a second to each of three, one of which fails 30 %."""
    machine, random = detector(consecutive_errors=0, base_ejection_s=5.0), Random(1)
    now, failing_from = 1000.0, 1007.0
    ejected_at: list[float] = []
    while now < 1060.0:
        now += 1 / 30
        sick = failing_from <= now < 1040.0
        machine.look(now)
        for key in (A, B, C):
            if key in machine.out:
                continue
            if key == B and sick and random.random() < 0.3:
                ejected = machine.failed(key, now, 3)
                if ejected is not None:
                    assert ejected.instance == B
                    ejected_at.append(now)
            else:
                machine.succeeded(key, 0.01, now, 3)
    assert ejected_at[0] - failing_from < 10.0
    # Out most of the time while it is sick, for longer each time; back when it is well.
    assert len(ejected_at) <= 4
    assert not machine.out


def test_a_share_counts_against_what_the_others_do() -> None:
    """Where all of them fail alike, it is not the instance."""
    machine = detector(consecutive_errors=0)
    for _ in range(40):
        for key in (A, B, C):
            work(machine, (key,), 1000.0)
            assert machine.failed(key, 1000.0, 3) is None
    assert not machine.out


@pytest.mark.parametrize(
    ("requests", "failures", "out"), [(9, 9, False), (10, 1, False), (10, 2, True), (11, 2, False)]
)
def test_a_share_needs_enough_requests(requests: int, failures: int, out: bool) -> None:
    machine = detector(consecutive_errors=0)
    work(machine, (B, C), 1000.0, 50)
    work(machine, (A,), 1000.0, requests - failures)
    fail(machine, A, 1000.0, failures)
    assert (A in machine.out) is out


def test_what_is_longer_ago_than_an_interval_is_forgotten() -> None:
    machine = detector(consecutive_errors=0)
    work(machine, (B, C), 1000.0, 50)
    work(machine, (A,), 1000.0, 9)
    fail(machine, A, 1000.0)
    work(machine, (B,), 1005.0)
    work(machine, (B,), 1010.0)
    assert machine.known(A) is not None
    assert (machine.known(A).requests, machine.known(A).failures) == (0, 0)  # type: ignore[union-attr]
    work(machine, (B, C), 1010.0, 50)
    assert fail(machine, A, 1010.0, 9) is None
    assert fail(machine, A, 1010.0) is not None


def test_after_a_long_silence_nothing_counts() -> None:
    machine = detector(consecutive_errors=0)
    work(machine, (A, B, C), 1000.0, 50)
    fail(machine, A, 1000.0, 9)
    work(machine, (B, C), 2000.0, 50)
    assert fail(machine, A, 2000.0, 9) is None


def test_one_that_takes_too_long_while_the_others_do_not_is_out() -> None:
    machine = detector(latency_s=0.2)
    work(machine, (B, C), 1000.0, 50, 0.05)
    work(machine, (A,), 1000.0, 9, 0.5)
    assert not machine.out
    assert machine.succeeded(A, 0.5, 1000.0, 3) == Ejection(A, Cause.LATENCY, 1000.0, 1030.0)


@pytest.mark.parametrize(("slow", "out"), [(24, False), (25, True)])
def test_it_takes_half_of_them_to_be_slow(slow: int, out: bool) -> None:
    machine = detector(latency_s=0.2)
    work(machine, (B, C), 1000.0, 50, 0.05)
    work(machine, (A,), 1000.0, 25, 0.05)
    work(machine, (A,), 1000.0, slow, 0.3)
    assert (A in machine.out) is out


def test_where_all_are_slow_nobody_is_out_for_that() -> None:
    machine = detector(latency_s=0.2)
    work(machine, (A, B, C), 1000.0, 50, 0.5)
    assert not machine.out


def test_times_that_say_nothing_are_not_counted() -> None:
    machine = detector(latency_s=0.2)
    work(machine, (B, C), 1000.0, 50, 0.05)
    work(machine, (A,), 1000.0, 50, -1.0)
    work(machine, (A,), 1000.0, 9, 0.5)
    assert not machine.out
    work(machine, (A,), 1000.0, 1, 0.5)
    assert list(machine.out) == [A]


def test_each_ejection_lasts_longer_up_to_the_longest() -> None:
    machine, now = detector(max_ejection_s=100.0), 1000.0
    lasted = []
    for _ in range(5):
        ejection = fail(machine, A, now, 5) or machine.latest[-1]
        lasted.append(ejection.until - ejection.at)
        now = ejection.until
        machine.look(now)
    assert lasted == [30.0, 60.0, 90.0, 100.0, 100.0]


def test_it_comes_back_when_its_time_is_over_and_not_before() -> None:
    machine = detector()
    fail(machine, A, 1000.0, 5)
    version = machine.look(1029.999)
    assert A in machine.out
    assert machine.look(1030.0) == version + 1
    assert not machine.out


def test_who_comes_back_is_out_again_at_its_first_failure() -> None:
    machine = detector()
    fail(machine, A, 1000.0, 5)
    machine.look(1030.0)
    work(machine, (A,), 1031.0, 4)
    assert fail(machine, A, 1031.0) == Ejection(A, Cause.PROBATION, 1031.0, 1091.0)


def test_who_has_proved_itself_may_fail_again() -> None:
    machine = detector()
    fail(machine, A, 1000.0, 5)
    machine.look(1030.0)
    work(machine, (A,), 1031.0, 5)
    assert fail(machine, A, 1031.0, 4) is None


def test_ejections_are_forgotten_one_an_interval() -> None:
    machine = detector()
    fail(machine, A, 1000.0, 5)
    machine.look(1030.0)
    fail(machine, A, 1030.0)
    assert machine.out[A].until == 1090.0
    machine.look(1090.0)
    work(machine, (A,), 1090.0, 5)
    for step in range(6):
        work(machine, (A,), 1096.0 + 5.1 * step)
    assert fail(machine, A, 1130.0, 5) == Ejection(A, Cause.CONSECUTIVE, 1130.0, 1160.0)


@pytest.mark.parametrize(
    ("hosts", "share", "out"),
    [
        (1, 1.0, 0),
        (2, 0.1, 1),
        (2, 1.0, 1),
        (3, 0.1, 1),
        (3, 0.7, 2),
        (4, 1.0, 3),
        (20, 0.1, 2),
        (29, 0.1, 2),
        (30, 0.1, 3),
    ],
)
def test_at_most_a_share_is_out_but_one_may_be_and_never_all(hosts: int, share: float, out: int) -> None:
    machine = detector(max_ejection_share=share, failure_share=0.0)
    for number in range(hosts):
        fail(machine, bytes([number]) * 16, 1000.0, 5, hosts)
    assert len(machine.out) == out


def test_with_fewer_than_min_hosts_nobody_is() -> None:
    machine = detector(min_hosts=3)
    assert fail(machine, A, 1000.0, 20, hosts=2) is None
    assert fail(machine, A, 1000.0, 1, hosts=3) is not None


def test_what_ends_while_it_is_out_counts_for_nothing() -> None:
    machine = detector()
    fail(machine, A, 1000.0, 5)
    fail(machine, A, 1001.0, 50)
    work(machine, (A,), 1001.0, 50)
    assert machine.out[A].until == 1030.0
    assert (machine.out[A].requests, machine.out[A].row) == (0, 0)


def test_a_reset_brings_back_one_or_all_without_a_past() -> None:
    machine = detector(max_ejection_share=1.0)
    fail(machine, A, 1000.0, 5, hosts=4)
    fail(machine, B, 1000.0, 5, hosts=4)
    assert machine.reset(A) == 1
    assert list(machine.out) == [B]
    assert fail(machine, A, 1001.0, 4, hosts=4) is None
    assert machine.reset() == 1
    assert (machine.out, len(machine), machine.reset(C)) == ({}, 0, 0)
    everybody = machine._all
    assert (everybody.requests, everybody.failures, everybody.answers) == (0, 0, 0)


def test_instances_that_have_gone_are_forgotten() -> None:
    machine = detector(max_ejection_share=1.0)
    now = 1000.0
    for number in range(500):
        key = number.to_bytes(16, "big")
        work(machine, (key,), now)
        fail(machine, key, now, 1 + number % 7, hosts=500)
        now += 1.0
    for _ in range(MAX_IDLE + 80):
        now += 5.1
        work(machine, (A,), now)
    assert len(machine) == 1
    assert machine.known(A) is not None


@pytest.mark.parametrize("seed", range(8))
def test_the_totals_are_the_sum_of_the_instances(seed: int) -> None:
    """Whatever happens; and never more are out than may be."""
    random = Random(seed)
    machine, now = detector(latency_s=0.2, consecutive_errors=3, max_ejection_share=0.5), 1000.0
    keys = [bytes([number]) * 16 for number in range(6)]
    for _ in range(4000):
        now += random.choice((0.0, 0.01, 0.1, 1.0))
        key = random.choice(keys)
        if random.random() < 0.2:
            machine.failed(key, now, len(keys))
        else:
            machine.succeeded(key, random.random() * 0.4, now, len(keys))
        if random.random() < 0.002:
            machine.reset(key)
        known = machine._instances.values()
        everybody = machine._all
        assert everybody.requests == sum(each.requests for each in known)
        assert everybody.failures == sum(each.failures for each in known)
        assert everybody.answers == sum(each.answers for each in known)
        assert everybody.slow == sum(each.slow for each in known)
        assert len(machine.out) <= 3
        assert machine.returns_at == min((each.until for each in machine.out.values()), default=float("inf"))
