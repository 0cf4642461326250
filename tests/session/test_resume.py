"""Positions, the frames that are kept, and the judgement on a RESUME. `test_resume_cuts` cuts links at random."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import (
    ConnectionEnded,
    ConnectionFailed,
    FrameError,
    InvalidSetup,
    ProtocolError,
    RejectedResume,
    RejectedSetup,
    UnsupportedSetup,
)
from gateway.session.resume import (
    ANSWERS,
    RETAINED_BYTES,
    Received,
    Retained,
    answer,
    judge,
    resume_frame,
)
from gateway.session.session import TRANSITIONS, Action, State
from gateway.wire.frames import (
    Cancel,
    Error,
    ErrorCode,
    FrameType,
    KeepAlive,
    Lease,
    MetadataPush,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    Resume,
    ResumeOk,
    Setup,
    encode,
    fragment,
    peek_stream_id,
    peek_type,
)
from tests.examples import examples

TRACKED_TYPES = {
    FrameType.REQUEST_RESPONSE,
    FrameType.REQUEST_FNF,
    FrameType.REQUEST_STREAM,
    FrameType.REQUEST_CHANNEL,
    FrameType.REQUEST_N,
    FrameType.CANCEL,
    FrameType.PAYLOAD,
    FrameType.ERROR,
}
TRACKED = [
    RequestResponse(1, b"m", b"d"),
    RequestFnf(3, None, b"d"),
    RequestStream(5, None, b"", 7),
    RequestChannel(7, b"", b"", 7),
    RequestN(5, 1),
    Cancel(5),
    Payload(1, None, b"", complete=True),
    Error(1, ErrorCode.APPLICATION_ERROR, "no"),
    Error(1, 0x301, "an application's own"),
]
UNTRACKED = [
    Setup(20_000, 90_000, "a/b", "c/d", resume_token=b"t" * 16),
    Lease(1_000, 5),
    KeepAlive(True, 9, b"x"),
    MetadataPush(b"m"),
    Resume(b"t" * 16, 0, 0),
    ResumeOk(0),
    Error(0, ErrorCode.CONNECTION_CLOSE, "draining"),
    Error(0, ErrorCode.CONNECTION_ERROR, "no"),
]
FRAME = encode(Payload(1, None, b"0123456789", next=True))


def count(received: Received, frame: bytes) -> None:
    received.take(peek_type(frame), peek_stream_id(frame), len(frame))


def retained_of(*sizes: int, limit: int = RETAINED_BYTES) -> Retained:
    """Frames of these sizes, at least 6, were sent."""
    retained = Retained(limit)
    for size in sizes:
        retained.append(encode(Payload(1, None, bytes(size - 6), next=True)))
    return retained


class TestPositions:
    """P50: which frames are counted, and by how much."""

    @pytest.mark.parametrize("frame", TRACKED, ids=lambda frame: type(frame).__name__)
    def test_a_frame_of_a_stream_counts_its_whole_length(self, frame: Payload) -> None:
        """P50: header included, length prefix not; from 0, in each direction by itself."""
        data = encode(frame)
        received, retained = Received(), Retained()
        assert received.position == retained.position == 0
        for times in (1, 2, 3):
            count(received, data)
            retained.append(data)
            assert received.position == retained.position == times * len(data)

    @pytest.mark.parametrize("frame", UNTRACKED, ids=lambda frame: type(frame).__name__)
    def test_a_frame_of_the_link_has_no_position(self, frame: KeepAlive) -> None:
        """P50: SETUP, KEEPALIVE, LEASE, RESUME, METADATA_PUSH and an ERROR on stream 0 are not counted."""
        received, retained = Received(), Retained()
        count(received, encode(frame))
        retained.append(encode(frame))
        assert received.position == retained.position == 0
        assert list(retained.replay_from(0)) == []

    def test_both_directions_agree_on_every_header(self) -> None:
        """P50: all 64 types, on streams and on stream 0, with flags and with the reserved bit of the stream id."""
        for kind, stream_id, flags, top in product(range(64), (0, 1, 2**31 - 1), (0, 0x3FF), (0, 1 << 31)):
            header = (stream_id | top).to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big")
            received, retained = Received(), Retained()
            count(received, header)
            retained.append(header)
            expected = 6 if stream_id and kind in TRACKED_TYPES else 0
            assert (received.position, retained.position) == (expected, expected), (kind, stream_id, flags, top)

    def test_each_fragment_counts(self) -> None:
        """P50: positions are of what is sent, after fragmentation."""
        fragments = fragment(RequestResponse(1, b"m" * 100, b"d" * 1000), 128)
        received, retained = Received(), Retained()
        for part in fragments:
            count(received, part)
            retained.append(part)
        assert len(fragments) > 2
        assert received.position == retained.position == sum(map(len, fragments))

    def test_positions_go_on_beyond_32_bits(self) -> None:
        """P50: 64 bits."""
        received = Received()
        received.position = 2**32 - 1
        count(received, FRAME)
        assert received.position == 2**32 - 1 + len(FRAME)


class TestRetained:
    def test_what_is_confirmed_is_forgotten(self) -> None:
        """P54: the peer's KEEPALIVE position trims."""
        retained = retained_of(10, 20, 30)
        retained.trim(10)
        assert (retained.first_available, retained.size, retained.position) == (10, 50, 60)
        retained.trim(60)
        assert (retained.first_available, retained.size, retained.position) == (60, 0, 60)
        assert list(retained.replay_from(60)) == []

    def test_frames_are_replayed_whole_and_in_order(self) -> None:
        """P51: everything from the position that the peer has."""
        frames = [encode(frame) for frame in TRACKED]
        retained = Retained()
        for frame in frames:
            retained.append(frame)
        at = 0
        for index, frame in enumerate(frames):
            assert list(retained.replay_from(at)) == frames[index:]
            at += len(frame)

    def test_a_replay_is_of_the_moment_it_was_asked_for(self) -> None:
        """Frames that are sent, and confirmations that come, while a replay goes on do not reach into it."""
        retained = retained_of(10, 20)
        replay = retained.replay_from(0)
        retained.append(FRAME)
        assert len(next(replay)) == 10
        retained.trim(30)
        assert [len(frame) for frame in replay] == [20]

    @pytest.mark.parametrize("stale", [0, 1, 9, 10])
    def test_an_older_position_in_a_keepalive_says_nothing(self, stale: int) -> None:
        """P54: clients that keep no count send 0 for ever (rsocket-js 0.0.27), others' KEEPALIVEs may overtake."""
        retained = retained_of(10, 20)
        retained.trim(10)
        retained.trim(stale)
        assert (retained.first_available, retained.position) == (10, 30)

    @pytest.mark.parametrize(
        ("position", "reason"),
        [
            (11, "resume_inside_frame"),
            (29, "resume_inside_frame"),
            (31, "resume_beyond_sent"),
            (2**63 - 1, "resume_beyond_sent"),
            (2**63, "resume_beyond_sent"),
            (2**64 - 1, "resume_beyond_sent"),
        ],
    )
    def test_a_claim_that_cannot_be_ends_the_link_and_forgets_nothing(self, position: int, reason: str) -> None:
        """Fault 47, P54: a KEEPALIVE position beyond what was sent, or inside a frame."""
        retained = retained_of(10, 20)
        retained.trim(10)
        with pytest.raises(ConnectionFailed) as raised:
            retained.trim(position)
        assert raised.value.reason == reason
        assert (retained.first_available, retained.position) == (10, 30)
        assert [len(frame) for frame in retained.replay_from(10)] == [20]

    @pytest.mark.parametrize("position", [0, 9, 11, 29, 31, 2**63])
    def test_nothing_is_replayed_from_elsewhere(self, position: int) -> None:
        """Fault 47: behind what is kept, inside a frame, beyond what was sent; raised before the first frame is."""
        retained = retained_of(10, 20)
        retained.trim(10)
        with pytest.raises(ConnectionFailed):
            retained.replay_from(position)

    @pytest.mark.parametrize(("last", "overflows"), [(39, False), (40, False), (41, True)])
    def test_the_limit(self, last: int, overflows: bool) -> None:
        """P54, fault 48: limit - 1, limit, limit + 1 bytes of frames."""
        retained = retained_of(60, last, limit=100)
        assert retained.overflowed is overflows
        assert retained.size == (0 if overflows else 60 + last)

    def test_the_limit_is_on_what_is_not_confirmed(self) -> None:
        """P54: a peer that confirms may be sent any amount."""
        retained = Retained(100)
        for _ in range(1000):
            retained.append(FRAME)
            retained.trim(retained.position)
        assert not retained.overflowed
        assert retained.position == 1000 * len(FRAME)

    def test_an_overflow_is_for_good(self) -> None:
        """P54: the session cannot be resumed any more, also when everything has been confirmed since."""
        retained = retained_of(60, 50, limit=100)
        for position in (0, 60, 110):
            assert retained.refusal(position) is not None
            with pytest.raises(ConnectionFailed) as raised:
                retained.replay_from(position)
            assert raised.value.reason == "resume_overflowed"
        retained.trim(110)
        retained.append(FRAME)
        assert (retained.position, retained.size, retained.overflowed) == (126, 0, True)
        retained.trim(126)
        assert not retained.should_ask()

    def test_an_overflowed_session_still_knows_a_lie(self) -> None:
        """Fault 47: the link is ended by a claim beyond what was sent."""
        retained = retained_of(60, 50, limit=100)
        with pytest.raises(ConnectionFailed) as raised:
            retained.trim(111)
        assert raised.value.reason == "resume_beyond_sent"

    def test_a_limit_of_nothing_keeps_nothing(self) -> None:
        retained = Retained(0)
        retained.append(encode(KeepAlive(True)))
        assert not retained.overflowed
        retained.append(FRAME)
        assert retained.overflowed

    @pytest.mark.parametrize("size", [6, 10, 38, 1024])
    def test_memory_is_bounded_and_given_back(self, size: int) -> None:
        """Fault 48: at most three times the limit however small the frames; next to nothing after an overflow."""
        limit = 64 * 1024
        frame = encode(Payload(1, None, bytes(size - 6), next=True))
        tracemalloc.start()
        try:
            retained = Retained(limit)
            while retained.position + size <= limit:
                retained.append(frame)
            full, _ = tracemalloc.get_traced_memory()
            retained.append(frame)
            retained.append(frame)
            freed, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert retained.overflowed
        assert full <= 3 * limit
        assert peak <= 4 * limit
        assert freed < 2_048


