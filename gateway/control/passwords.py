"""People's passwords: argon2id, off the event loop, at most two at a time.

OWASP's profile for small machines: 19 MiB, two passes, one lane; about 25 ms on a desktop, a quarter of a second on a
small board. A login for a name that nobody has takes as long as any other (fault 63).
"""

from __future__ import annotations

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.control import validation
from gateway.errors import InvalidChange

MIN_CHARACTERS, MAX_CHARACTERS = 10, 256
AT_ONCE = 2
_GROUPS, _GROUP = 4, 5
#: Without letters and digits that are taken for each other.
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


class Passwords:
    """Hashes and checks."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._nobody: str | None = None

    @staticmethod
    def generate() -> str:
        """Four groups of five, about 99 bits."""
        groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
        return "-".join(groups)

    async def hash(self, password: str) -> str:
        """Raises InvalidChange when it is too short, too long or not printable."""
        validation.text(password, "/password", most=MAX_CHARACTERS)
        if len(password) < MIN_CHARACTERS:
            raise InvalidChange(f"a password has at least {MIN_CHARACTERS} characters", "/password")
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one; `stored` is None where there is nobody with that name."""
        if len(password) > MAX_CHARACTERS:
            password = ""
        async with self._turns:
            if self._nobody is None:
                self._nobody = await asyncio.to_thread(self._hasher.hash, secrets.token_hex(16))
            fits = await asyncio.to_thread(self._fits, stored or self._nobody, password)
        return fits and stored is not None

    def _fits(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
