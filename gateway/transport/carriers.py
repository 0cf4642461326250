"""The carriers that a listener or a dialer has open, and how they go when it stops."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from gateway.forwarding.closing import CloseReason
from gateway.transport.carrier import SocketCarrier

#: How long stopping waits for peers to read why.
_LAST_WORDS_S: Final = 1.0


class Carriers:
    """Which are open. A carrier is in here from `House.opened` to `House.ended`."""

    def __init__(self) -> None:
        self._open: set[SocketCarrier] = set()
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, carrier: SocketCarrier) -> None:
        self._open.add(carrier)

    def discard(self, carrier: SocketCarrier) -> None:
        self._open.discard(carrier)
        if self._empty is not None and not self._open:
            self._empty.set()

    async def close(self) -> None:
        """Say why to those that understand it, and wait until the sockets are gone; then they are dropped."""
        for carrier in list(self._open):
            if carrier.connection is not None:
                carrier.connection.close(CloseReason.DRAINED, "this node is stopping")
            else:
                carrier.abort()
        if self._open:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._empty.wait()
        for carrier in list(self._open):
            carrier.abort()
