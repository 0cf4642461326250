"""The connections that have ended, and whoever wants to hear of those that come and go.

The data plane writes one line here when a connection's SETUP is accepted and one when a connection ends; both cost a
few hundred nanoseconds and no more memory than `CAPACITY` lines. What becomes of them is not its business.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from gateway.forwarding.closing import CloseReason
    from gateway.forwarding.connection import Connection

#: How many ended connections are remembered.
CAPACITY = 10_000


class Closed(NamedTuple):
    """One ended connection. Times are Unix seconds, `duration_s` is seconds, sizes are bytes of RSocket frames.

    `subject` and `principal_kind` are empty where the SETUP was not accepted. `text` is what the peer was told."""

    number: int
    kind: str
    peer: str
    subject: str
    principal_kind: str
    reason: str
    text: str
    closed_at: float
    duration_s: float
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int


class Watcher(Protocol):
    """Hears of connections as they come and go; returns at once and never raises."""

    def connection_accepted(self, connection: Connection) -> None: ...

    def connection_closed(self, closed: Closed) -> None: ...


class Register:
    """`closed`: the last connections that ended, oldest first. `watcher`: who is told, if anybody."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.closed: deque[Closed] = deque(maxlen=capacity)
        self.watcher: Watcher | None = None

    def accepted(self, connection: Connection) -> None:
        if self.watcher is not None:
            self.watcher.connection_accepted(connection)

    def ended(self, connection: Connection, reason: CloseReason, text: str) -> None:
        plane = connection.plane
        outbox = connection.outbox
        principal = connection.principal
        closed = Closed(
            connection.number,
            connection.kind,
            connection.peer,
            principal.subject,
            principal.kind.value if principal.subject else "",
            reason.label,
            text,
            plane.wall(),
            plane.monotonic() - connection.opened_at,
            connection.frames_in,
            outbox.frames_sent,
            connection.bytes_in,
            outbox.bytes_sent,
        )
        self.closed.append(closed)
        if self.watcher is not None:
            self.watcher.connection_closed(closed)
