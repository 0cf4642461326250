"""What a worker tells of its own accord: who came, who went, whom it saw. Gathered for a moment, and sent together."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.forwarding.connection import Connection
from gateway.forwarding.links import LOCAL
from gateway.forwarding.register import Closed
from gateway.workers.channel import Channel

GATHER_S: Final = 0.05
#: Lines of one message.
LINES: Final = 2000


class Reporter:
    """Watches the register of a worker's data plane. What the first process does not take in time is left out, and
    `left_out` counts it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lines: list[list[Any]] = []
        self._due: asyncio.TimerHandle | None = None
        self.left_out = 0

    def add(self, kind: str, *line: Any) -> None:
        if self._channel.busy:
            self.left_out += 1
            return
        self._lines.append([kind, *line])
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(GATHER_S, self.flush)

    def flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        lines, self._lines = self._lines, []
        for start in range(0, len(lines), LINES):
            self._channel.send("lines", lines=lines[start : start + LINES])

    # What the register tells

    def connection_accepted(self, connection: Connection) -> None:
        if connection.side == LOCAL:
            principal = connection.principal
            self.add("opened", connection.number, principal.subject, connection.peer, principal.kind.value)

    def connection_closed(self, closed: Closed) -> None:
        if closed.kind == "client":
            self.add("closed", *closed)
