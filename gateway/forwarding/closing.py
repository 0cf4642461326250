"""Why a connection ended. Every close names one of these; it is counted, logged and shown (`closed?reason=`)."""

from __future__ import annotations

from enum import Enum

from gateway.errors import ProtocolError
from gateway.wire.websocket import CloseCode


class CloseReason(Enum):
    """A counter label and the WebSocket close code that goes with it; RSocket itself names no such codes."""

    PEER_CLOSED = ("peer_closed", CloseCode.NORMAL)
    PEER_RESET = ("peer_reset", CloseCode.NORMAL)
    PEER_FAILED = ("peer_failed", CloseCode.NORMAL)
    PROTOCOL_ERROR = ("protocol_error", CloseCode.PROTOCOL_ERROR)
    TEXT_MESSAGE = ("text_message", CloseCode.UNSUPPORTED_DATA)
    INVALID_DATA = ("invalid_data", CloseCode.INVALID_DATA)
    TOO_BIG = ("too_big", CloseCode.TOO_BIG)
    POLICY = ("policy", CloseCode.POLICY)
    REFUSED_SETUP = ("refused_setup", CloseCode.PROTOCOL_ERROR)
    REFUSED_RESUME = ("refused_resume", CloseCode.PROTOCOL_ERROR)
    RESUMED = ("resumed", CloseCode.NORMAL)
    RESUME_EXPIRED = ("resume_expired", CloseCode.NORMAL)
    RESUME_OVERFLOWED = ("resume_overflowed", CloseCode.NORMAL)
    UNAUTHENTICATED = ("unauthenticated", CloseCode.UNAUTHENTICATED)
    FORBIDDEN = ("forbidden", CloseCode.FORBIDDEN)
    TOKEN_EXPIRED = ("token_expired", CloseCode.UNAUTHENTICATED)
    REVOKED = ("revoked", CloseCode.UNAUTHENTICATED)
    DISABLED = ("disabled", CloseCode.FORBIDDEN)
    SETUP_TIMEOUT = ("setup_timeout", CloseCode.TIMEOUT)
    KEEPALIVE_TIMEOUT = ("keepalive_timeout", CloseCode.TIMEOUT)
    WRITE_TIMEOUT = ("write_timeout", CloseCode.TIMEOUT)
    TAKEN_OVER = ("taken_over", CloseCode.TAKEN_OVER)
    RATE_LIMITED = ("rate_limited", CloseCode.RATE_LIMITED)
    OVERLOAD = ("overload", CloseCode.TRY_AGAIN_LATER)
    KICKED = ("kicked", CloseCode.POLICY)
    DRAINED = ("drained", CloseCode.SERVICE_RESTART)
    FAULT_INJECTED = ("fault_injected", CloseCode.TRY_AGAIN_LATER)
    BUG = ("internal_error", CloseCode.INTERNAL_ERROR)

    def __init__(self, label: str, code: CloseCode) -> None:
        self.label = label
        self.code = code


_BY_WEBSOCKET_CODE = {
    CloseCode.UNSUPPORTED_DATA: CloseReason.TEXT_MESSAGE,
    CloseCode.INVALID_DATA: CloseReason.INVALID_DATA,
    CloseCode.TOO_BIG: CloseReason.TOO_BIG,
}


def reason_for_violation(code: CloseCode) -> CloseReason:
    """The reason that goes with a violation of WebSocket framing."""
    return _BY_WEBSOCKET_CODE.get(code, CloseReason.PROTOCOL_ERROR)


_BY_ERROR_REASON = {
    "not_permitted": CloseReason.FORBIDDEN,
    "access_denied": CloseReason.FORBIDDEN,
    "draining": CloseReason.DRAINED,
    "broken_messages": CloseReason.TOO_BIG,
    "ignored_frames": CloseReason.POLICY,
    "max_keepalive_bytes": CloseReason.POLICY,
    "keepalive_burst": CloseReason.POLICY,
    "premature_ends": CloseReason.POLICY,
    "max_memory_bytes": CloseReason.POLICY,
    "fault_disconnect": CloseReason.FAULT_INJECTED,
}


#: A token that holds, of somebody who may not come in.
_UNWELCOME = ("token_disabled", "token_unregistered", "token_kind")


def reason_for_judgement(reason: str) -> CloseReason:
    """The reason that goes with a token that held and does not any more; `reason` is the refusal's."""
    return CloseReason.DISABLED if reason in _UNWELCOME else CloseReason.REVOKED


def reason_for_refusal(error: ProtocolError) -> CloseReason:
    """The reason that goes with a refused SETUP: a credential, a permission or the frame itself."""
    if error.reason in _UNWELCOME:
        return CloseReason.DISABLED
    if error.reason.startswith("token_"):
        return CloseReason.UNAUTHENTICATED
    return _BY_ERROR_REASON.get(error.reason, CloseReason.REFUSED_SETUP)


def reason_for_failure(error: ProtocolError) -> CloseReason:
    """The reason that goes with an error on an accepted connection: a budget that is spent, or broken protocol."""
    return _BY_ERROR_REASON.get(error.reason, CloseReason.PROTOCOL_ERROR)
