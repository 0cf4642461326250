"""WebSocket framing (RFC 6455) of an established connection: bytes <-> messages. No I/O, no clock, no logging.

One RSocket frame is one binary message, without a length prefix (RSocket 1.0, "Framing Format"). The handshake is not
here: `transport` leaves it to `websockets`, then hands the stream over.

The common case, a whole masked binary message of less than 64 KiB in one read, is cut without copying when its mask is
zero and with one copy otherwise. Everything else (fragments, control frames, errors) takes the slow path. Whatever the
peer does, `feed` never raises: a violation is reported once through `on_failure` and the rest of the input is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from gateway.wire.octets import apply_mask, unmask
from gateway.wire.sink import UNBOUNDED, FrameSink

Buffer = bytes | bytearray | memoryview


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Close codes that this gateway sends; 44xx are its own (RFC 6455 7.4.2 leaves 4000-4999 to applications)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    TIMEOUT = 4408
    TAKEN_OVER = 4409
    RATE_LIMITED = 4429


# The whole set that a peer may send: RFC 6455 7.4.1 and the IANA registry, less what must never be on the wire.
_RECEIVABLE_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_MAX_CONTROL_BYTES = 125

# Header of an unmasked, unfragmented binary message by its length: what the hot path appends before a short frame.
SHORT_HEADERS: tuple[bytes, ...] = tuple(bytes((0x82, length)) for length in range(126))


def header(length: int, opcode: int = Opcode.BINARY) -> bytes:
    """Return the header of one unmasked, final message of `length` bytes."""
    first = 0x80 | opcode
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


def masked_header(length: int, opcode: int = Opcode.BINARY) -> bytes:
    """The same under a mask of zeros: what follows goes as it is.

    A mask is there against pages that make a browser write what a proxy takes for HTTP (RFC 6455 10.3). A node is no
    page, and what it sends to another node is under TLS.
    """
    plain = header(length, opcode)
    return plain[:1] + bytes((plain[1] | 0x80,)) + plain[2:] + b"\0\0\0\0"


def mask(payload: Buffer, key: bytes) -> bytes:
    """Mask or unmask a payload with a 4-byte key (RFC 6455 5.3)."""
    return apply_mask(payload, key)


def masked_message(payload: bytes, key: bytes, opcode: int = Opcode.BINARY) -> bytes:
    """Return one whole message as a client sends it."""
    plain = header(len(payload), opcode)
    return plain[:1] + bytes((plain[1] | 0x80,)) + plain[2:] + key + apply_mask(payload, key)


def close_frame(code: int, text: str = "", *, masked: bool = False) -> bytes:
    """Return a CLOSE frame; the text is cut so that it fits a control frame and stays valid UTF-8."""
    reason = text.encode()[: _MAX_CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
    head = (masked_header if masked else header)(2 + len(reason), Opcode.CLOSE)
    return head + code.to_bytes(2, "big") + reason


def pong_frame(payload: bytes, *, masked: bool = False) -> bytes:
    """Return the answer to a ping."""
    return (masked_header if masked else header)(len(payload), Opcode.PONG) + payload


class MessageReader:
    """Cuts a stream of client frames into messages; with `masked` false, one of server frames.

    `sink.frame_received(buffer, start, end)` gets each binary message as a span.
    `on_ping(payload)`, `on_close(code, text)` and `on_failure(close_code, text)` get what their names say; `on_pong()`
    only tells that one came. After a close or a failure nothing is reported any more.

    `at_once` bounds the frames that one call of `feed` handles, so that whoever sends many small ones does not keep
    others waiting for the whole of a read.
    """

    __slots__ = (
        "_at",
        "_at_once",
        "_done",
        "_fragments",
        "_fragments_bytes",
        "_key_bytes",
        "_mask_bit",
        "_on_close",
        "_on_failure",
        "_on_ping",
        "_on_pong",
        "_sink",
        "_tail",
        "_waiting",
        "_wanted",
        "limit_broken",
        "max_fragments",
        "max_message",
    )

    def __init__(
        self,
        sink: FrameSink,
        on_ping: Callable[[bytes], None],
        on_pong: Callable[[], None],
        on_close: Callable[[int, str], None],
        on_failure: Callable[[CloseCode, str], None],
        *,
        max_message: int,
        max_fragments: int = 1024,
        at_once: int = UNBOUNDED,
        masked: bool = True,
    ) -> None:
        self._sink = sink
        self._mask_bit = 0x80 if masked else 0
        self._key_bytes = 4 if masked else 0
        self._on_ping = on_ping
        self._on_pong = on_pong
        self._on_close = on_close
        self._on_failure = on_failure
        self.max_message = max_message
        self.max_fragments = max_fragments
        #: The frame that is not complete, and the bytes it takes with its header; 0 while the header is cut, too.
        self._tail = bytearray()
        self._wanted = 0
        #: What `at_once` left for the next call, from `_at` on; there is no tail then.
        self._waiting: bytes | None = None
        self._at = 0
        self._at_once = at_once
        self._fragments: list[bytes] | None = None
        self._fragments_bytes = 0
        self._done = False
        #: Which of the two limits a message was over, by the name of its setting.
        self.limit_broken = ""

    @property
    def done(self) -> bool:
        return self._done

    @property
    def held(self) -> int:
        """Bytes kept: what waits for the next call; of one message never more than `max_message` and two headers."""
        waiting = 0 if self._waiting is None else len(self._waiting) - self._at
        return len(self._tail) + self._fragments_bytes + waiting

    def redirect(self, sink: FrameSink) -> None:
        """Give what is cut from now on to another sink, also the rest of what is being fed."""
        self._sink = sink

    def stop(self) -> None:
        """Drop what is buffered and ignore whatever comes."""
        self._done = True
        self._tail.clear()
        self._waiting = None
        self._fragments = None
        self._fragments_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Take what the socket gave. Returns whether some of it waits for another call, which may bring nothing new."""
        tail = self._tail
        at = 0
        if self._waiting is not None:
            data, at = (self._waiting, self._at) if not data else (self._waiting[self._at :] + data, 0)
            self._waiting = None
        elif tail:
            # A long message arrives in many reads: joining only when its last byte is there keeps this linear.
            if len(tail) + len(data) < self._wanted:
                tail += data
                return False
            # A header that was cut is looked at with what came: its limits hold before the body is there.
            data = b"".join((tail, data))
            tail.clear()
        size = len(data)
        left = self._at_once
        while size - at >= 2 + self._key_bytes:
            if self._done:
                return False
            if left == 0:
                self._waiting = data
                self._at = at
                return True
            left -= 1
            length = data[at + 1] - self._mask_bit
            if data[at] != 0x82 or not 0 <= length < 127 or self._fragments is not None:
                after = self._slow(data, at, size)
                if after < 0:
                    break
                at = after
                continue
            if length < 126:
                body = at + 2 + self._key_bytes
            else:
                if size - at < 4 + self._key_bytes:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                body = at + 4 + self._key_bytes
            if length > self.max_message:
                self._too_big(length)
                return False
            end = body + length
            if end > size:
                break
            payload = unmask(data, body, end) if self._mask_bit else None
            if payload is None:
                self._sink.frame_received(data, body, end)
            else:
                self._sink.frame_received(payload, 0, length)
            at = end
        if self._done:
            return False
        if at < size:
            rest = data[at:] if at else data
            # A violation shows in the header: it must not wait for a body that never comes.
            self._check_early(rest[:14])
            if not self._done:
                tail += rest
                announced, offset = self._length(rest[:14])
                self._wanted = 0 if announced is None else offset + announced
        return False

    def _length(self, head: bytes) -> tuple[int | None, int]:
        key = self._key_bytes
        if len(head) < 2:
            return None, 2 + key
        length = head[1] & 0x7F
        if length < 126:
            return length, 2 + key
        if length == 126:
            return (int.from_bytes(head[2:4], "big") if len(head) >= 4 else None), 4 + key
        return (int.from_bytes(head[2:10], "big") if len(head) >= 10 else None), 10 + key

    def _check_early(self, head: bytes) -> None:
        if len(head) < 2:
            return
        first, second = head[0], head[1]
        if first & 0x70:
            self._fail(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        elif second & 0x80 != self._mask_bit:
            self._fail(
                CloseCode.PROTOCOL_ERROR,
                f"{'client' if self._mask_bit else 'server'} frames must{'' if self._mask_bit else ' not'} be masked",
            )
        elif first & 0x0F == Opcode.TEXT:
            self._fail(CloseCode.UNSUPPORTED_DATA, "RSocket frames are binary messages")
        elif first & 0x08 and (not first & 0x80 or second & 0x7F > _MAX_CONTROL_BYTES):
            self._fail(CloseCode.PROTOCOL_ERROR, "control frame is fragmented or too long")
        else:
            length, _ = self._length(head)
            # A control frame between fragments is no part of their message.
            if not first & 0x08 and length is not None and length + self._fragments_bytes > self.max_message:
                self._too_big(length + self._fragments_bytes)

    def _slow(self, data: bytes, at: int, size: int) -> int:
        """Handle one frame that is not a whole short binary message; return where the next starts, -1 to wait."""
        self._check_early(data[at : at + 14])
        if self._done:
            return -1
        first = data[at]
        opcode = first & 0x0F
        length, offset = self._length(data[at : at + 14])
        if length is None or at + offset + length > size:
            return -1
        body = at + offset
        end = body + length
        payload = (unmask(data, body, end) if self._mask_bit else None) or data[body:end]
        if opcode == Opcode.BINARY:
            self._data(payload, final=first & 0x80 != 0, starts=True)
        elif opcode == Opcode.CONTINUATION:
            self._data(payload, final=first & 0x80 != 0, starts=False)
        elif opcode == Opcode.PING:
            self._on_ping(payload)
        elif opcode == Opcode.PONG:
            self._on_pong()
        elif opcode == Opcode.CLOSE:
            self._close(payload)
        else:
            self._fail(CloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode}")
        return end

    def _data(self, payload: bytes, *, final: bool, starts: bool) -> None:
        fragments = self._fragments
        if starts == (fragments is not None):
            self._fail(
                CloseCode.PROTOCOL_ERROR,
                "a new message started inside a fragmented one" if starts else "continuation of nothing",
            )
            return
        if starts and final:
            self._sink.frame_received(payload, 0, len(payload))
            return
        if fragments is None:
            fragments = self._fragments = []
        self._fragments_bytes += len(payload)
        fragments.append(payload)
        if len(fragments) > self.max_fragments:
            self.limit_broken = "message_fragments"
            self._fail(CloseCode.TOO_BIG, f"message of more than {self.max_fragments} fragments")
        elif final:
            message = b"".join(fragments)
            self._fragments = None
            self._fragments_bytes = 0
            self._sink.frame_received(message, 0, len(message))

    def _close(self, payload: bytes) -> None:
        if len(payload) == 1:
            self._fail(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
            return
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        if payload and code not in _RECEIVABLE_CLOSE_CODES and not 3000 <= code <= 4999:
            self._fail(CloseCode.PROTOCOL_ERROR, f"close code {code} may not be sent")
            return
        try:
            text = payload[2:].decode("utf-8")
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "close reason is not UTF-8")
            return
        self.stop()
        self._on_close(code, text)

    def _too_big(self, length: int) -> None:
        self.limit_broken = "max_frame_bytes"
        self._fail(CloseCode.TOO_BIG, f"message of {length} bytes is over the limit of {self.max_message}")

    def _fail(self, code: CloseCode, text: str) -> None:
        self.stop()
        self._on_failure(code, text)
