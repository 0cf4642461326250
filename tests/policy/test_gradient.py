"""The adaptive limit against a responder that is simulated: so many at once in its own time, the rest queue."""

from __future__ import annotations

import heapq

import pytest

from gateway.policy.gradient import MEASURE_AT_MOST_S, MEASURE_S, WINDOW_S, GradientLimit
from gateway.policy.traffic import Adaptive

RULES = Adaptive(min_limit=8, max_limit=1024, tolerance=2.0)


class Responder:
    """Takes `places` requests at once, each for `takes_s`, and lets the others wait in line. Callers always have one
    more to send than the limit lets them."""

    def __init__(self, limit: GradientLimit, places: int, takes_s: float, now: float = 100.0) -> None:
        self.limit, self.places, self.takes_s, self.now = limit, places, takes_s, now
        self.free = [now] * places
        self.under_way: list[tuple[float, float]] = []
        self.most_open = 0

    def run(self, seconds: float, demand: int = 10_000) -> None:
        until = self.now + seconds
        while True:
            while len(self.under_way) < min(self.limit.limit, demand):
                starts = max(self.now, heapq.heappop(self.free))
                heapq.heappush(self.free, starts + self.takes_s)
                heapq.heappush(self.under_way, (starts + self.takes_s, self.now))
            self.most_open = max(self.most_open, len(self.under_way))
            if self.under_way[0][0] > until:
                self.now = until
                return
            ends, began = heapq.heappop(self.under_way)
            self.now = ends
            self.limit.answered(ends - began, len(self.under_way) + 1, ends)


def test_it_grows_to_what_the_responder_does_at_once_and_no_further() -> None:
    limit = GradientLimit(RULES, 100.0)
    responder = Responder(limit, places=50, takes_s=0.02)
    responder.run(30.0)
    # Twice the least latency is still well, and the square root of the limit is room: 100 and a little.
    assert 50 <= limit.limit <= 140


def test_it_follows_a_responder_that_slows_ten_times_and_recovers() -> None:
    """Issue 8: it converges. Slower for a while means that fewer are let in; once well again, as many as before."""
    limit = GradientLimit(RULES, 100.0)
    responder = Responder(limit, places=50, takes_s=0.02)
    responder.run(30.0)
    before = limit.limit
    responder.takes_s = 0.2
    responder.run(15.0)
    assert limit.limit <= 16 < before
    responder.takes_s = 0.02
    responder.run(20.0)
    assert limit.limit >= 50


def test_one_that_is_slower_for_good_gets_its_due_again() -> None:
    limit = GradientLimit(RULES, 100.0)
    responder = Responder(limit, places=50, takes_s=0.02)
    responder.run(20.0)
    responder.takes_s = 0.2
    responder.run(2 * MEASURE_S)
    assert limit.least_s >= 0.19
    assert limit.limit >= 50


def test_the_least_latency_is_measured_at_the_least_limit() -> None:
    limit = GradientLimit(RULES, 100.0)
    responder = Responder(limit, places=4, takes_s=0.01)
    responder.run(MEASURE_S - 1.0)
    assert not limit.measuring
    seen = set()
    for _ in range(300):
        responder.run(0.01)
        seen.add((limit.measuring, limit.limit == RULES.min_limit))
    assert (True, True) in seen
    assert (True, False) not in seen
    assert not limit.measuring
    assert limit.least_s > 0.0


def test_a_measurement_ends_even_when_hardly_anything_comes() -> None:
    limit = GradientLimit(RULES, 100.0)
    responder = Responder(limit, places=50, takes_s=0.01)
    while not limit.measuring:
        responder.run(0.005)
    before, now = limit._limit, responder.now
    limit.answered(0.01, 1, now + MEASURE_AT_MOST_S - 0.5)
    assert limit.measuring
    limit.answered(0.01, 1, now + MEASURE_AT_MOST_S)
    assert not limit.measuring
    assert limit.limit == int(before)


def test_a_limit_that_nobody_comes_near_is_left_alone() -> None:
    limit = GradientLimit(RULES, 100.0)
    Responder(limit, places=50, takes_s=0.02).run(10.0, demand=3)
    assert limit.limit == RULES.min_limit


def test_it_stays_within_its_bounds() -> None:
    rules = Adaptive(min_limit=4, max_limit=20, tolerance=1.5)
    limit = GradientLimit(rules, 100.0)
    responder = Responder(limit, places=1000, takes_s=0.01)
    responder.run(20.0)
    assert limit.limit == 20
    assert responder.most_open <= 20
    responder.places = 1
    responder.free = [responder.now]
    responder.takes_s = 0.3
    responder.run(30.0)
    assert 4 <= limit.limit <= 20


def test_a_window_has_enough_answers() -> None:
    limit = GradientLimit(RULES, 100.0)
    for number in range(9):
        limit.answered(0.01, 8, 101.0 + number * WINDOW_S)
    assert limit.least_s == 0.0
    limit.answered(0.01, 8, 102.0)
    assert limit.least_s == pytest.approx(0.01)
