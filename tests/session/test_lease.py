"""Leases in both directions (P36)."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.session.lease import FRACTION, GAP_S, TTL_S, GrantedLease, HeldLease
from gateway.wire.frames import Lease, decode, encode

U31 = 0x7FFFFFFF

#: Milliseconds that are exact as seconds, so that a model in integers has the same ends.
eighths = st.integers(0, 24).map(lambda eighth: eighth * 125)


def spend_all(lease: GrantedLease | HeldLease, now: float, most: int = 10_000) -> int:
    spent = 0
    while spent < most and lease.spend(now):
        spent += 1
    return spent


class TestGranted:
    def test_nothing_may_come_before_the_first(self) -> None:
        """P36: a responder without a lease refuses."""
        assert not GrantedLease().spend(0.0)

    def test_the_first_is_always_sent(self) -> None:
        """P06, P36: a SETUP that asks for leases gets one, also when nothing may come."""
        assert GrantedLease().renew(0.0, 0) == Lease(0, 0)
        assert GrantedLease().renew(0.0, -1) == Lease(0, 0)
        assert GrantedLease(ttl_s=2.0).renew(0.0, 5) == Lease(2_000, 5)

    @pytest.mark.parametrize("count", [1, 2, 100])
    def test_count(self, count: int) -> None:
        """P36: the requester must not exceed the count: one less, all, one more."""
        lease = GrantedLease()
        lease.renew(0.0, count)
        assert spend_all(lease, 1.0, count - 1) == count - 1
        assert lease.spend(1.0)
        assert not lease.spend(1.0)

    @pytest.mark.parametrize(("now", "accepted"), [(9.999, True), (10.0, False), (10.001, False)])
    def test_time(self, now: float, accepted: bool) -> None:
        """P36, fault 45: a lease that has expired allows nothing."""
        lease = GrantedLease(ttl_s=10.0)
        lease.renew(0.0, 5)
        assert lease.spend(now) is accepted

    @pytest.mark.parametrize(("allowance", "sent"), [(U31 - 1, U31 - 1), (U31, U31), (U31 + 1, U31), (10**12, U31)])
    def test_the_largest(self, allowance: int, sent: int) -> None:
        """P36: 31 bits in both fields."""
        frame = GrantedLease(ttl_s=U31 / 1000).renew(0.0, allowance)
        assert frame == Lease(U31, sent)
        assert decode(encode(frame)) == frame

    def test_a_short_one_still_lasts_a_millisecond(self) -> None:
        """P36: a TTL of 0 would stop."""
        assert GrantedLease(ttl_s=0.0001).renew(0.0, 5) == Lease(1, 5)

    @pytest.mark.parametrize(
        ("ttl_s", "fraction"), [(0.0, 0.25), (-1.0, 0.25), (U31 / 1000 + 1, 0.25), (1.0, 0.5), (1.0, 1.0), (1.0, -0.1)]
    )
    def test_what_cannot_be_a_lease(self, ttl_s: float, fraction: float) -> None:
        with pytest.raises(ValueError, match="no lease of"):
            GrantedLease(ttl_s, fraction)

    def test_no_fraction_renews_at_the_very_end(self) -> None:
        lease = GrantedLease(ttl_s=10.0, fraction=0.0)
        lease.renew(0.0, 2)
        assert not lease.due(9.9)
        assert lease.due(10.0)
        assert spend_all(lease, 1.0) == 2
        assert lease.due(1.0)


class TestRenewal:
    def test_by_time(self) -> None:
        """P36: before it ends, so that a requester is never without one."""
        lease = GrantedLease(ttl_s=10.0, fraction=0.25)
        lease.renew(0.0, 100)
        assert not lease.due(7.4)
        assert lease.renew(7.4, 100) is None
        assert lease.due(7.5)
        assert lease.renew(7.5, 100) == Lease(10_000, 100)
        assert not lease.due(14.9)

    @pytest.mark.parametrize(("spent", "due"), [(74, False), (75, True), (76, True), (100, True)])
    def test_by_count(self, spent: int, due: bool) -> None:
        """P36: when a quarter is left."""
        lease = GrantedLease(fraction=0.25)
        lease.renew(0.0, 100)
        assert spend_all(lease, 1.0, spent) == spent
        assert lease.due(1.0) is due
        assert (lease.renew(1.0, 40) is not None) is due

    @pytest.mark.parametrize(("now", "due"), [(0.24, False), (0.25, True)])
    def test_no_flood_of_small_ones(self, now: float, due: bool) -> None:
        """A requester at its rate limit uses up what it gets at once; its leases are collected."""
        lease = GrantedLease(gap_s=0.25)
        lease.renew(0.0, 1)
        assert lease.spend(0.0)
        assert lease.due(now) is due

    def test_the_newest_replaces_the_older(self) -> None:
        """P36: also with less; what the older one left is taken only as long as it may be on the wire."""
        lease = GrantedLease(ttl_s=10.0, fraction=0.25)
        lease.renew(0.0, 100)
        lease.renew(7.5, 3)
        assert spend_all(lease, 7.5 + 2.5) == 3

    def test_what_was_sent_under_the_older_one_is_not_charged_to_the_newer(self) -> None:
        """P36: a requester counts from when the lease reaches it."""
        lease = GrantedLease(fraction=0.25)
        lease.renew(0.0, 100)
        assert spend_all(lease, 1.0, 80) == 80
        lease.renew(1.0, 40)
        assert spend_all(lease, 1.1) == 20 + 40

    def test_leftovers_do_not_add_up(self) -> None:
        """An idle requester may send one lease and what one older left, however often they were renewed."""
        lease = GrantedLease(ttl_s=10.0, fraction=0.49)
        now = 0.0
        for _ in range(50):
            lease.renew(now, 100)
            assert spend_all(GrantedLease(), now) == 0
            while not lease.due(now):
                now += 0.05
        lease.renew(now, 100)
        assert spend_all(lease, now) <= 200

    @pytest.mark.parametrize(("now", "taken"), [(10.0, 15), (12.4, 15), (12.5, 5)])
    def test_one_that_has_just_ended_may_still_be_on_the_wire(self, now: float, taken: int) -> None:
        """P36: its time runs from when the requester got it."""
        lease = GrantedLease(ttl_s=10.0, fraction=0.25)
        lease.renew(0.0, 10)
        lease.renew(now, 5)
        assert spend_all(lease, now) == taken

    def test_what_was_charged_to_an_older_one_may_be_of_the_newest(self) -> None:
        """P36: a requester with nothing under way, whose newest lease is the smaller one, is not left without."""
        lease = GrantedLease()
        lease.renew(0.0, 20)
        spend_all(lease, 0.0, 15)
        assert lease.renew(1.0, 8) == Lease(30_000, 8)
        assert spend_all(lease, 1.0, 8) == 8
        assert lease.due(1.0 + GAP_S)

    def test_one_that_ended_long_ago_leaves_nothing(self) -> None:
        lease = GrantedLease(ttl_s=10.0)
        lease.renew(0.0, 100)
        lease.renew(60.0, 5)
        assert spend_all(lease, 60.0) == 5


class TestStop:
    def test_at_once(self) -> None:
        """P36: count 0 and TTL 0; what was left of any lease is gone."""
        lease = GrantedLease()
        lease.renew(0.0, 100)
        spend_all(lease, 1.0, 90)
        lease.renew(1.0, 100)
        assert lease.renew(1.1, 0) == Lease(0, 0)
        assert not lease.spend(1.1)

    def test_once(self) -> None:
        lease = GrantedLease()
        lease.renew(0.0, 100)
        assert lease.renew(1.0, 0) is not None
        assert lease.renew(2.0, 0) is None

    def test_not_when_nothing_is_left_anyway(self) -> None:
        """A token bucket that is empty is no news to a requester that has emptied it."""
        lease = GrantedLease(ttl_s=10.0)
        lease.renew(0.0, 1)
        lease.spend(1.0)
        assert lease.renew(1.0, 0) is None
        lease.renew(2.0, 1)
        assert lease.renew(12.0, 0) is None

    def test_goes_on_when_there_is_an_allowance_again(self) -> None:
        lease = GrantedLease(gap_s=0.25)
        lease.renew(0.0, 100)
        lease.renew(1.0, 0)
        assert lease.renew(1.2, 10) is None
        assert lease.renew(1.25, 10) == Lease(30_000, 10)
        assert spend_all(lease, 1.25) == 10


class TestShrinking:
    def test_at_once_and_to_no_more_than_that(self) -> None:
        """P36: the newest replaces the older, whether or not one is due."""
        lease = GrantedLease()
        lease.renew(0.0, 100)
        assert lease.shrink(1.0, 25) == Lease(30_000, 25)
        assert lease.shrink(1.0, 25) is None
        assert lease.renew(1.0, 100) is None
        # What was sent under the older one may be on the wire for a while.
        assert spend_all(lease, 1.0) == 125
        assert not lease.spend(1.0)

    def test_nothing_to_shrink(self) -> None:
        lease = GrantedLease()
        assert lease.shrink(0.0, 10) is None
        lease.renew(0.0, 10)
        assert lease.shrink(0.0, 10) is None
        assert lease.shrink(31.0, 5) is None

    def test_to_nothing(self) -> None:
        """P36: that is a stop."""
        lease = GrantedLease()
        lease.renew(0.0, 10)
        assert lease.shrink(0.0, 0) == Lease(0, 0)
        assert not lease.spend(0.0)


class TestGrantedOverAnotherLink:
    def test_a_new_one_is_sent_at_once(self) -> None:
        """P36: leases do not survive a resume."""
        lease = GrantedLease()
        lease.renew(0.0, 100)
        lease.restart(1.0)
        assert lease.due(1.0)
        assert lease.renew(1.0, 7) == Lease(30_000, 7)
        lease.restart(2.0)
        assert lease.renew(2.0, 0) == Lease(0, 0)

    def test_requests_that_are_sent_again_are_taken(self) -> None:
        """P36, P51: they were sent under the lease of the old link, however long that is ago on a parked session."""
        lease = GrantedLease(ttl_s=60.0)
        lease.renew(0.0, 10)
        assert spend_all(lease, 1.0, 4) == 4
        lease.restart(50.0)
        lease.renew(50.0, 10)
        assert spend_all(lease, 50.1) == 6 + 10

    def test_without_a_new_one_only_those(self) -> None:
        lease = GrantedLease(ttl_s=10.0)
        lease.renew(0.0, 10)
        spend_all(lease, 1.0, 4)
        lease.restart(1.0)
        assert spend_all(lease, 1.1) == 6
        lease.restart(2.0)
        assert spend_all(lease, 2.0) == 0


class TestOnTheWire:
    def test_who_keeps_to_its_leases_is_never_refused(self) -> None:
        """P36: random latencies, requests whenever there is credit, leases over and over; 500 schedules."""
        taken = renewals = 0
        for seed in range(500):
            random = Random(seed)
            ttl_s = random.choice([1.0, 4.0, TTL_S])
            granted, held = GrantedLease(ttl_s), HeldLease()
            latency = random.uniform(0.0, ttl_s * FRACTION / 2 - 0.02)
            to_requester: deque[tuple[float, Lease]] = deque()
            to_node: deque[float] = deque()
            for tick in range(1500):
                now = tick / 100
                frame = granted.renew(now, random.randint(1, 40))
                if frame is not None:
                    to_requester.append((now + latency, frame))
                    renewals += 1
                while to_requester and to_requester[0][0] <= now:
                    held.receive(to_requester.popleft()[1], now)
                for _ in range(random.choice([0, 0, 0, 1, 50])):
                    if held.spend(now):
                        to_node.append(now + latency)
                while to_node and to_node[0] <= now:
                    to_node.popleft()
                    assert granted.spend(now), (seed, now)
                    taken += 1
        assert taken > 100_000
        assert renewals > 10_000

    @given(st.lists(st.tuples(st.floats(0.0, 40.0), st.integers(-1, 50), st.integers(0, 120)), max_size=30))
    def test_who_does_not_keep_to_them_gets_no_more_than_was_granted(self, steps: list[tuple[float, int, int]]) -> None:
        """P36: every request that is taken was in some lease, and none is taken once the last ones have ended."""
        lease = GrantedLease()
        now, granted, taken = 0.0, 0, 0
        for wait, allowance, requests in steps:
            now += wait
            frame = lease.renew(now, allowance)
            granted += frame.requests if frame is not None else 0
            taken += spend_all(lease, now, requests)
            assert taken <= granted
        assert spend_all(lease, now + TTL_S) == 0


class TestHeld:
    def test_nothing_before_the_first(self) -> None:
        """P36: responder without lease."""
        lease = HeldLease()
        assert lease.available(0.0) == 0
        assert not lease.spend(0.0)

    def test_count(self) -> None:
        """P36."""
        lease = HeldLease()
        lease.receive(Lease(1_000, 3), 0.0)
        for left in (3, 2, 1):
            assert lease.available(0.5) == left
            assert lease.spend(0.5)
        assert lease.available(0.5) == 0
        assert not lease.spend(0.5)

    @pytest.mark.parametrize(("now", "available"), [(5.999, 3), (6.0, 0), (6.001, 0)])
    def test_time(self, now: float, available: int) -> None:
        """P36: from when it came."""
        lease = HeldLease()
        lease.receive(Lease(1_000, 3), 5.0)
        assert lease.available(now) == available
        assert lease.spend(now) is (available > 0)

    @pytest.mark.parametrize("stop", [Lease(0, 0), Lease(0, 5), Lease(1_000, 0)])
    def test_zero_stops(self, stop: Lease) -> None:
        """P36: in either field."""
        lease = HeldLease()
        lease.receive(Lease(1_000, 3), 0.0)
        lease.receive(stop, 0.0)
        assert lease.available(0.0) == 0
        assert not lease.spend(0.0)

    def test_does_not_survive_a_resume(self) -> None:
        """P36: the next LEASE is waited for."""
        lease = HeldLease()
        lease.receive(Lease(1_000, 3), 0.0)
        lease.restart()
        assert lease.available(0.0) == 0
        assert not lease.spend(0.0)
        lease.receive(Lease(1_000, 2), 0.1)
        assert lease.available(0.1) == 2

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("receive"), eighths, st.integers(0, 5)),
                st.tuples(st.just("spend"), st.just(0), st.just(0)),
                st.tuples(st.just("wait"), eighths, st.just(0)),
            ),
            max_size=60,
        )
    )
    def test_against_all_that_ever_came(self, steps: list[tuple[str, int, int]]) -> None:
        """P36: the newest replaces the older ones; count within TTL. The reference looks at the whole history."""
        lease = HeldLease()
        now_ms = 0
        history: list[tuple[str, int, int]] = []
        for name, amount, count in steps:
            newest = next((index for index in reversed(range(len(history))) if history[index][0] == "receive"), None)
            expected = 0
            if newest is not None and now_ms < history[newest][1]:
                expected = history[newest][2] - sum(event[0] == "spent" for event in history[newest:])
            assert lease.available(now_ms / 1000) == expected
            match name:
                case "receive":
                    lease.receive(Lease(amount, count), now_ms / 1000)
                    history.append(("receive", now_ms + amount, count))
                case "spend":
                    assert lease.spend(now_ms / 1000) is (expected > 0)
                    if expected:
                        history.append(("spent", 0, 0))
                case _:
                    now_ms += amount


def test_defaults() -> None:
    """A renewal leaves a requester time to get it: 7.5 s; an idle device gets a LEASE every 22.5 s."""
    assert (TTL_S, FRACTION, GAP_S) == (30.0, 0.25, 0.25)
