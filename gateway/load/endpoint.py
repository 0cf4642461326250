"""One connection of the load: cuts what arrives into frames, answers stream 0, gathers what leaves.

It takes an established stream over from `opening`. What it does with a frame on a stream is its subclass's; whatever a
read gave rise to leaves in one write. Compiled where `endpoint.pxd` is used: no frame makes an object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from gateway.load.tally import Tally
from gateway.load.templates import CHUNK_BYTES, Framing, Template
from gateway.wire.frames import RESPOND, FrameType, KeepAlive, encode
from gateway.wire.websocket import Opcode

_BINARY = 0x82
_PING = 0x89
_PONG = 0x8A
_CLOSE = 0x88
_KEEPALIVE = int(FrameType.KEEPALIVE)
_ERROR = int(FrameType.ERROR)
_SMALL_BYTES = 8192
_CHUNK_BYTES = CHUNK_BYTES


class Endpoint:
    """A buffered protocol of asyncio, by its methods. `now` is when the bytes at hand came, in `perf_counter` seconds.

    Bytes arrive in the buffer that all connections of a run share: a read is dealt with before the next one.
    """

    def __init__(self, tally: Tally, framing: Framing) -> None:
        self.tally = tally
        self.framing = framing
        self.prefixed = framing.prefixed
        self.now = 0.0
        self.blocked = False
        self.transport: asyncio.Transport | None = None
        self._write: Callable[[bytes | bytearray], None] = self._send
        self._buffer = tally.buffer
        self._tail = b""
        self._out: bytearray | None = None

    def attach(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Take over an open connection; `rest` has already been read from it."""
        self.transport = transport
        self._write = transport.write
        while rest:
            buffer = self.get_buffer(-1)
            count = min(len(rest), len(buffer))
            buffer[:count] = rest[:count]
            rest = rest[count:]
            self.buffer_updated(count)

    def begin(self) -> None:
        """Start the operations that this connection keeps in flight."""

    def keep_alive(self) -> None:
        """Say that this side lives; asks for no answer."""
        self._send(self.framing.carry(encode(KeepAlive(respond=False))))

    # What a subclass does

    def _frame(self, stream_id: int, head: int, data: bytearray, start: int, end: int) -> None:
        """Take the frame `data[start:end]` of a stream; `head` is its type and flags."""

    def _turn(self) -> None:
        """All frames of one read have been taken."""
        self._flush()

    # asyncio's side

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        """Where the next bytes go: behind the message that is cut short."""
        size = len(self._tail)
        if size == 0:
            return self._buffer
        if size > len(self._buffer) >> 1:
            self._buffer = bytearray(size << 2)
        self._buffer[:size] = self._tail
        return memoryview(self._buffer)[size:]

    def buffer_updated(self, count: int) -> None:
        size = len(self._tail) + count
        data = self._buffer
        self.now = perf_counter()
        at = self._cut_prefixed(data, size) if self.prefixed else self._cut_messages(data, size)
        self._tail = bytes(data[at:size]) if at < size else b""
        self._turn()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.blocked = True
        if not self.tally.ending:
            self.tally.fail(f"connection lost: {exc or 'closed by the broker'}")

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False

    # Frames in

    def _cut_messages(self, data: bytearray, size: int) -> int:
        """Take every whole message in the first `size` bytes; return where the one that is cut short begins."""
        view = data
        at = 0
        while size - at >= 2:
            length = view[at + 1]
            body = at + 2
            if length >= 126:
                body = at + (4 if length == 126 else 10)
                if body > size:
                    break
                length = int.from_bytes(data[at + 2 : body], "big")
            end = body + length
            if end > size:
                break
            if view[at] == _BINARY and length >= 6:
                self._take(data, body, end)
            else:
                self._control(view[at], data, body, end)
            at = end
        return at

    def _cut_prefixed(self, data: bytearray, size: int) -> int:
        view = data
        at = 0
        while size - at >= 3:
            body = at + 3
            end = body + (view[at] << 16 | view[at + 1] << 8 | view[at + 2])
            if end > size:
                break
            if end - body >= 6:
                self._take(data, body, end)
            else:
                self.tally.fail("frame shorter than its header")
            at = end
        return at

    def _take(self, data: bytearray, start: int, end: int) -> None:
        view = data
        stream_id = (view[start] & 0x7F) << 24 | view[start + 1] << 16 | view[start + 2] << 8 | view[start + 3]
        head = view[start + 4] << 8 | view[start + 5]
        if stream_id:
            self._frame(stream_id, head, data, start, end)
        else:
            self._stream_zero(head, data, start, end)

    def _stream_zero(self, head: int, data: bytearray, start: int, end: int) -> None:
        if head >> 10 == _KEEPALIVE:
            if head & RESPOND:
                self._send(self.framing.carry(encode(KeepAlive(False, 0, bytes(data[start + 14 : end])))))
        elif head >> 10 == _ERROR:
            self.tally.fail(f"the broker ended the connection: {error_text(data, start, end)}")

    def _control(self, first: int, data: bytearray, start: int, end: int) -> None:
        if first == _PING:
            self._send(self.framing.control(Opcode.PONG, bytes(data[start:end])))
        elif first == _CLOSE:
            if not self.tally.ending:
                self.tally.fail(f"the broker closed: {int.from_bytes(data[start : start + 2], 'big')}")
        elif first != _PONG:
            self.tally.fail(f"unexpected message, first byte 0x{first:02x}")

    # Bytes out

    def _send(self, message: bytes | bytearray) -> None:
        if self.transport is not None:
            self.transport.write(message)

    def _put(self, template: Template, stream_id: int, count: int) -> None:
        """Gather `count` messages of one stream."""
        message = template.addressed(stream_id)
        while count > template.chunk:
            self._gather(message * template.chunk)
            count -= template.chunk
        self._gather(message if count == 1 else message * count)

    def _gather(self, messages: bytearray) -> None:
        if self._out is None:
            self._out = messages
        else:
            self._out += messages
        if len(self._out) >= _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        out = self._out
        if out is not None:
            # Nothing changes `out` from here on, so that a transport may keep it; a small one is cheaper as bytes.
            self._write(bytes(out) if len(out) < _SMALL_BYTES else out)
            self._out = None


def error_text(data: bytes | bytearray, start: int, end: int) -> str:
    """The code and text of an ERROR frame, for a person."""
    code = int.from_bytes(data[start + 6 : start + 10], "big")
    return f"0x{code:03x} {data[start + 10 : end].decode('utf-8', 'replace')}"