class TestAsking:
    """P11, P54: the peer is asked for its position before its silence costs the session."""

    def test_when_half_full_and_once(self) -> None:
        """A peer that answers with 0, as clients do that keep no count, is not asked again and again."""
        retained = retained_of(49, limit=100)
        assert not retained.should_ask()
        retained.append(encode(Cancel(1)))
        assert retained.should_ask()
        assert not retained.should_ask()
        retained.trim(0)
        assert not retained.should_ask()

    def test_again_after_progress(self) -> None:
        retained = retained_of(10, 50, limit=100)
        assert retained.should_ask()
        retained.trim(10)
        assert retained.should_ask()
        retained.trim(60)
        assert not retained.should_ask()

    def test_again_on_another_link(self) -> None:
        """The question may have been lost with the old one."""
        retained = retained_of(50, limit=100)
        assert retained.should_ask()
        retained.replay_from(0)
        assert retained.should_ask()

    def test_not_when_nothing_is_kept(self) -> None:
        assert not Retained(0).should_ask()


class RetainedAgainstEverything(RuleBasedStateMachine):
    """P54: the bounded buffer answers as one would that stores every frame for ever."""

    LIMIT = 200

    def __init__(self) -> None:
        super().__init__()
        self.retained = Retained(self.LIMIT)
        self.sent: list[bytes] = []
        self.ends = [0]
        self.confirmed = 0
        self.overflowed = False

    @property
    def position(self) -> int:
        return self.ends[-1]

    def possible(self, position: int) -> bool:
        return not self.overflowed and position in self.ends and position >= self.confirmed

    @rule(frame=st.sampled_from(TRACKED), filler=st.integers(0, 80))
    def send(self, frame: Payload, filler: int) -> None:
        data = encode(frame) + bytes(filler)
        self.retained.append(data)
        self.sent.append(data)
        self.ends.append(self.position + len(data))
        self.overflowed = self.overflowed or self.position - self.confirmed > self.LIMIT

    @rule(frame=st.sampled_from(UNTRACKED))
    def send_of_the_link(self, frame: KeepAlive) -> None:
        self.retained.append(encode(frame))

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        position = data.draw(st.one_of(st.sampled_from(self.ends), st.integers(0, self.position + 3)))
        bad = position > self.position or (position > self.confirmed and not self.possible(position))
        if bad and not (self.overflowed and position <= self.position):
            with pytest.raises(ConnectionFailed):
                self.retained.trim(position)
            return
        self.retained.trim(position)
        self.confirmed = max(self.confirmed, position)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        position = data.draw(st.one_of(st.sampled_from(self.ends), st.integers(0, self.position + 3)))
        resume = Resume(b"t" * 16, position, 0)
        if not self.possible(position):
            assert self.retained.refusal(position) is not None
            with pytest.raises(ConnectionFailed):
                self.retained.replay_from(position)
            with pytest.raises(RejectedResume):
                judge(resume, Received(), self.retained)
            return
        assert self.retained.refusal(position) is None
        assert judge(resume, Received(), self.retained) == ResumeOk(0)
        assert list(self.retained.replay_from(position)) == self.sent[self.ends.index(position) :]

    @invariant()
    def agrees(self) -> None:
        assert self.retained.position == self.position
        assert self.retained.overflowed is self.overflowed
        assert self.retained.first_available == (self.position if self.overflowed else self.confirmed)
        assert 0 <= self.retained.size <= self.LIMIT


