"""RSocket over TCP: services, and later other nodes."""

from __future__ import annotations

import asyncio

from gateway.errors import ConnectionFailed
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.outbox import Outbox
from gateway.forwarding.plane import Plane
from gateway.transport.carrier import FRAMES_AT_ONCE, House, SocketCarrier
from gateway.wire.prefix import FrameReader
from gateway.wire.sink import FrameSink


class TcpCarrier(SocketCarrier):
    """One socket with a 24-bit length before each frame."""

    __slots__ = ("reader",)

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop, house: House) -> None:
        super().__init__(plane, loop, house)
        self.reader: FrameReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        plane = self.plane
        limits = plane.first_limits
        outbox = Outbox(
            self,
            plane.flusher,
            plane.counters,
            limits.high_water_bytes,
            limits.hard_water_bytes,
            prefixed=True,
        )
        self.connection = Connection(plane, self, outbox, peer=f"tcp {self.peer_name()}")
        self.connection.reached = self.reached("tcp")
        self.reader = FrameReader(
            self.connection,
            self._failure,
            max_frame=plane.snapshot.setup_rules.max_bytes,
            at_once=FRAMES_AT_ONCE,
        )
        self.feed = self.reader.feed

    def held(self) -> int:
        return self.reader.held if self.reader is not None else 0

    def allow(self, max_frame_bytes: int) -> None:
        assert self.reader is not None
        self.reader.max_frame = max_frame_bytes
        super().allow(max_frame_bytes)

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        super().attach(connection, sink)
        assert self.reader is not None
        self.reader.redirect(sink)

    def close(self, code: int, text: str) -> None:
        if self.reader is not None:
            self.reader.stop()
        super().close(code, text)

    def _failure(self, text: str) -> None:
        assert self.connection is not None
        self.plane.counters.refuse("max_frame_bytes")
        self.connection.close(CloseReason.TOO_BIG, text, ConnectionFailed(text))
