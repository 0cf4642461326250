"""The one way in which anything is changed: the change and its audit row in one transaction, then everybody is told.

A dry run goes all the way and is then undone. What was changed is taken over into memory (`then`) in the order of the
commits, even when whoever asked has gone meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.control.audit import Actor, Audit, AuditEntry
from gateway.errors import StorageError
from gateway.storage.database import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What a work did. `object`: what it was done to, as `device:kitchen`; `before`, `after`: how that looked."""

    result: T
    object: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None
    then: Callable[[], None] | None = None


class _Rehearsed(Exception):
    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


class Changes:
    """Makes changes to one database."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self.database = database
        self._audit = audit

    async def make(
        self,
        by: Actor,
        action: str,
        work: Callable[[sqlite3.Connection], Change[T]],
        *,
        dry_run: bool = False,
        reserve: bool = False,
    ) -> T:
        """Do `work` and audit it; return its result. Whatever it raises leaves everything as it was.

        `reserve`: it makes room or takes rights away (`Database.write`).

        Raises:
            StorageError: it could not be stored, or not be audited (`audit_failed`).
        """

        def changed(connection: sqlite3.Connection) -> tuple[Change[T], AuditEntry]:
            change = work(connection)
            try:
                entry = self._audit.add(
                    connection,
                    by,
                    action,
                    change.object,
                    before=change.before,
                    after=change.after,
                    details=change.details,
                )
            except (TypeError, ValueError, sqlite3.IntegrityError) as error:
                raise StorageError(f"{action} cannot be audited: {error}", reason="audit_failed") from error
            if dry_run:
                raise _Rehearsed(change.result)
            return change, entry

        try:
            change, _ = await self.database.write(changed, reserve=reserve, committed=self._take_over)
        except _Rehearsed as rehearsed:
            return rehearsed.result  # type: ignore[return-value]
        return change.result

    def _take_over(self, done: tuple[Change[Any], AuditEntry]) -> None:
        change, entry = done
        if change.then is not None:
            change.then()
        self._audit.tell(entry)
