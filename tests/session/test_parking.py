"""The registry of resumable sessions: bounds, ownership, takeover, expiry."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import RejectedResume, RejectedSetup
from gateway.session.parking import (
    HOLD_S,
    MAX_SESSIONS,
    MAX_TOKEN_BYTES,
    MIN_TOKEN_BYTES,
    Holder,
    ParkedSessions,
)
from tests.examples import examples

DEVICE = Holder("device-1", "key-a")
OTHER = Holder("device-2", "key-a")
ROTATED = Holder("device-1", "key-b")
SAME_TEXT = "unknown resume token"


def token(number: int) -> bytes:
    return number.to_bytes(16, "big")


def refusal(sessions: ParkedSessions[str], wanted: bytes, holder: Holder | None, now: float) -> RejectedResume:
    with pytest.raises(RejectedResume) as raised:
        sessions.find(wanted, holder, now)
    assert raised.value.code == 0x004
    return raised.value


class TestAdmission:
    @pytest.mark.parametrize(
        ("size", "admitted"),
        [
            (0, False),
            (MIN_TOKEN_BYTES - 1, False),
            (MIN_TOKEN_BYTES, True),
            (MIN_TOKEN_BYTES + 1, True),
            (MAX_TOKEN_BYTES - 1, True),
            (MAX_TOKEN_BYTES, True),
            (MAX_TOKEN_BYTES + 1, False),
            (65_535, False),
        ],
    )
    def test_token_size(self, size: int, admitted: bool) -> None:
        """Fault 46: too short to be beyond guessing, or too long to be a key here."""
        sessions = ParkedSessions[str]()
        if admitted:
            assert sessions.admit(b"t" * size, DEVICE, "session") is None
            assert sessions.find(b"t" * size, DEVICE, 0.0) == "session"
        else:
            with pytest.raises(RejectedSetup) as raised:
                sessions.admit(b"t" * size, DEVICE, "session")
            assert (raised.value.code, raised.value.reason) == (0x003, "resume_token_size")
            assert len(sessions) == 0

    @pytest.mark.parametrize("holder", [DEVICE, ROTATED, OTHER])
    @pytest.mark.parametrize("parked", [False, True])
    def test_a_token_in_use(self, holder: Holder, parked: bool) -> None:
        """P53, P56, fault 49: REJECTED_SETUP, also for whoever holds it, and nothing changes."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "first")
        if parked:
            sessions.park(token(1), 0.0)
        with pytest.raises(RejectedSetup) as raised:
            sessions.admit(token(1), holder, "second")
        assert (raised.value.code, raised.value.reason) == (0x003, "resume_token_in_use")
        assert sessions.find(token(1), DEVICE, 1.0) == "first"
        assert (len(sessions), sessions.parked) == (1, int(parked))

    def test_a_token_is_free_once_its_session_is_over(self) -> None:
        """P53, P56: also when the SETUP that brought it is refused by a later step, which takes it back."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "first")
        sessions.remove(token(1))
        sessions.remove(token(1))
        sessions.admit(token(1), OTHER, "second")
        assert sessions.find(token(1), OTHER, 0.0) == "second"

    @pytest.mark.parametrize(("already", "admitted"), [(8, True), (9, True), (10, False)])
    def test_sessions_in_all(self, already: int, admitted: bool) -> None:
        """limits.resume_sessions: limit - 1, limit, limit + 1 sessions; whoever has none waiting is refused."""
        sessions = ParkedSessions[str](limit=10)
        for number in range(already):
            sessions.admit(token(number), Holder(f"device-{number}", "k"), f"session-{number}")
            sessions.park(token(number), 0.0)
        if admitted:
            assert sessions.admit(token(99), Holder("device-99", "k"), "new") is None
            return
        with pytest.raises(RejectedSetup) as raised:
            sessions.admit(token(99), Holder("device-99", "k"), "new")
        assert raised.value.reason == "resume_sessions"
        assert len(sessions) == already

    @pytest.mark.parametrize(("already", "admitted"), [(2, True), (3, True), (4, False)])
    def test_a_subject_has_a_share(self, already: int, admitted: bool) -> None:
        """Share - 1, share, share + 1 sessions of one subject, whatever its keys; others are not concerned."""
        sessions = ParkedSessions[str](limit=10, share=4)
        for number in range(already):
            sessions.admit(token(number), Holder("device-1", f"key-{number}"), f"session-{number}")
        if admitted:
            sessions.admit(token(99), DEVICE, "new")
        else:
            with pytest.raises(RejectedSetup) as raised:
                sessions.admit(token(99), DEVICE, "new")
            assert raised.value.reason == "resume_sessions"
        sessions.admit(token(100), OTHER, "other")

    def test_a_subject_at_a_bound_gives_up_its_own_longest_parked(self) -> None:
        """A device that restarts again and again comes in, and takes nobody else's session."""
        sessions = ParkedSessions[str](limit=4, share=3)
        sessions.admit(token(0), OTHER, "other")
        sessions.park(token(0), 0.0)
        for number in (1, 2, 3):
            sessions.admit(token(number), DEVICE, f"session-{number}")
        sessions.park(token(2), 1.0)
        sessions.park(token(1), 2.0)
        assert sessions.admit(token(4), DEVICE, "session-4") == "session-2"
        assert sessions.admit(token(5), DEVICE, "session-5") == "session-1"
        with pytest.raises(RejectedSetup):
            sessions.admit(token(6), DEVICE, "session-6")
        assert (len(sessions), sessions.parked) == (4, 1)
        assert sessions.find(token(0), OTHER, 1.0) == "other"

    def test_a_share_is_given_back(self) -> None:
        sessions = ParkedSessions[str](limit=10, share=2)
        for number in range(100):
            sessions.admit(token(number), DEVICE, "session")
            sessions.admit(token(number + 1000), DEVICE, "session")
            sessions.remove(token(number))
            sessions.park(token(number + 1000), 0.0)
            assert sessions.expire(HOLD_S) == ["session"]
        assert len(sessions) == 0

    def test_the_defaults_are_those_of_the_limits_table(self) -> None:
        """2,000 sessions, 60 s; an eighth each."""
        assert (MAX_SESSIONS, HOLD_S) == (2_000, 60.0)
        sessions = ParkedSessions[int]()
        for number in range(250):
            sessions.admit(token(number), DEVICE, number)
        with pytest.raises(RejectedSetup):
            sessions.admit(token(250), DEVICE, 250)
        tiny = ParkedSessions[int](limit=1)
        tiny.admit(token(1), DEVICE, 1)


