"""A federation made on disk, of nodes that are stopped and whose data directories are all here: no line, no dialling.

For whoever sets up several nodes on one machine, as compose.yaml does. Each is told of all, as if they had joined.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.control.archive import DATABASE
from gateway.control.audit import Actor
from gateway.control.identity import NODE_ID
from gateway.control.members import CENTRAL, Member
from gateway.control.plane import ControlPlane
from gateway.control.restoring import IDENTITY
from gateway.errors import StorageError
from gateway.storage.file import plain

WEBSOCKET_PORT, TCP_PORT = 7878, 7879


@dataclass(frozen=True, slots=True)
class Founder:
    """A node to be: others reach a central one by its name as the host. What its settings say of that, it tells at its
    first start."""

    name: str
    role: str
    data: Path

    def member(self, control: ControlPlane) -> Member:
        central = self.role == CENTRAL
        urls = (f"wss://{self.name}:{WEBSOCKET_PORT}/rsocket",) if central else ()
        peer_url = f"tls://{self.name}:{TCP_PORT}" if central else ""
        return control.members.itself(self.name, self.role, urls, peer_url)


async def found(founders: Sequence[Founder], by: Actor) -> bool:
    """Let them be one federation. Returns whether anything was left to do.

    A node of the same name that is no more here, whose data is lost, is removed. Raises StorageError: something is left
    to do, and one of them runs.
    """
    if _acquainted(founders):
        return False
    async with AsyncExitStack() as stack:
        planes = []
        for founder in founders:
            try:
                planes.append(await stack.enter_async_context(await ControlPlane.offline(founder.data)))
            except StorageError as error:
                if error.reason != "storage_locked":
                    raise
                raise StorageError(
                    f"{founder.name} runs, and one of {', '.join(each.name for each in founders)} is new to it: stop "
                    "them all, and try again",
                    reason="storage_locked",
                ) from None
        members = [founder.member(control) for founder, control in zip(founders, planes, strict=True)]
        names = {member.name: member.id for member in members}
        for control in planes:
            for gone in control.members.all():
                if names.get(gone.name, gone.id) != gone.id:
                    await control.members.remove(gone.id, by=by)
            for member in members:
                await control.members.put(member, by=by)
    return True


def _acquainted(founders: Sequence[Founder]) -> bool:
    """Whether each of them knows all of them; asked of the files, since the nodes may run."""
    try:
        ids = [(founder.data / IDENTITY / NODE_ID).read_text().strip() for founder in founders]
    except OSError:
        return False
    wanted = {(id, founder.role) for id, founder in zip(ids, founders, strict=True)}
    return all(wanted <= _members(founder.data / DATABASE) for founder in founders)


def _members(database: Path) -> set[tuple[str, str]]:
    """Id and role of each; none where there is no file, or one of an older version."""
    try:
        with plain(database, read_only=True) as connection:
            rows = connection.execute("SELECT id, role FROM members WHERE NOT removed").fetchall()
    except sqlite3.Error:
        return set()
    return {(row["id"], row["role"]) for row in rows}
