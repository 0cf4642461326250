"""Which requests may be tried again after what, and when.

Safe is what nobody has processed: the responder says so (REJECTED), or it was never sent. Whatever may have been
processed once is tried again only where its rule or its sender says that twice is no harm (`idempotent`).
"""

from __future__ import annotations

from enum import StrEnum

from gateway.policy.traffic import Retries, RetryOn
from gateway.wire.header import ErrorCode


class Failure(StrEnum):
    """How a try ended."""

    UNSENT = "unsent"
    """There was nobody to send it to, or who was there could take nothing."""
    REJECTED = "rejected"
    APPLICATION_ERROR = "application_error"
    GONE = "gone"
    """The responder, or the link to it, went before anything came back."""
    TIMEOUT = "timeout"
    """Nothing came back within the time for one try."""
    OTHER = "other"
    """INVALID, CANCELED and codes of the responder's own: trying again would change nothing, or is not wanted."""


_MEANT = {
    Failure.UNSENT: RetryOn.CONNECT_FAILURE,
    Failure.REJECTED: RetryOn.REJECTED,
    Failure.APPLICATION_ERROR: RetryOn.APPLICATION_ERROR,
    Failure.GONE: RetryOn.CONNECT_FAILURE,
    Failure.TIMEOUT: RetryOn.TIMEOUT,
}
_UNPROCESSED = frozenset({Failure.UNSENT, Failure.REJECTED})


def failure_of(code: int) -> Failure:
    """What the code of an ERROR frame on a stream says."""
    if code == ErrorCode.REJECTED:
        return Failure.REJECTED
    return Failure.APPLICATION_ERROR if code == ErrorCode.APPLICATION_ERROR else Failure.OTHER


def may_repeat(retries: Retries, failure: Failure, *, idempotent: bool) -> bool:
    """Whether such a failure is one to try again after, as the rule has it and as is safe."""
    return _MEANT.get(failure) in retries.on and (idempotent or failure in _UNPROCESSED)


def backoff_s(retries: Retries, number: int, draw: float) -> float:
    """How long to wait before retry `number`, from 1: a part, `draw` 0 to 1, of an interval that doubles."""
    # Beyond 2^32 times anything is the longest wait.
    return draw * min(retries.max_backoff_s, retries.backoff_s * 2.0 ** min(number - 1, 32))
