"""Why a connection ended: one label and one close code each."""

from __future__ import annotations

import pytest

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
from gateway.forwarding.closing import CloseReason, reason_for_failure, reason_for_refusal, reason_for_violation
from gateway.wire.websocket import CloseCode


def test_labels_are_snake_case_and_unique() -> None:
    """A label is a metric's: a word of this program."""
    labels = [reason.label for reason in CloseReason]
    assert len(set(labels)) == len(labels)
    assert all(label.isidentifier() and label.islower() for label in labels)


def test_codes_are_what_websockets_may_send() -> None:
    """RFC 6455 7.4: 1005 and 1006 are never sent; 4400 to 4499 are ours."""
    for reason in CloseReason:
        assert reason.code in CloseCode
        assert 1000 <= reason.code <= 1014 or 4400 <= reason.code <= 4499
        assert reason.code not in (1004, 1005, 1006)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (CloseCode.UNSUPPORTED_DATA, CloseReason.TEXT_MESSAGE),
        (CloseCode.INVALID_DATA, CloseReason.INVALID_DATA),
        (CloseCode.TOO_BIG, CloseReason.TOO_BIG),
        (CloseCode.PROTOCOL_ERROR, CloseReason.PROTOCOL_ERROR),
    ],
)
def test_violations_of_framing(code: CloseCode, reason: CloseReason) -> None:
    """Faults 9, 10, 13."""
    assert reason_for_violation(code) is reason
    assert reason.code == code


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (InvalidSetup("x"), CloseReason.REFUSED_SETUP, 1002),
        (UnsupportedSetup("x"), CloseReason.REFUSED_SETUP, 1002),
        (RejectedSetup("x"), CloseReason.REFUSED_SETUP, 1002),
        (RejectedResume("x"), CloseReason.REFUSED_SETUP, 1002),
        (RejectedSetup("x", reason="token_expired"), CloseReason.UNAUTHENTICATED, 4401),
        (RejectedSetup("x", reason="token_type"), CloseReason.UNAUTHENTICATED, 4401),
        (RejectedSetup("x", reason="not_permitted"), CloseReason.FORBIDDEN, 4403),
        (ConnectionEnded("x", reason="draining"), CloseReason.DRAINED, 1012),
    ],
)
def test_refusals(error: ProtocolError, reason: CloseReason, code: int) -> None:
    """P03, fault 17."""
    assert reason_for_refusal(error) is reason
    assert reason.code == code


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (FrameError("x"), CloseReason.PROTOCOL_ERROR, 1002),
        (ConnectionFailed("x", reason="unknown_frame"), CloseReason.PROTOCOL_ERROR, 1002),
        (ConnectionFailed("x", reason="ignored_frames"), CloseReason.POLICY, 1008),
        (ConnectionFailed("x", reason="max_keepalive_bytes"), CloseReason.POLICY, 1008),
    ],
)
def test_failures(error: ProtocolError, reason: CloseReason, code: int) -> None:
    """Faults 31, 41, 42, 44."""
    assert reason_for_failure(error) is reason
    assert reason.code == code
