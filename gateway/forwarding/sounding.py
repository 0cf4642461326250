"""Whether a peer has received what was sent to it: a KEEPALIVE behind it that the peer has to answer (P11).

Frames arrive in their order, so the answer, which carries the question's data, says that whatever was sent before has
been read. It says nothing of what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.session import keepalive

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection

Heard = Callable[[bool], None]


class Soundings:
    """Those of all connections, by connection number and data."""

    def __init__(self) -> None:
        self._asked = 0
        self._waiting: dict[int, dict[bytes, Heard]] = {}

    def sound(self, connection: Connection, heard: Heard) -> None:
        """Tell `heard` once: True when everything sent so far was read, False when the connection ended before."""
        if connection.closed:
            heard(False)
            return
        self._asked += 1
        data = b"sound" + self._asked.to_bytes(8, "big")
        self._waiting.setdefault(connection.number, {})[data] = heard
        received = connection.session.received
        connection.outbox.put_frame(keepalive.question(0 if received is None else received.position, data))
        if connection.budgets is not None:
            connection.budgets.expect_keepalive()

    def answered(self, number: int, data: bytes) -> None:
        """A KEEPALIVE came that asks for no answer. What was asked before is answered with it."""
        waiting = self._waiting.get(number)
        if waiting is None or data not in waiting:
            return
        for asked in list(waiting):
            waiting.pop(asked)(True)
            if asked == data:
                break
        if not waiting:
            self._waiting.pop(number, None)

    def ended(self, number: int) -> None:
        for heard in self._waiting.pop(number, {}).values():
            heard(False)
