"""RSocket from pages of the dashboard: sockets that the admin API has let in go on as any device's does.

The admin API judges the handshake (`admin/console.py`); from there on it is a `WebSocketCarrier` before the data plane,
with its credit, bounds, deadlines and counters. It holds no place among the devices' listeners, which may be full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from gateway.forwarding.closing import CloseReason
from gateway.forwarding.plane import Plane
from gateway.transport.carrier import SocketCarrier
from gateway.transport.carriers import Carriers
from gateway.transport.websocket import Handshake, WebSocketCarrier


class _Page:
    """The house of one carrier (`transport.carrier.House`). Only a SETUP of `subject` stays."""

    def __init__(self, port: ConsolePort, subject: str, gone: Callable[[], None]) -> None:
        self._port = port
        self._subject = subject
        self._gone = gone
        self.carrier = WebSocketCarrier(port.plane, port.loop, self, port.handshake)

    def end(self, why: str) -> None:
        connection = self.carrier.connection
        if connection is None:
            self.carrier.abort()
        else:
            connection.close(CloseReason.REVOKED, why)

    def opened(self, carrier: SocketCarrier) -> None:
        self._port.carriers.add(carrier)

    def queue(self, work: Callable[[], None]) -> None:
        self._port.loop.call_soon(work)

    def established(self, carrier: SocketCarrier) -> None: ...

    def accepted(self, carrier: SocketCarrier) -> None:
        connection = carrier.connection
        if connection is not None and connection.principal.subject != self._subject:
            # Not from within its SETUP.
            self._port.loop.call_soon(self.end, "the token in SETUP is not the one that came with the ticket")

    def closing(self, carrier: SocketCarrier) -> None: ...

    def ended(self, carrier: SocketCarrier) -> None:
        self._port.carriers.discard(carrier)
        self._gone()


class ConsolePort:
    """`handshake` is that of the devices' listener: its bounds hold here too. `path` is where the admin API takes
    handshakes."""

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop, handshake: Handshake, path: str) -> None:
        self.plane = plane
        self.loop = loop
        self.handshake = replace(handshake, paths=frozenset({path}), origins=())
        self.carriers = Carriers()

    def carrier(self, subject: str, gone: Callable[[], None]) -> tuple[asyncio.Protocol, _Page]:
        page = _Page(self, subject, gone)
        return page.carrier, page

    async def stop(self) -> None:
        """Close what is open, and wait until the sockets are gone."""
        await self.carriers.close()
