"""Answers that hold a secret, by idempotency key: kept in memory alone, so that no secret is ever stored in clear.

They are gone with the process: a repetition after a restart is a new request. `control.idempotency` keeps all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from gateway.control.idempotency import Stored
from gateway.errors import AlreadyExists, InvalidChange

CAPACITY: Final = 1000
KEPT_S: Final = 86_400.0


class SecretReplays:
    """As `control.idempotency.Idempotency`."""

    def __init__(self, wall: Callable[[], float], capacity: int = CAPACITY) -> None:
        self._wall = wall
        self._capacity = capacity
        self._answers: OrderedDict[tuple[str, str], tuple[float, str, Stored | None]] = OrderedDict()

    async def begin(self, key: str, caller: str, digest: str) -> Stored | None:
        """The answer to a request that came before, or None: do it, then `finish`.

        Raises InvalidChange when the key was used for another request, AlreadyExists while the first is under way.
        """
        now = self._wall()
        found = self._answers.get((caller, key))
        if found is not None and now - found[0] < KEPT_S:
            _, known, stored = found
            if known != digest:
                raise InvalidChange("this key was used for another request", "/idempotency-key")
            if stored is None:
                raise AlreadyExists("the same request is under way", reason="in_progress")
            return stored
        while len(self._answers) >= self._capacity:
            self._answers.popitem(last=False)
        self._answers[caller, key] = (now, digest, None)
        return None

    async def finish(self, key: str, caller: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        at, digest, _ = self._answers.get((caller, key), (self._wall(), "", None))
        self._answers[caller, key] = (at, digest, Stored(status, dict(headers), body))

    async def abandon(self, key: str, caller: str) -> None:
        """It was not done: it may be sent again."""
        self._answers.pop((caller, key), None)