RetainedAgainstEverything.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
TestRetainedAgainstEverything = RetainedAgainstEverything.TestCase


class TestJudge:
    def test_both_hold_what_the_other_lacks(self) -> None:
        """P51: accepted, with what has been received here."""
        received = Received()
        received.position = 100
        retained = retained_of(10, 20)
        assert judge(Resume(b"t" * 16, 10, 100), received, retained) == ResumeOk(100)
        assert judge(Resume(b"t" * 16, 0, 40), received, retained) == ResumeOk(100)
        assert judge(Resume(b"t" * 16, 30, 0), received, retained) == ResumeOk(100)

    @pytest.mark.parametrize(
        ("client_position", "server_position", "reason"),
        [
            # client.firstAvailable ≤ server.received
            (0, 10, None),
            (99, 10, None),
            (100, 10, None),
            (101, 10, "resume_client_lost"),
            (2**63 - 1, 10, "resume_client_lost"),
            (2**63, 10, "resume_client_lost"),
            # server.firstRetained ≤ client.lastReceivedServerPos
            (0, 0, "resume_not_retained"),
            (0, 9, "resume_not_retained"),
            (0, 11, "resume_inside_frame"),
            (0, 30, None),
            (0, 59, "resume_inside_frame"),
            (0, 60, None),
            # … ≤ what was sent
            (0, 61, "resume_beyond_sent"),
            (0, 2**63 - 1, "resume_beyond_sent"),
            (0, 2**63, "resume_beyond_sent"),
            (0, 2**64, "resume_beyond_sent"),
            (101, 61, "resume_client_lost"),
        ],
    )
    def test_boundaries(self, client_position: int, server_position: int, reason: str | None) -> None:
        """P51, fault 47: at, below and above each bound; whatever the answer, nothing has changed."""
        received = Received()
        received.position = 100
        retained = retained_of(10, 20, 30)
        retained.trim(10)
        resume = Resume(b"t" * 16, server_position, client_position)
        if reason is None:
            assert judge(resume, received, retained) == ResumeOk(100)
        else:
            with pytest.raises(RejectedResume) as raised:
                judge(resume, received, retained)
            assert (raised.value.code, raised.value.reason) == (0x004, reason)
        assert received.position == 100
        assert (retained.first_available, retained.position) == (10, 60)
        assert [len(frame) for frame in retained.replay_from(10)] == [20, 30]

    def test_an_overflow_is_a_clean_refusal(self) -> None:
        """P54, fault 48: REJECTED_RESUME, so that the client sets up afresh."""
        retained = retained_of(60, 60, limit=100)
        with pytest.raises(RejectedResume) as raised:
            judge(Resume(b"t" * 16, 120, 0), Received(), retained)
        assert raised.value.reason == "resume_overflowed"

    @given(
        received_position=st.integers(0, 40),
        client_position=st.integers(0, 45),
        trimmed=st.integers(0, 4),
        sent=st.integers(0, 4),
        claimed=st.integers(0, 45),
    )
    def test_the_rule_by_itself(
        self, received_position: int, client_position: int, trimmed: int, sent: int, claimed: int
    ) -> None:
        """P51: accepted just when each bound holds."""
        received = Received()
        received.position = received_position
        retained = retained_of(*[10] * sent)
        retained.trim(min(trimmed, sent) * 10)
        expected = (
            client_position <= received_position
            and retained.first_available <= claimed <= retained.position
            and claimed % 10 == 0
        )
        try:
            ok = judge(Resume(b"t" * 16, claimed, client_position), received, retained)
        except RejectedResume:
            assert not expected
        else:
            assert expected
            assert ok.position == received_position


