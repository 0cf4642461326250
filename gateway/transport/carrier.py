"""What both transports share: a socket under a connection, its write buffer, and a close that lets the peer read why.

Closing is in three steps, so that the last frame is not lost to a reset: write, half-close, then read and drop until
the peer closes or `LINGER_S` has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import Plane

#: Bytes in the transport's own buffer above which the connection's outbox holds the rest.
WRITE_BUFFER_BYTES = 64 * 1024
LINGER_S = 2.0


class SocketCarrier(asyncio.Protocol):
    """A carrier over an asyncio transport. Subclasses cut frames in `data_received`."""

    __slots__ = ("closing", "connection", "loop", "on_lost", "plane", "transport")

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop) -> None:
        self.plane = plane
        self.loop = loop
        self.closing = False
        self.transport: asyncio.Transport | None = None
        self.connection: Connection | None = None
        self.on_lost: Callable[[SocketCarrier], None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self.connection is not None:
            self.connection.lost(CloseReason.PEER_CLOSED if exc is None else CloseReason.PEER_RESET)
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.outbox.block(self.plane.monotonic())

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.outbox.unblock()

    # The connection's side

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.closing:
            self.transport.write(data)

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def pause_reading(self) -> None:
        if self.transport is not None and not self.closing:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and not self.closing:
            self.transport.resume_reading()

    def close(self, code: int, text: str) -> None:
        self.finish(b"")

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def finish(self, last: bytes) -> None:
        """Write `last`, half-close, and wait a little for the peer to read it."""
        if self.closing or self.transport is None:
            return
        self.closing = True
        transport = self.transport
        if last:
            transport.write(last)
        if self.connection is not None and self.connection.paused_by:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self.loop.call_later(LINGER_S, transport.abort)

    def peer_name(self) -> str:
        assert self.transport is not None
        peer = self.transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
