"""Which sessions can be resumed, by the token that their client chose: those with a link and those that wait for one.

The rules:

* A token belongs to one session at a time (P53), and a session to who set it up: subject and key (fault 46).
* Whoever asks for a token that is unknown, expired or somebody else's hears the same, so nothing is learned by trying.
  Tokens are the client's own; those too short to be beyond guessing are refused.
* A session without a link waits `hold_s` for one, then it is over.
* Everything is bounded: tokens by length, sessions in all, and each subject's share, so that one device cannot keep
  the others from resuming. Who is at a bound gives up the session of its own that has waited longest.
* State is this process's (P55): a client that comes back to another node is told to start afresh.

Must not know: what a session is, sockets, clocks, how a principal was authenticated.
"""

from __future__ import annotations

from math import inf
from typing import Generic, NamedTuple, TypeVar

from gateway.errors import RejectedResume, RejectedSetup

MIN_TOKEN_BYTES = 16
MAX_TOKEN_BYTES = 128
MAX_SESSIONS = 2_000
HOLD_S = 60.0

S = TypeVar("S")


class Holder(NamedTuple):
    """Who set a session up: the subject of its credential and the id of the key that signed it."""

    subject: str
    key_id: str


class _Entry(Generic[S]):
    __slots__ = ("deadline", "holder", "session")

    def __init__(self, holder: Holder, session: S) -> None:
        self.holder = holder
        self.session = session
        self.deadline = inf


class ParkedSessions(Generic[S]):
    """The resumable sessions of a node. Times are seconds of the caller's monotonic clock."""

    def __init__(self, limit: int = MAX_SESSIONS, share: int | None = None, hold_s: float = HOLD_S) -> None:
        """`share`: how many of `limit` one subject may have, an eighth unless given."""
        self._limit = limit
        self._share = max(1, limit // 8) if share is None else share
        self._hold_s = hold_s
        self._entries: dict[bytes, _Entry[S]] = {}
        # Those without a link, in the order in which they lost it.
        self._parked: dict[bytes, _Entry[S]] = {}
        self._shares: dict[str, int] = {}

    def __len__(self) -> int:
        """Sessions, with a link or without."""
        return len(self._entries)

    @property
    def parked(self) -> int:
        """Sessions without a link."""
        return len(self._parked)

    def admit(self, token: bytes, holder: Holder, session: S) -> S | None:
        """Enter the session of an authenticated SETUP; its link is up.

        Returns the session that it takes the room of, which the caller ends. Raises RejectedSetup, and enters nothing,
        when the token is too short, too long or in use (P53, fault 49), or when there is no room.
        """
        size = len(token)
        if not MIN_TOKEN_BYTES <= size <= MAX_TOKEN_BYTES:
            raise RejectedSetup(
                f"resume token of {size} bytes is not within {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES}",
                reason="resume_token_size",
            )
        if token in self._entries:
            raise RejectedSetup("resume token is in use", reason="resume_token_in_use")
        replaced: S | None = None
        if len(self._entries) >= self._limit or self._shares.get(holder.subject, 0) >= self._share:
            oldest = self._longest_parked(holder.subject)
            if oldest is None:
                raise RejectedSetup("too many resumable sessions", reason="resume_sessions")
            replaced = self._entries[oldest].session
            self.remove(oldest)
        self._entries[token] = _Entry(holder, session)
        self._shares[holder.subject] = self._shares.get(holder.subject, 0) + 1
        return replaced

    def find(self, token: bytes, holder: Holder | None, now: float) -> S:
        """The session that a RESUME asks for, with a link or without; changes nothing.

        `holder` is who the new link has proved to be. A RESUME has no room for a credential; None means that the link
        proves nobody, and then knowing the token is the proof. Raises RejectedResume.
        """
        entry = self._entries.get(token)
        if entry is None:
            raise _unknown("resume_unknown_token")
        if holder is not None and holder != entry.holder:
            raise _unknown("resume_other_holder")
        if now >= entry.deadline:
            raise _unknown("resume_expired")
        return entry.session

    def attach(self, token: bytes) -> None:
        """The session that `find` returned has a link again, or another one: it waits no longer."""
        self._entries[token].deadline = inf
        self._parked.pop(token, None)

    def park(self, token: bytes, now: float, hold_s: float | None = None) -> bool:
        """The session has lost its link and waits for another. False when it is not here any more: it is over.

        A link that a newer one has taken over from is not the session's any more, and its end parks nothing.
        """
        entry = self._entries.get(token)
        if entry is None:
            return False
        entry.deadline = now + (self._hold_s if hold_s is None else hold_s)
        self._parked[token] = entry
        return True

    def remove(self, token: bytes) -> None:
        """The session is over, or cannot be resumed any more. One that is not here is let pass."""
        entry = self._entries.pop(token, None)
        if entry is None:
            return
        self._parked.pop(token, None)
        subject = entry.holder.subject
        left = self._shares[subject] - 1
        if left:
            self._shares[subject] = left
        else:
            del self._shares[subject]

    def expire(self, now: float) -> list[S]:
        """Remove the sessions that have waited long enough, and return them: the caller ends them."""
        late = [token for token, entry in self._parked.items() if now >= entry.deadline]
        sessions = [self._parked[token].session for token in late]
        for token in late:
            self.remove(token)
        return sessions

    def _longest_parked(self, subject: str) -> bytes | None:
        return next((token for token, entry in self._parked.items() if entry.holder.subject == subject), None)


def _unknown(reason: str) -> RejectedResume:
    # One text for all of them (fault 46).
    return RejectedResume("unknown resume token", reason=reason)
