"""One socket to a broker: bytes in, cut into packets; packets out, written once a loop turn.

TCP and TLS are the loop's own; over WebSocket `websockets` does handshake and framing, sans I/O. A read of many packets
is taken in slices, so that a broker with a backlog shares the loop with everybody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.bridges.mqtt.packets import PacketReader, Take
from gateway.errors import BridgeError

#: Packets that are taken before others get their turn.
AT_ONCE: Final = 256
#: Bytes that wait to be written above which QoS 0 is dropped rather than kept.
HIGH_WATER: Final = 1024 * 1024

_silent = logging.getLogger(f"{__name__}.websocket")
_silent.setLevel(logging.CRITICAL)


class Link(asyncio.Protocol):
    """`take` gets each packet; `lost(error)` is called once, with None when the other side just closed. `writable`:
    less than `HIGH_WATER` waits to be written. `paused`: nothing is read. `ready` is done when packets may be sent."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Take,
        lost: Callable[[Exception | None], None],
        max_packet: int,
    ) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self.writable = True
        self.closed = False
        self.bytes_in = 0
        self._loop = loop
        self._lost = lost
        self._reader = PacketReader(take, max_packet)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._behind: tuple[bytes, int] | None = None
        self.paused = False
        self._why: Exception | None = None

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        if self.closed:
            self._transport.abort()
            return
        self._established()

    def _established(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self._cut(data, 0)

    def _cut(self, data: bytes, at: int) -> None:
        if self._behind is not None:
            # A slice of what came before still waits: this comes behind it.
            before, start = self._behind
            self._behind = (before[start:] + data, 0)
            return
        try:
            at = self._reader.feed(data, at, AT_ONCE)
        except BridgeError as error:
            self.abort(error)
            return
        if at >= 0 and not self.closed:
            self._behind = (self._reader.rest, at)
            self._stop_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        behind, self._behind = self._behind, None
        if behind is not None and not self.closed:
            if self.paused:
                self._behind = behind
                return
            self._cut(*behind)
            if self._behind is None:
                self._read_on()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._out.clear()
        self._behind = None
        if not self.ready.done():
            self.ready.set_exception(error or self._why or ConnectionResetError("closed before it stood"))
            # Whoever waited may have given up meanwhile.
            self.ready.exception()
        self._lost(self._why or error)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    # What the client asks

    def write(self, data: bytes) -> None:
        """Send at the end of the loop turn."""
        if self.closed:
            return
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        if self._out and not self.closed and self._transport is not None:
            out, self._out = self._out, []
            self._send(b"".join(out))

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def pause(self) -> None:
        """Read nothing more: the broker feels it."""
        self.paused = True
        self._stop_reading()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self._behind is not None:
                self._loop.call_soon(self._go_on)
            else:
                self._read_on()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._transport is not None and not self.closed and not self.paused:
            self._transport.resume_reading()

    def close(self) -> None:
        """Write what waits, then close."""
        if not self.closed:
            self.flush()
            self.closed = True
            if self._transport is not None:
                self._transport.close()

    def abort(self, why: Exception | None = None) -> None:
        """Close at once; `why` is what `lost` is told."""
        self._why = self._why or why
        self.closed = True
        # Even where it is closing: what waits may never leave.
        if self._transport is not None:
            self._transport.abort()


class WebSocketLink(Link):
    """MQTT over WebSocket: binary messages, whose borders mean nothing (MQTT 5.0, 6)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Take,
        lost: Callable[[Exception | None], None],
        max_packet: int,
        url: str,
    ) -> None:
        """Raises BridgeError for an address that is none."""
        super().__init__(loop, take, lost, max_packet)
        try:
            uri = parse_uri(url)
        except InvalidURI as error:
            raise BridgeError(str(error), reason="mqtt_address") from error
        self._websocket = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=None, logger=_silent)

    def _established(self) -> None:
        self._websocket.send_request(self._websocket.connect())
        self._write_out()

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        before = self._websocket.state
        try:
            self._websocket.receive_data(data)
        except (ProtocolError, InvalidHandshake, EOFError) as error:
            self.abort(BridgeError(f"WebSocket: {error}", reason="mqtt_websocket"))
            return
        if before is State.CONNECTING:
            failure = self._websocket.handshake_exc
            if failure is not None:
                self.abort(BridgeError(f"WebSocket: {failure}", reason="mqtt_websocket"))
                return
            if self._websocket.state is State.OPEN:
                super()._established()
        for event in self._websocket.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT) and event.data:
                self._cut(bytes(event.data), 0)
        self._write_out()
        if self._websocket.close_expected() and not self.closed:
            self.abort()

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        return False

    def _send(self, data: bytes) -> None:
        # The other side may have said goodbye between the write and its flush.
        if self._websocket.state is State.OPEN:
            self._websocket.send_binary(data)
            self._write_out()

    def _write_out(self) -> None:
        if self._transport is not None:
            for data in self._websocket.data_to_send():
                if data:
                    self._transport.write(data)