class TestFinding:
    def test_its_holder_finds_it_with_a_link_or_without(self) -> None:
        """P51, fault 46: a RESUME may come before the loss of the old link is noticed; the newer link takes over."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        assert sessions.find(token(1), DEVICE, 1e9) == "session"
        sessions.attach(token(1))
        assert sessions.park(token(1), 10.0)
        assert sessions.find(token(1), DEVICE, 11.0) == "session"
        sessions.attach(token(1))
        assert sessions.parked == 0
        assert sessions.expire(inf) == []
        assert sessions.find(token(1), DEVICE, 1e9) == "session"

    def test_a_link_that_proves_nobody_needs_the_token(self) -> None:
        """Fault 46: RESUME has no room for a credential; 128 bits that only the holder knows are one."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        assert sessions.find(token(1), None, 0.0) == "session"

    @pytest.mark.parametrize("holder", [OTHER, ROTATED, Holder("", "")])
    def test_nobody_else_finds_it(self, holder: Holder) -> None:
        """Fault 46: bound to subject and key; the session is untouched."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        sessions.park(token(1), 0.0)
        assert refusal(sessions, token(1), holder, 1.0).reason == "resume_other_holder"
        assert sessions.find(token(1), DEVICE, 1.0) == "session"
        assert (len(sessions), sessions.parked) == (1, 1)

    def test_every_refusal_reads_the_same(self) -> None:
        """Fault 46: nothing is learned by trying tokens; the reason is for our own counter."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        sessions.park(token(1), 0.0)
        refusals = [
            refusal(sessions, token(2), DEVICE, 1.0),
            refusal(sessions, b"", None, 1.0),
            refusal(sessions, token(1), OTHER, 1.0),
            refusal(sessions, token(1), DEVICE, HOLD_S),
        ]
        assert {error.text for error in refusals} == {SAME_TEXT}
        assert [error.reason for error in refusals] == [
            "resume_unknown_token",
            "resume_unknown_token",
            "resume_other_holder",
            "resume_expired",
        ]

    def test_another_node_knows_nothing_of_it(self) -> None:
        """P55, fault 50: REJECTED_RESUME, after which the client sets up afresh there."""
        here, there = ParkedSessions[str](), ParkedSessions[str]()
        here.admit(token(1), DEVICE, "session")
        assert refusal(there, token(1), DEVICE, 0.0).reason == "resume_unknown_token"