class TestResumeFrame:
    def test_what_rsocket_java_sends(self) -> None:
        """P51: version 1.0, 16 random bytes, both positions."""
        data = bytes.fromhex("00000000340000010000" + "0010" + "ab" * 16 + "000000000000012c" + "0000000000000064")
        assert resume_frame(data, 0, len(data)) == Resume(b"\xab" * 16, 300, 100)

    def test_in_the_middle_of_a_buffer(self) -> None:
        frame = Resume(b"t" * 128, 2**63 - 1, 2**63 - 1)
        data = encode(frame)
        assert resume_frame(b"..." + data + b"...", 3, 3 + len(data)) == frame

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (encode(Resume(b"t" * 16, 0, 0))[:-1], "resume_malformed"),
            (encode(Resume(b"t" * 16, 0, 0))[:8], "resume_malformed"),
            (encode(Resume(b"t" * 16, 0, 0))[:-16] + (2**63).to_bytes(8, "big") + bytes(8), "resume_malformed"),
            (encode(Resume(b"t" * 16, 0, 0))[:-8] + (2**64 - 1).to_bytes(8, "big"), "resume_malformed"),
            (encode(Resume(b"t" * 16, 0, 0, 1, 1)), "resume_version"),
            (encode(Resume(b"t" * 16, 0, 0, 2, 0)), "resume_version"),
            (encode(Resume(b"t" * 129, 0, 0)), "resume_size"),
            (encode(Resume(b"t" * 65_535, 0, 0)), "resume_size"),
        ],
        ids=lambda value: value if isinstance(value, str) else len(value),
    )
    def test_what_will_not_get_better_is_rejected(self, data: bytes, reason: str) -> None:
        """P52, fault 47: REJECTED_RESUME, after which a client does not try again; 2^63 is no position."""
        with pytest.raises(RejectedResume) as raised:
            resume_frame(data, 0, len(data))
        assert raised.value.reason == reason


