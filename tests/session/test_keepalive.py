"""KEEPALIVE frames: the answer, and the positions in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConnectionFailed, FrameError
from gateway.session.keepalive import answer, claimed, question
from gateway.session.resume import Retained
from gateway.wire.frames import KeepAlive, Payload, decode, encode

positions = st.integers(0, 2**63 - 1)


class TestAnswer:
    @given(theirs=positions, ours=positions, data=st.binary(max_size=64), padding=st.binary(max_size=3))
    def test_same_data_and_our_own_position(self, theirs: int, ours: int, data: bytes, padding: bytes) -> None:
        """P10: without RESPOND, the same data, our last received position; not the peer's, as rsocket-py echoes."""
        frame = encode(KeepAlive(True, theirs, data))
        answered = answer(padding + frame + b"next", len(padding), len(padding) + len(frame), ours)
        assert decode(answered) == KeepAlive(False, ours, data)

    def test_position_0_where_nothing_resumes(self) -> None:
        """P10."""
        frame = encode(KeepAlive(True, 7))
        assert decode(answer(frame, 0, len(frame))) == KeepAlive(False, 0)

    def test_an_answer_is_not_answered(self) -> None:
        """P10."""
        frame = encode(KeepAlive(False, 7, b"x"))
        assert answer(frame, 0, len(frame), 9) == b""

    @pytest.mark.parametrize("size", range(6, 14))
    def test_cut_short(self, size: int) -> None:
        frame = encode(KeepAlive(True, 7))[:size]
        with pytest.raises(FrameError):
            answer(frame, 0, size)
        with pytest.raises(FrameError):
            claimed(frame, 0, size)


class TestClaimed:
    @given(position=positions, respond=st.booleans(), data=st.binary(max_size=8))
    def test_what_the_peer_has_received(self, position: int, respond: bool, data: bytes) -> None:
        """P54."""
        frame = b"..." + encode(KeepAlive(respond, position, data))
        assert claimed(frame, 3, len(frame)) == position

    @pytest.mark.parametrize("position", [2**63, 2**64 - 1])
    def test_what_is_no_position_is_beyond_what_was_sent(self, position: int) -> None:
        """Fault 47."""
        frame = bytes.fromhex("000000000c80") + position.to_bytes(8, "big")
        retained = Retained()
        retained.append(encode(Payload(1, None, b"x", next=True)))
        with pytest.raises(ConnectionFailed):
            retained.trim(claimed(frame, 0, len(frame)))
        assert retained.size == 7


class TestQuestion:
    @given(positions)
    def test_asks_and_tells(self, position: int) -> None:
        """P11: the peer must answer it, with its own position."""
        assert decode(question(position)) == KeepAlive(True, position)

    def test_without_resume(self) -> None:
        assert question() == bytes.fromhex("000000000c800000000000000000")
