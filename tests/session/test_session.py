"""Stream 0, by state and frame: the whole matrix, with `now` as a plain number."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConnectionFailed, FrameError, InvalidSetup, ProtocolError
from gateway.session.resume import Received
from gateway.session.session import TRANSITIONS, Action, Event, Session, State
from gateway.session.setup import SetupRules
from gateway.wire.frames import (
    IGNORE,
    METADATA,
    Cancel,
    Error,
    ErrorCode,
    Frame,
    FrameType,
    KeepAlive,
    Lease,
    MetadataPush,
    Resume,
    ResumeOk,
    Setup,
    encode,
)

SETUP = Setup(20_000, 90_000, "m/m", "d/d")
KNOWN = [kind for kind in FrameType if kind is not FrameType.EXT]
UNKNOWN = sorted(set(range(64)) - set(map(int, KNOWN)))


def receive(session: Session, frame: bytes) -> tuple[Event, bytes | str]:
    return session.receive(b"\xff" + frame + b"\xff\xff", 1, 1 + len(frame))


def setting_up(session: Session, frame: bytes) -> Setup:
    return session.set_up(b"\xff" + frame + b"\xff\xff", 1, 1 + len(frame))


def awaiting() -> Session:
    return Session(SetupRules(), now=100.0)


def opened() -> Session:
    session = awaiting()
    setting_up(session, encode(SETUP))
    session.accepted()
    return session


def draining() -> Session:
    session = opened()
    receive(session, encode(Error(0, ErrorCode.CONNECTION_CLOSE, "bye")))
    return session


def closed() -> Session:
    session = opened()
    receive(session, encode(Error(0, ErrorCode.CONNECTION_ERROR, "no")))
    return session


MAKE: dict[State, Callable[[], Session]] = {
    State.AWAITING_SETUP: awaiting,
    State.OPEN: opened,
    State.DRAINING: draining,
    State.CLOSED: closed,
}


def on_stream_0(kind: int, flags: int = 0) -> bytes:
    """A frame of this type on stream 0 with a body that suits it; requests and stream frames are never decoded."""
    by_type: dict[int, Frame] = {
        FrameType.SETUP: SETUP,
        FrameType.LEASE: Lease(1000, 1),
        FrameType.KEEPALIVE: KeepAlive(True, 0, b"beat"),
        FrameType.ERROR: Error(0, 0x301, "?"),
        FrameType.METADATA_PUSH: MetadataPush(b"pushed"),
        FrameType.RESUME: Resume(b"token", 0, 0),
        FrameType.RESUME_OK: ResumeOk(0),
        FrameType.CANCEL: Cancel(0),
    }
    if kind in by_type:
        return encode(by_type[kind])
    return struct.pack(">IH", 0, kind << 10 | flags) + b"\x00\x00\x00\x05"


@pytest.mark.parametrize("state", State)
def test_the_makers_make_each_state(state: State) -> None:
    assert MAKE[state]().state is state


EXPECTED = {
    FrameType.KEEPALIVE: Event.KEPT_ALIVE,
    FrameType.METADATA_PUSH: Event.PUSHED,
    FrameType.RESUME: ConnectionFailed,
}


@pytest.mark.parametrize("state", [State.OPEN, State.DRAINING])
@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.name)
def test_every_known_frame_on_stream_0(state: State, kind: FrameType) -> None:
    """P07, P22, fault 22: a second SETUP, LEASE, and requests or stream frames with id 0 are ignored; RESUME fails."""
    session = MAKE[state]()
    expected = EXPECTED.get(kind, Event.IGNORED)
    if expected is ConnectionFailed:
        with pytest.raises(ConnectionFailed, match="RESUME after SETUP") as caught:
            receive(session, on_stream_0(kind))
        assert (caught.value.code, caught.value.reason) == (0x101, "unexpected_frame")
    else:
        assert receive(session, on_stream_0(kind))[0] is expected
    assert session.state is state


@pytest.mark.parametrize("kind", range(64))
@pytest.mark.parametrize("flags", [0, IGNORE])
def test_nothing_is_heard_once_closed(kind: int, flags: int) -> None:
    assert receive(closed(), on_stream_0(kind, flags)) == (Event.IGNORED, b"")


@pytest.mark.parametrize("state", [State.OPEN, State.DRAINING])
@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_frames(state: State, kind: int) -> None:
    """P23, fault 44: with IGNORE they are, without it they end the connection; EXT is one of them."""
    session = MAKE[state]()
    assert receive(session, on_stream_0(kind, IGNORE)) == (Event.IGNORED, b"")
    with pytest.raises(ConnectionFailed, match=f"0x{kind:02x}") as caught:
        receive(session, on_stream_0(kind))
    assert (caught.value.code, caught.value.reason) == (0x101, "unknown_frame")


@pytest.mark.parametrize("kind", [kind for kind in range(64) if kind != FrameType.SETUP])
def test_before_setup_the_table_knows_setup_and_resume_alone(kind: int) -> None:
    """P01, P02."""
    assert TRANSITIONS[State.AWAITING_SETUP] == {FrameType.SETUP: Action.SET_UP, FrameType.RESUME: Action.RESUME}
    session = awaiting()
    with pytest.raises(ProtocolError):
        setting_up(session, on_stream_0(kind))
    assert session.state is State.CLOSED


# SETUP


def test_setup_is_taken_and_then_waits_for_who_sent_it() -> None:
    """P02, P09: until the peer is authenticated nothing is dispatched; there is nothing to answer."""
    session = awaiting()
    assert setting_up(session, encode(SETUP)) == SETUP
    assert session.setup == replace(SETUP, metadata=None, data=b"")  # a token is not held for as long as it lasts
    assert session.lifetime_s == 90.0
    assert session.state is State.CLOSED
    session.accepted()
    assert session.state is State.OPEN


def test_a_refused_setup_leaves_the_session_closed() -> None:
    """P03: what is pipelined behind it finds a closed session."""
    session = awaiting()
    with pytest.raises(InvalidSetup):
        setting_up(session, b"\x00\x00\x00\x00\x04\x00\x00\x01\x00\x00" + bytes(8) + b"\x00\x00")
    assert session.setup is None
    assert receive(session, on_stream_0(FrameType.KEEPALIVE)) == (Event.IGNORED, b"")


# KEEPALIVE


@pytest.mark.parametrize("make", [opened, draining])
def test_a_keepalive_that_asks_is_answered(make: Callable[[], Session]) -> None:
    """P10: the same data, without the flag, at position 0 where nothing resumes."""
    event, answer = receive(make(), encode(KeepAlive(True, 77, b"beat")))
    assert event is Event.KEPT_ALIVE
    assert answer == encode(KeepAlive(False, 0, b"beat"))


def test_a_session_that_can_be_resumed_answers_with_what_it_has() -> None:
    """P10, P50."""
    session = opened()
    session.received = Received()
    session.received.take(FrameType.CANCEL, 1, 6)
    assert receive(session, encode(KeepAlive(True, 77, b"beat"))) == (
        Event.KEPT_ALIVE,
        encode(KeepAlive(False, 6, b"beat")),
    )


def test_the_golden_keepalive() -> None:
    """P10."""
    _, answer = receive(opened(), bytes.fromhex("000000000c800000000000000000"))
    assert answer == bytes.fromhex("000000000c000000000000000000")


def test_a_keepalive_that_does_not_ask_is_not_answered() -> None:
    """P10, P11: it may itself be an answer."""
    assert receive(opened(), encode(KeepAlive(False, 0, b"beat"))) == (Event.KEPT_ALIVE, b"")


@pytest.mark.parametrize("size", range(8))
def test_a_keepalive_without_a_position_is_malformed(size: int) -> None:
    with pytest.raises(FrameError, match="cut short"):
        receive(opened(), encode(KeepAlive(True))[: 6 + size])


# LEASE


@pytest.mark.parametrize("state", [State.OPEN, State.DRAINING])
def test_a_lease_that_setup_asked_for_is_handed_on(state: State) -> None:
    """P36; fault 45 for those that it did not ask for."""
    session = MAKE[state]()
    assert receive(session, on_stream_0(FrameType.LEASE)) == (Event.IGNORED, b"")
    session.setup = replace(SETUP, lease=True)
    assert receive(session, on_stream_0(FrameType.LEASE)) == (Event.LEASED, encode(Lease(1000, 1)))


# RESUME


@pytest.mark.parametrize(
    ("frame", "resumes"),
    [
        (encode(Resume(b"token", 0, 0)), True),
        (b"\0\0\0\0\x34\0", True),
        (b"\0\0\0\1" + encode(Resume(b"token", 0, 0))[4:], False),
        (b"\0\0\0\0\x34", False),
        (encode(SETUP), False),
        (encode(ResumeOk(0)), False),
    ],
)
def test_a_first_frame_that_is_resume_is_known_by_its_header(frame: bytes, resumes: bool) -> None:
    """P01."""
    assert Session.resumes(b"\xff" + frame + b"\x34", 1, 1 + len(frame)) is resumes


# ERROR and METADATA_PUSH


@pytest.mark.parametrize("make", [opened, draining])
@pytest.mark.parametrize("code", [0x001, 0x002, 0x003, 0x004])
def test_errors_of_the_setup_codes_are_ignored(make: Callable[[], Session], code: int) -> None:
    """P07: only a server sends those."""
    session = make()
    before = session.state
    assert receive(session, encode(Error(0, code, "no"))) == (Event.IGNORED, "")
    assert session.state is before


@pytest.mark.parametrize("code", [0, 0x100, 0x103, 0x201, 0x202, 0x203, 0x204, 0x301, 0xFFFFFFFE, 0xFFFFFFFF])
def test_errors_that_have_no_meaning_on_stream_0_are_ignored(code: int) -> None:
    """P22."""
    session = opened()
    assert receive(session, encode(Error(0, code, "no"))) == (Event.IGNORED, "")
    assert session.state is State.OPEN


@pytest.mark.parametrize("make", [opened, draining])
def test_connection_error_closes(make: Callable[[], Session]) -> None:
    session = make()
    assert receive(session, encode(Error(0, 0x101, "went wrong"))) == (Event.PEER_FAILED, "went wrong")
    assert session.state is State.CLOSED


@pytest.mark.parametrize("make", [opened, draining])
def test_connection_close_drains(make: Callable[[], Session]) -> None:
    session = make()
    assert receive(session, encode(Error(0, 0x102, "bye"))) == (Event.PEER_DRAINS, "bye")
    assert session.state is State.DRAINING


def test_an_error_text_need_not_be_text() -> None:
    assert receive(opened(), encode(Error(0, 0x101, "")) + b"\xff") == (Event.PEER_FAILED, "\ufffd")


@pytest.mark.parametrize("size", range(4))
def test_an_error_without_a_code_is_malformed(size: int) -> None:
    with pytest.raises(FrameError, match="cut short"):
        receive(opened(), encode(Error(0, 0x101, ""))[: 6 + size])


@pytest.mark.parametrize("flags", [METADATA, 0])
def test_a_push_gives_its_metadata(flags: int) -> None:
    """P22: rsocket-py leaves the M flag out when there is none."""
    frame = struct.pack(">IH", 0, FrameType.METADATA_PUSH << 10 | flags) + b"pushed"
    assert receive(opened(), frame) == (Event.PUSHED, b"pushed")


# Silence


@pytest.mark.parametrize("make", [opened, draining])
def test_a_silent_peer_expires_after_its_lifetime(make: Callable[[], Session]) -> None:
    """P12, fault 33: exactly at its lifetime it still lives."""
    session = make()
    assert not session.expired(190.0)
    assert session.expired(190.001)
    session.last_received = 150.0
    assert not session.expired(240.0)
    assert session.expired(240.001)


@pytest.mark.parametrize("make", [awaiting, closed])
def test_who_is_not_there_does_not_expire(make: Callable[[], Session]) -> None:
    assert not make().expired(1e9)


# Anything


@given(st.lists(st.binary(min_size=2, max_size=24), max_size=6))
def test_whatever_comes_there_is_a_legal_state(bodies: list[bytes]) -> None:
    """Fault 51: an event, or an error that says why the connection ends, whatever the bytes."""
    session = opened()
    for body in bodies:
        try:
            event, _ = receive(session, bytes(4) + body)
        except (ConnectionFailed, FrameError):
            return
        assert isinstance(event, Event)
        assert session.state in (State.OPEN, State.DRAINING, State.CLOSED)
