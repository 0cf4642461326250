"""Stream 0 of one RSocket connection as a state machine. Sans I/O: bytes in, events out, `now` passed in.

What may come in which state is a table; a frame that the table does not name ends the connection. The table is the
whole of the protocol's rules for stream 0 and knows neither who the peer is nor what carries the connection.

States: AWAITING_SETUP until the first frame, OPEN after an accepted SETUP, DRAINING after CONNECTION_CLOSE from either
side (streams that are open may finish), CLOSED.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto

from gateway.errors import ConnectionFailed
from gateway.session import keepalive
from gateway.session.resume import Received
from gateway.session.setup import SetupRules, first_frame, lifetime_ms
from gateway.wire.frames import (
    HEADER_BYTES,
    IGNORE,
    ErrorCode,
    FrameType,
    Setup,
    peek_error_code,
    peek_flags,
    peek_stream_id,
    peek_type,
)


class State(Enum):
    AWAITING_SETUP = auto()
    OPEN = auto()
    DRAINING = auto()
    CLOSED = auto()


class Action(Enum):
    """What stream 0 does with a frame."""

    SET_UP = auto()
    RESUME = auto()
    KEEP_ALIVE = auto()
    HEAR_ERROR = auto()
    TAKE_LEASE = auto()
    TAKE_PUSH = auto()
    IGNORE = auto()
    FAIL = auto()


class Event(Enum):
    """What the owner of the session has to act on; everything else ends here."""

    IGNORED = auto()
    KEPT_ALIVE = auto()
    LEASED = auto()
    PUSHED = auto()
    PEER_FAILED = auto()
    PEER_DRAINS = auto()


_T = FrameType

_OPEN: dict[int, Action] = {
    _T.SETUP: Action.IGNORE,  # P07
    _T.LEASE: Action.TAKE_LEASE,
    _T.KEEPALIVE: Action.KEEP_ALIVE,
    _T.REQUEST_RESPONSE: Action.IGNORE,  # P22: requests and stream frames with id 0
    _T.REQUEST_FNF: Action.IGNORE,
    _T.REQUEST_STREAM: Action.IGNORE,
    _T.REQUEST_CHANNEL: Action.IGNORE,
    _T.REQUEST_N: Action.IGNORE,
    _T.CANCEL: Action.IGNORE,
    _T.PAYLOAD: Action.IGNORE,
    _T.ERROR: Action.HEAR_ERROR,
    _T.METADATA_PUSH: Action.TAKE_PUSH,
    _T.RESUME: Action.FAIL,  # P52
    _T.RESUME_OK: Action.IGNORE,
}

#: Errors that answer a SETUP; whoever has not sent one ignores them (P07).
_REFUSALS = (ErrorCode.INVALID_SETUP, ErrorCode.UNSUPPORTED_SETUP, ErrorCode.REJECTED_SETUP)

#: What stream 0 does, by state and frame type. A type that is missing is unknown to the specification (P23).
TRANSITIONS: dict[State, dict[int, Action]] = {
    State.AWAITING_SETUP: {_T.SETUP: Action.SET_UP, _T.RESUME: Action.RESUME},
    State.OPEN: _OPEN,
    State.DRAINING: _OPEN,
    State.CLOSED: {},
}


class Session:
    """One side of stream 0. The owner calls `set_up` with the first frame, then `receive` with each frame on stream 0.

    Attributes: `state`; `setup`, what SETUP said, without its metadata and data; `lifetime_s`, how long the peer may be
    silent (P12); `last_received`, when anything last came, kept by the owner (seconds of its monotonic clock);
    `received`, set by the owner of a session that can be resumed, how much has come; `dialled`, this side has
    sent the SETUP.
    """

    __slots__ = ("dialled", "last_received", "lifetime_s", "received", "rules", "setup", "state")

    def __init__(self, rules: SetupRules, now: float) -> None:
        self.rules = rules
        self.state = State.AWAITING_SETUP
        self.setup: Setup | None = None
        self.lifetime_s = 0.0
        self.last_received = now
        self.received: Received | None = None
        self.dialled = False

    @staticmethod
    def resumes(data: bytes, start: int, end: int) -> bool:
        """Whether a first frame is RESUME, of which the session that goes on is another one (P01)."""
        if end - start < HEADER_BYTES or peek_stream_id(data, start) != 0:
            return False
        return TRANSITIONS[State.AWAITING_SETUP].get(peek_type(data, start)) is Action.RESUME

    def set_up(self, data: bytes, start: int, end: int) -> Setup:
        """Take the first frame. Raises a ProtocolError that refuses the connection (P01, P03-P06, P08)."""
        self.state = State.CLOSED
        setup = first_frame(data, start, end, self.rules)
        # A token and what else came with it are the greater part of what an idle connection would hold.
        self.setup = replace(setup, metadata=None, data=b"")
        self.lifetime_s = lifetime_ms(setup, self.rules) / 1000
        return setup

    def accepted(self) -> None:
        """The peer has been authenticated: frames may be dispatched (P02)."""
        self.state = State.OPEN

    def dial(self, setup: Setup) -> None:
        """This side has sent SETUP: frames may come, one of which may refuse it (P09)."""
        self.dialled = True
        self.setup = setup
        self.lifetime_s = setup.lifetime_ms / 1000
        self.state = State.OPEN

    def receive(self, data: bytes, start: int, end: int) -> tuple[Event, bytes | str]:
        """Take a frame on stream 0 of an open connection.

        Returns an event and what goes with it: the KEEPALIVE to send back for KEPT_ALIVE (empty when none is due), the
        peer's text for PEER_FAILED and PEER_DRAINS, the metadata for PUSHED, the frame for LEASED. Raises
        ConnectionFailed or FrameError.
        """
        kind = peek_type(data, start)
        flags = peek_flags(data, start)
        action = TRANSITIONS[self.state].get(kind)
        if action is None:
            return self._unknown(kind, flags)
        if action is Action.KEEP_ALIVE:
            # P10: our own position, which is 0 as long as the session cannot be resumed.
            position = 0 if self.received is None else self.received.position
            return Event.KEPT_ALIVE, keepalive.answer(data, start, end, position)
        if action is Action.HEAR_ERROR:
            return self._hear_error(data, start, end)
        if action is Action.TAKE_LEASE and self.setup is not None and self.setup.lease:
            return Event.LEASED, data[start:end]
        if action is Action.TAKE_PUSH:
            return Event.PUSHED, data[start + HEADER_BYTES : end]
        if action is Action.FAIL:
            raise ConnectionFailed(f"{FrameType(kind).name} after SETUP", reason="unexpected_frame")
        # Fault 45: a LEASE that nobody asked for is among these.
        return Event.IGNORED, b""

    def expired(self, now: float) -> bool:
        """Whether the peer has been silent for longer than its max lifetime (P12)."""
        return self.state in (State.OPEN, State.DRAINING) and now - self.last_received > self.lifetime_s

    def _unknown(self, kind: int, flags: int) -> tuple[Event, bytes]:
        if self.state is State.CLOSED or flags & IGNORE:
            return Event.IGNORED, b""
        raise ConnectionFailed(f"unknown frame type 0x{kind:02x}", reason="unknown_frame")

    def _hear_error(self, data: bytes, start: int, end: int) -> tuple[Event, str]:
        code = peek_error_code(data, start, end)
        text = data[start + HEADER_BYTES + 4 : end].decode("utf-8", "replace")
        if code == ErrorCode.CONNECTION_ERROR or (self.dialled and code in _REFUSALS):
            self.state = State.CLOSED
            return Event.PEER_FAILED, text
        if code == ErrorCode.CONNECTION_CLOSE:
            self.state = State.DRAINING
            return Event.PEER_DRAINS, text
        return Event.IGNORED, ""
