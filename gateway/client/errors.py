"""What a call, a connection or a registration fails with.

    GatewayError
        RequestFailed       the other side answered with ERROR: its code and text, as they came
        SetupRefused        the node turned the connection away: wrong token, a service it may not register, …
        ConnectionLost      the connection ended under a call; whether the request was processed is not known
        Unreachable         nobody answers at that address, or its certificate is not trusted

A call that takes too long raises the builtin ``TimeoutError`` and is cancelled on the wire.
"""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.wire.frames import ErrorCode


def code_name(code: int) -> str:
    """Return the specification's name of an error code; application codes (0x301 and above) have none of their own."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return "APPLICATION_CODE" if 0x301 <= code <= 0xFFFFFFFE else "UNKNOWN_CODE"


class _Coded(GatewayError):
    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code

    @property
    def name(self) -> str:
        return code_name(self.code)

    def __str__(self) -> str:
        head = f"{self.name} (0x{self.code:03x})"
        return f"{head}: {self.text}" if self.text else head


class RequestFailed(_Coded):
    """An ERROR frame on a stream. A handler raises it to answer with a code of its own (0x301 and above).

    0x202 REJECTED promises that nobody processed the request, so it may be sent again.
    """

    reason = "request_failed"


class SetupRefused(_Coded):
    """An ERROR frame on stream 0 in answer to SETUP; the node then closes."""

    reason = "setup_refused"


class ConnectionLost(GatewayError):
    reason = "connection_lost"


class Unreachable(GatewayError):
    reason = "unreachable"
