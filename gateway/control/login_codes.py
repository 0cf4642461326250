"""Codes that log somebody in once: what `gateway dashboard` puts into the link that it prints.

Only who holds the keys of the data directory, and so may do everything anyway, gets one for anybody. Of a code, 256
random bits, only the SHA-256 is kept, in memory: none outlives the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.control import bearer
from gateway.control.roles import Role
from gateway.control.users import User
from gateway.errors import InvalidChange, NotFound

PREFIX = "gl"
DEFAULT_S = 15 * 60.0
SHORTEST_S, LONGEST_S = 60.0, 12 * 3600.0
#: The oldest goes for one more.
MAX_KEPT = 32


class LoginCodes:
    """`users` gives those there are now, `wall` Unix seconds."""

    def __init__(self, users: Callable[[], Iterable[User]], wall: Callable[[], float]) -> None:
        self._users = users
        self._wall = wall
        self._kept: dict[str, tuple[bytes, str, float]] = {}

    def make(self, name: str | None, lifetime_s: float = DEFAULT_S) -> tuple[str, str, float]:
        """(code, user, when it ends), for the first administrator unless somebody is named.

        Raises NotFound (no such user), InvalidChange (one that may not log in, or a lifetime out of bounds).
        """
        if not SHORTEST_S <= lifetime_s <= LONGEST_S:
            raise InvalidChange(f"a code holds for {SHORTEST_S:.0f} to {LONGEST_S:.0f} s", "/lifetime_s")
        user = self._administrator() if name is None else self._named(name)
        made = bearer.new(PREFIX)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        ends_at = self._wall() + lifetime_s
        self._kept[made.id] = (made.digest, user.name, ends_at)
        return made.text, user.name, ends_at

    def take(self, code: str) -> str | None:
        """Whom a code logs in, this once; None for one that is used, over, or none."""
        parts = bearer.read(PREFIX, code)
        digest, name, ends_at = self._kept.get(parts[0] if parts else "", (None, "", 0.0))
        if parts is None or not bearer.matches(parts[1], digest):
            return None
        del self._kept[parts[0]]
        return name if self._wall() < ends_at else None

    def _named(self, name: str) -> User:
        user = next((user for user in self._users() if user.name == name), None)
        if user is None:
            raise NotFound(f"there is no user {name!r}")
        if not user.enabled:
            raise InvalidChange(f"user {name!r} is disabled", "/user")
        return user

    def _administrator(self) -> User:
        found = [user for user in self._users() if user.enabled and user.role is Role.ADMIN]
        if not found:
            raise NotFound("there is no administrator")
        return min(found, key=lambda user: (user.created_at, user.name))