class TestAnswers:
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (InvalidSetup, RejectedResume),
            (UnsupportedSetup, RejectedResume),
            (RejectedSetup, RejectedResume),
            (RejectedResume, RejectedResume),
            (ConnectionFailed, ConnectionFailed),
            (ConnectionEnded, ConnectionFailed),
            (FrameError, ConnectionFailed),
        ],
    )
    def test_only_two_codes_answer_a_resume(
        self, make: Callable[..., ProtocolError], expected: type[ProtocolError]
    ) -> None:
        """P52: whatever a step refuses with, the client reads CONNECTION_ERROR or REJECTED_RESUME."""
        answered = answer(make("because", reason="label"))
        assert type(answered) is expected
        assert (answered.text, answered.reason) == ("because", "label")

    def test_an_answer_that_is_allowed_is_the_error_itself(self) -> None:
        error = RejectedResume("unknown resume token", reason="resume_unknown_token")
        assert answer(error) is error

    def test_the_table_knows_every_code_that_ends_a_connection(self) -> None:
        """P52."""
        assert set(ANSWERS) == {code for code in ErrorCode if code < ErrorCode.APPLICATION_ERROR}
        assert {allowed.code for allowed in ANSWERS.values()} == {ErrorCode.CONNECTION_ERROR, ErrorCode.REJECTED_RESUME}

    @pytest.mark.parametrize("state", [State.OPEN, State.DRAINING])
    def test_a_resume_later_fails_the_connection(self, state: State) -> None:
        """P52, fault 49: after SETUP, and after another RESUME: both have made the connection open."""
        assert TRANSITIONS[state][FrameType.RESUME] is Action.FAIL
