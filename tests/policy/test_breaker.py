"""The circuit breaker: every state and event, by exact counts, against an oracle that keeps every request."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.policy.breaker import STEPS, CircuitBreaker, State
from gateway.policy.traffic import Breaker

RULES = Breaker(min_requests=20, failure_share=0.5, window_s=10.0, sleep_s=5.0, probes=3)


def breaker(rules: Breaker = RULES, now: float = 100.0) -> CircuitBreaker:
    return CircuitBreaker(rules, now)


def end(machine: CircuitBreaker, failed: bool, now: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = machine.admit(now)
        assert ticket
        machine.ended(ticket, failed, now)


def opened(now: float = 100.0) -> CircuitBreaker:
    machine = breaker(now=now)
    end(machine, True, now, 20)
    assert machine.state is State.OPEN
    return machine


@pytest.mark.parametrize(
    ("well", "failed", "state"),
    [
        (0, 19, State.CLOSED),  # one below min_requests
        (0, 20, State.OPEN),
        (11, 9, State.CLOSED),  # one below the share
        (10, 10, State.OPEN),
        (11, 10, State.CLOSED),  # 47.6 %
        (500, 499, State.CLOSED),
        (500, 500, State.OPEN),
    ],
)
def test_it_opens_at_the_count_and_the_share_and_not_before(well: int, failed: int, state: State) -> None:
    machine = breaker()
    end(machine, False, 100.0, well)
    end(machine, True, 100.0, failed)
    assert machine.state is state
    assert machine.opened == (state is State.OPEN)


def test_a_success_that_makes_the_count_full_opens_it_too() -> None:
    machine = breaker()
    end(machine, True, 100.0, 10)
    end(machine, False, 100.0, 9)
    assert machine.state is State.CLOSED
    end(machine, False, 100.0)
    assert machine.state is State.OPEN


def test_what_is_out_of_the_window_counts_no_more() -> None:
    machine = breaker()
    end(machine, True, 100.0, 19)
    assert (machine.requests, machine.failures) == (19, 19)
    end(machine, True, 100.0 + RULES.window_s)
    assert machine.state is State.CLOSED
    assert (machine.requests, machine.failures) == (1, 1)


def test_open_lets_nothing_through_until_it_has_slept() -> None:
    machine = opened()
    assert machine.retry_after_s(102.0) == 3.0
    for _ in range(7):
        assert not machine.admit(104.999)
    assert machine.refused == 7
    assert machine.admit(105.0)
    assert machine.state is State.HALF_OPEN


def test_half_open_lets_exactly_the_probes_through_and_closes_when_all_end_well() -> None:
    machine = opened()
    probes = [machine.admit(105.0) for _ in range(10)]
    assert [bool(probe) for probe in probes] == [True] * 3 + [False] * 7
    machine.ended(probes[0], False, 105.1)
    machine.ended(probes[1], False, 105.1)
    assert machine.state is State.HALF_OPEN
    assert not machine.admit(105.1)
    machine.ended(probes[2], False, 105.2)
    assert machine.state is State.CLOSED
    assert (machine.requests, machine.failures) == (0, 0)
    end(machine, True, 105.3, 19)
    assert machine.state is State.CLOSED
    end(machine, True, 105.3)
    assert (machine.state, machine.opened) == (State.OPEN, 2)


def test_one_probe_that_fails_opens_it_for_as_long_again() -> None:
    machine = opened()
    probes = [machine.admit(106.0) for _ in range(3)]
    machine.ended(probes[0], False, 106.1)
    machine.ended(probes[1], True, 106.2)
    assert machine.state is State.OPEN
    machine.ended(probes[2], False, 106.3)  # says nothing any more
    assert machine.state is State.OPEN
    assert not machine.admit(111.1)
    assert machine.admit(111.2)


def test_what_was_let_through_before_says_nothing_of_a_later_state() -> None:
    machine = breaker()
    early = [machine.admit(100.0) for _ in range(50)]
    for ticket in early[:20]:
        machine.ended(ticket, True, 100.1)
    assert machine.state is State.OPEN
    probe = machine.admit(105.2)
    for ticket in early[20:]:
        machine.ended(ticket, False, 105.3)
        machine.ended(ticket, True, 105.3)
    assert machine.state is State.HALF_OPEN
    machine.ended(probe, False, 105.4)
    assert machine.state is State.HALF_OPEN


def test_a_canceled_probe_gives_its_place_back() -> None:
    machine = opened()
    probes = [machine.admit(105.0) for _ in range(3)]
    assert not machine.admit(105.0)
    machine.released(probes[0])
    assert machine.admit(105.0)
    assert not machine.admit(105.0)


def test_a_canceled_request_is_counted_neither_way() -> None:
    machine = breaker()
    for _ in range(100):
        machine.released(machine.admit(100.0))
    assert (machine.state, machine.requests) == (State.CLOSED, 0)


def test_probes_that_never_end_are_replaced() -> None:
    machine = opened()
    lost = [machine.admit(105.0) for _ in range(3)]
    assert machine.retry_after_s(106.0) == 4.0
    assert not machine.admit(109.9)
    again = [machine.admit(110.0) for _ in range(4)]
    assert [bool(each) for each in again] == [True] * 3 + [False]
    for ticket in lost:
        machine.ended(ticket, True, 111.0)
    assert machine.state is State.HALF_OPEN
    for ticket in again[:3]:
        machine.ended(ticket, False, 111.0)
    assert machine.state is State.CLOSED


def test_a_reset_closes_it_without_a_past() -> None:
    machine = opened()
    machine.reset(101.0)
    assert (machine.state, machine.failures, machine.retry_after_s(101.0)) == (State.CLOSED, 0, 0.0)
    assert machine.admit(101.0)


@dataclass
class Oracle:
    """The same rules over a list of all that ever happened."""

    rules: Breaker
    state: State = State.CLOSED
    since: float = 0.0
    epoch: int = 0
    ends: list[tuple[int, bool]] = field(default_factory=list)
    left: int = 0
    proved: int = 0
    again_at: float = 0.0

    def admit(self, now: float) -> int | None:
        if self.state is State.OPEN and now >= self.since + self.rules.sleep_s:
            self._enter(State.HALF_OPEN, now)
            self._probe(now)
        elif self.state is State.HALF_OPEN and not self.left and now >= self.again_at:
            self.epoch += 1
            self._probe(now)
        if self.state is State.CLOSED:
            return self.epoch
        if self.state is State.HALF_OPEN and self.left:
            self.left -= 1
            return self.epoch
        return None

    def ended(self, epoch: int, failed: bool, now: float) -> None:
        if epoch != self.epoch:
            return
        if self.state is State.HALF_OPEN:
            if failed:
                self._enter(State.OPEN, now)
                return
            self.proved += 1
            if self.proved == self.rules.probes:
                self._enter(State.CLOSED, now)
            return
        step = int(now / (self.rules.window_s / STEPS))
        self.ends.append((step, failed))
        recent = [each for at, each in self.ends if at > step - STEPS]
        if (
            len(recent) >= self.rules.min_requests
            and sum(recent)
            and sum(recent) / len(recent) >= self.rules.failure_share
        ):
            self._enter(State.OPEN, now)

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
        self.epoch += 1
        self.ends.clear()

    def _probe(self, now: float) -> None:
        self.left, self.proved, self.again_at = self.rules.probes, 0, now + self.rules.sleep_s


@pytest.mark.parametrize("seed", range(12))
def test_it_does_as_an_oracle_that_remembers_everything(seed: int) -> None:
    random = Random(seed)
    rules = Breaker(random.randint(1, 12), random.choice((0.25, 0.5, 0.75, 1.0)), 8.0, 2.0, random.randint(1, 3))
    now = 64.0
    machine, oracle = CircuitBreaker(rules, now), Oracle(rules)
    under_way: list[tuple[int, int]] = []
    health = 0.5
    for _ in range(3000):
        now += random.choice((0.0, 0.0, 0.125, 0.5))
        if random.random() < 0.02:
            now += random.choice((1.0, 4.0, 16.0))
        if random.random() < 0.02:
            health = random.random()
        if random.random() < 0.55:
            ticket, epoch = machine.admit(now), oracle.admit(now)
            assert bool(ticket) == (epoch is not None)
            if epoch is not None:
                under_way.append((ticket, epoch))
        elif under_way:
            ticket, epoch = under_way.pop(random.randrange(len(under_way)))
            failed = random.random() > health
            machine.ended(ticket, failed, now)
            oracle.ended(epoch, failed, now)
        assert machine.state is oracle.state
