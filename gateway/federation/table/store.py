"""What the table wants of an engine: owned keys with an age, compare-and-set, and a watch in one order.

Two implementations: `EmbeddedStore` (one central, in process) and `gateway.federation.nats.NatsStore`. Whatever they
raise is a `FederationError`: `RevisionConflict` (it was not written), `Unavailable` (it was not written, try later) or
`Unanswered` (it may have been written; only `read` tells).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from gateway.errors import FederationError


class RecordInvalid(FederationError):
    """A key or value that is none of the table's."""

    reason = "record_invalid"


class RevisionConflict(FederationError):
    """Somebody else has written the key since the revision that was expected; nothing was written."""

    reason = "revision_conflict"


class Unavailable(FederationError):
    """The engine cannot be asked now."""

    reason = "engine_unavailable"


class Unanswered(Unavailable):
    """No answer in time: it may have been written or not."""

    reason = "engine_unanswered"


class Gone(Enum):
    """Why a key has no value any more."""

    DELETED = "deleted"
    EXPIRED = "expired"


class Change(NamedTuple):
    """`value` is None when the key has gone, and `gone` says why; `revision` orders the changes of all keys."""

    key: str
    value: bytes | None
    revision: int
    gone: Gone | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """`ttl_s` in whole seconds. `expected`: the revision that it replaces, 0 for a key without a value; None: any."""

    key: str
    value: bytes
    ttl_s: int
    expected: int | None = None


class Follower(Protocol):
    """What a watch tells, in order, on the loop that started it. None of it may raise."""

    def snapshot_began(self, reset: bool) -> None:
        """Every key that has a value follows. `reset`: revisions have begun anew, or went back."""

    def changed(self, change: Change) -> None: ...

    def snapshot_ended(self) -> None:
        """What was not told since `snapshot_began` is not there."""

    def heard(self) -> None:
        """The engine has nothing more to tell at this moment."""

    def interrupted(self, why: str) -> None:
        """Changes may be missed from now on, until another snapshot."""


class Watch(Protocol):
    async def stop(self) -> None: ...


class RouteStore(Protocol):
    """One central's access to the engine. One loop uses it."""

    async def start(self) -> None:
        """Returns when it is there to be used or is known to be away.

        Raises:
            FederationError: it can never work as it is set; the text says what to change.
        """

    async def stop(self) -> None: ...

    async def read(self, key: str) -> Entry | None:
        """What the engine's leader has: never an old value. An `Entry` of b"" is a marker: the key has no value."""

    async def put(self, put: Put) -> int:
        """Writes and returns the new revision."""

    async def put_all(self, puts: Sequence[Put]) -> list[int | FederationError]:
        """Writes many at once; an answer for each, in their order."""

    async def delete(self, key: str, expected: int | None = None) -> int:
        """Followers are told of it at once. A key that has no value is no error."""

    def watch(self, prefixes: Sequence[str], follower: Follower) -> Watch:
        """Follow keys that begin with one of the prefixes (`n`, `e`, `s`, `d`), for ever."""
