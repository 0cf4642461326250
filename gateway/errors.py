"""The one tree of errors.

Every refusal and every close is an exception of this tree until it meets the one place of its plane that catches: the
connection (``ProtocolError``), the forwarder (``RequestError``, per stream), the admin API's problem renderer, the
command line. The class carries the wire code (RSocket 1.0, "Error Codes") and a short reason that labels its counter;
the text is for a person. Anything outside this tree is a bug.

    GatewayError
        ProtocolError       ends the connection; code goes out on stream 0
            InvalidSetup UnsupportedSetup RejectedSetup RejectedResume
            ConnectionFailed ConnectionEnded FrameError
        RequestError        ends one stream
            NoRoute NotPermitted RateLimited Overloaded ResponderGone DeadlineExceeded RequestInvalid BrokerRefused
            FaultInjected
        ControlError        the control plane refuses; nothing was changed
            NotFound AlreadyExists StaleVersion InvalidChange InvalidDocument NotAllowed LoginRefused TooManyAttempts
            EnrolmentRefused
        ConfigError StorageError SpoolFull BridgeError FederationError WorkerError TokenError
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class GatewayError(Exception):
    """Whatever the gateway refuses or fails at on purpose."""

    reason: str = "error"

    def __init__(self, text: str = "", *, reason: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return self.text


class ProtocolError(GatewayError):
    """The connection cannot go on: its code goes out in an ERROR frame on stream 0, then it closes."""

    code: ClassVar[int] = 0x101
    reason = "protocol_error"


class InvalidSetup(ProtocolError):
    code = 0x001
    reason = "invalid_setup"


class UnsupportedSetup(ProtocolError):
    code = 0x002
    reason = "unsupported_setup"


class RejectedSetup(ProtocolError):
    code = 0x003
    reason = "rejected_setup"


class RejectedResume(ProtocolError):
    code = 0x004
    reason = "rejected_resume"


class ConnectionFailed(ProtocolError):
    """CONNECTION_ERROR: may drop at once."""

    code = 0x101
    reason = "connection_error"


class ConnectionEnded(ProtocolError):
    """CONNECTION_CLOSE: streams that are open may finish."""

    code = 0x102
    reason = "connection_close"


class FrameError(ProtocolError):
    """Bytes that are no frame, or a frame that breaks its own rules."""

    code = 0x101
    reason = "malformed_frame"


class RequestError(GatewayError):
    """One request is refused or ended: its code goes out in an ERROR frame on its stream; the connection lives."""

    code: int = 0x202
    reason = "request_error"
    #: The document that refuses it, as `Access/ops-only`; empty where none does.
    policy = ""
    trace_id = ""
    """Of the trace in which it is recorded already."""


class NoRoute(RequestError):
    """REJECTED: nobody serves it, and nobody processed it, so the caller may retry. `address`: what was looked for,
    where that is known."""

    reason = "no_route"
    address: object = None


class NotPermitted(RequestError):
    """REJECTED: the caller's grant or an access rule says no."""

    reason = "not_permitted"


class RateLimited(RequestError):
    reason = "rate_limited"


class Overloaded(RequestError):
    reason = "overloaded"


class ResponderGone(RequestError):
    """CANCELED: the responder's connection ended; the request may have been started."""

    code = 0x203
    reason = "responder_gone"


class DeadlineExceeded(RequestError):
    code = 0x203
    reason = "deadline_exceeded"


class FaultInjected(RequestError):
    """Whatever code a document says: a fault that somebody injects on purpose."""

    reason = "fault_abort"

    def __init__(self, text: str, code: int, policy: str) -> None:
        super().__init__(text)
        self.code = code
        self.policy = policy


class RequestInvalid(RequestError):
    """INVALID: the request itself is wrong; sending it again cannot help."""

    code = 0x204
    reason = "request_invalid"


class BrokerRefused(RequestError):
    """APPLICATION_ERROR: an MQTT broker has had it and says no."""

    code = 0x201
    reason = "mqtt_refused"


class ConfigError(GatewayError):
    reason = "config_error"


class StorageError(GatewayError):
    reason = "storage_error"


class SpoolFull(GatewayError):
    reason = "spool_full"


class BridgeError(GatewayError):
    reason = "bridge_error"


class FederationError(GatewayError):
    reason = "federation_error"


class WorkerError(GatewayError):
    """Another process of this node has gone, does not answer, or refuses; `kind` and `reason` are those of its own
    error then."""

    reason = "worker_gone"

    def __init__(self, text: str, *, reason: str | None = None, kind: str = "") -> None:
        super().__init__(text, reason=reason)
        self.kind = kind


class TokenError(GatewayError):
    """A credential is refused. ``reason`` is for the audit and the counter; ``text`` is what its holder may be told."""

    reason = "token_invalid"


class ControlError(GatewayError):
    """An operator's or a device's request to the control plane is refused; nothing was changed."""

    reason = "control_error"


class NotFound(ControlError):
    reason = "not_found"


class AlreadyExists(ControlError):
    reason = "already_exists"


class StaleVersion(ControlError):
    """It was changed by somebody else since it was read."""

    reason = "stale_version"


class InvalidChange(ControlError):
    """`pointer` (RFC 6901) says which value is wrong."""

    reason = "invalid_change"

    def __init__(self, text: str, pointer: str = "", *, reason: str | None = None) -> None:
        super().__init__(text, reason=reason)
        self.pointer = pointer


class InvalidDocument(ControlError):
    """`findings`: all that the validator says, each with `code`, `text`, `document`, `pointer`, `line`, `fix`."""

    reason = "invalid_document"

    def __init__(self, findings: Sequence[object]) -> None:
        super().__init__("; ".join(map(str, findings[:3])))
        self.findings = tuple(findings)


class NotAllowed(ControlError):
    """Whoever asks is known, and may not."""

    reason = "not_allowed"


class LoginRefused(ControlError):
    """No such user, wrong password, disabled, unknown key: to a stranger all the same (fault 63)."""

    reason = "login_refused"


class TooManyAttempts(ControlError):
    """`retry_after_s`: when to try again, in seconds."""

    reason = "too_many_attempts"

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class EnrolmentRefused(ControlError):
    """A claim is refused: unknown, used up, expired, not on the list. The holder is told one text (fault 64)."""

    reason = "enrolment_refused"