class TestExpiry:
    @pytest.mark.parametrize(("now", "over"), [(159.999, False), (160.0, True), (160.001, True)])
    def test_after_the_hold_time(self, now: float, over: bool) -> None:
        """Fault 48: 60 s, whether it is swept or asked for."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        sessions.park(token(1), 100.0)
        if over:
            assert refusal(sessions, token(1), DEVICE, now).reason == "resume_expired"
            assert sessions.expire(now) == ["session"]
            assert refusal(sessions, token(1), DEVICE, now).reason == "resume_unknown_token"
            assert (len(sessions), sessions.parked) == (0, 0)
        else:
            assert sessions.find(token(1), DEVICE, now) == "session"
            assert sessions.expire(now) == []

    def test_by_profile(self) -> None:
        sessions = ParkedSessions[str](hold_s=10.0)
        for number in (1, 2, 3):
            sessions.admit(token(number), DEVICE, f"session-{number}")
        sessions.park(token(1), 0.0, hold_s=30.0)
        sessions.park(token(2), 0.0)
        sessions.park(token(3), 0.0, hold_s=0.0)
        assert sessions.expire(0.0) == ["session-3"]
        assert sessions.expire(29.0) == ["session-2"]
        assert sessions.expire(30.0) == ["session-1"]

    def test_a_session_that_is_over_cannot_be_parked(self) -> None:
        """P54: one that has overflowed was removed; its link is lost, and so is it."""
        sessions = ParkedSessions[str]()
        sessions.admit(token(1), DEVICE, "session")
        sessions.remove(token(1))
        assert not sessions.park(token(1), 0.0)
        assert sessions.parked == 0


class ParkedAgainstLists(RuleBasedStateMachine):
    """P53, P55: the registry answers as a list of records would."""

    LIMIT, SHARE, HOLD = 6, 3, 5.0
    tokens = st.integers(0, 9).map(token)
    holders = st.sampled_from([DEVICE, ROTATED, OTHER])

    def __init__(self) -> None:
        super().__init__()
        self.sessions = ParkedSessions[int](self.LIMIT, self.SHARE, self.HOLD)
        # [token, holder, session, since when it is parked], in the order of parking.
        self.records: list[tuple[bytes, Holder, int, float]] = []
        self.now = 0.0
        self.number = 0

    def record(self, wanted: bytes) -> tuple[bytes, Holder, int, float] | None:
        return next((record for record in self.records if record[0] == wanted), None)

    @rule(seconds=st.floats(0.0, 4.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(wanted=tokens, holder=holders)
    def admit(self, wanted: bytes, holder: Holder) -> None:
        self.number += 1
        own = [record for record in self.records if record[1].subject == holder.subject]
        waiting = [record for record in own if record[3] < inf]
        full = len(self.records) >= self.LIMIT or len(own) >= self.SHARE
        if self.record(wanted) is not None or (full and not waiting):
            with pytest.raises(RejectedSetup):
                self.sessions.admit(wanted, holder, self.number)
            return
        replaced = self.sessions.admit(wanted, holder, self.number)
        assert replaced == (waiting[0][2] if full else None)
        if full:
            self.records.remove(waiting[0])
        self.records.append((wanted, holder, self.number, inf))

    @rule(wanted=tokens)
    def park(self, wanted: bytes) -> None:
        record = self.record(wanted)
        assert self.sessions.park(wanted, self.now) is (record is not None)
        if record is not None and record[3] == inf:
            self.records.remove(record)
            self.records.append((*record[:3], self.now))
        elif record is not None:
            self.records[self.records.index(record)] = (*record[:3], self.now)

    @rule(wanted=tokens, holder=holders)
    def resume(self, wanted: bytes, holder: Holder) -> None:
        record = self.record(wanted)
        if record is None or record[1] != holder or self.now >= record[3] + self.HOLD:
            with pytest.raises(RejectedResume):
                self.sessions.find(wanted, holder, self.now)
            return
        assert self.sessions.find(wanted, holder, self.now) == record[2]
        self.sessions.attach(wanted)
        self.records[self.records.index(record)] = (*record[:3], inf)

    @rule(wanted=tokens)
    def end(self, wanted: bytes) -> None:
        self.sessions.remove(wanted)
        self.records = [record for record in self.records if record[0] != wanted]

    @rule()
    def sweep(self) -> None:
        late = [record for record in self.records if self.now >= record[3] + self.HOLD]
        assert sorted(self.sessions.expire(self.now)) == sorted(record[2] for record in late)
        self.records = [record for record in self.records if record not in late]

    @invariant()
    def agrees(self) -> None:
        assert len(self.sessions) == len(self.records) <= self.LIMIT
        assert self.sessions.parked == sum(record[3] < inf for record in self.records)


ParkedAgainstLists.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=40, deadline=None)
TestParkedAgainstLists = ParkedAgainstLists.TestCase
