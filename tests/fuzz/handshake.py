"""Fuzz target of a WebSocket connection from its first byte: the HTTP handshake, then messages, in any pieces.

The carrier is the real one; under it is a transport that keeps what is written, and a loop that does nothing by itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from gateway.transport.carrier import House, SocketCarrier
from gateway.transport.websocket import Handshake, WebSocketCarrier
from tests.fuzz.readers import pieces
from tests.fuzz.site import Site
from tests.fuzz.target import check

#: What a handshake may be answered with; anything else, 500 above all, is a finding.
STATUSES = {101, 200, 400, 403, 404, 405, 414, 426, 431, 503, 505}
#: Longest answer to a handshake.
_MAX_ANSWER = 2048
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n(?:[A-Za-z-]+: [^\r\n]*\r\n)+\r\n")
HANDSHAKE = Handshake(origins=("https://console.example",))


class _Loop:
    """Callbacks of this loop turn, and timers that never come due."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Any:
        return asyncio.TimerHandle(0.0, callback, args, cast(asyncio.AbstractEventLoop, self))

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: object) -> None: ...


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 40000)})
        self.written = bytearray()
        self.ended = False
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        check(not self.ended, "written after the end")
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _House(House):
    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, carrier: SocketCarrier) -> None:
        self.told.append("opened")

    def queue(self, work: Callable[[], None]) -> None:
        work()

    def established(self, carrier: SocketCarrier) -> None:
        self.told.append("established")

    def ended(self, carrier: SocketCarrier) -> None:
        self.told.append("ended")


class _Alarm(logging.Handler):
    """The carrier logs a bug instead of raising it; this makes it a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.record: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.record = self.record or record


_ALARM = _Alarm()


def websocket_connection(data: bytes) -> str:
    """One byte chooses the pieces; the rest is what a client sends from its first byte on."""
    logger = logging.getLogger("gateway")
    logger.addHandler(_ALARM)
    # Whoever else runs in this process has a log of its own: it gets none of this, and its way back.
    logger.propagate = False
    try:
        return _in_pieces(data)
    finally:
        logger.propagate = True
        logger.removeHandler(_ALARM)


def _in_pieces(data: bytes) -> str:
    label = ""
    first: tuple[bytes, list[str]] | None = None
    for cut in pieces(data[1:], data[0] if data else 0):
        label, told, answer = _connection(cut)
        if first is None:
            first = answer, told
        # A head that is refused early may be followed by anything; what it was answered stands.
        check((answer, told) == first, f"in {len(cut)} pieces {answer!r} {told}, not {first}")
    return label


def _connection(cut: list[bytes]) -> tuple[str, list[str], bytes]:
    site = Site()
    loop, transport, house = _Loop(), _Transport(), _House()
    carrier = WebSocketCarrier(site.plane, cast(asyncio.AbstractEventLoop, loop), house, HANDSHAKE)
    carrier.connection_made(transport)
    for piece in cut:
        carrier.data_received(piece)
        soon, loop.soon = loop.soon, []
        for callback in soon:
            callback()
        site.turn()
        check(len(carrier.head) <= 64 * 1024 + len(piece), "a head beyond its bound is held")
    _no_bug()
    written = bytes(transport.written)
    label, answer = _answered(written, b"".join(cut), transport)
    carrier.connection_lost(None)
    site.turn()
    _no_bug()
    check(house.told[0] == "opened" and house.told[-1] == "ended", f"the house was told {house.told}")
    site.finish()
    return label, house.told, answer


def _no_bug() -> None:
    record, _ALARM.record = _ALARM.record, None
    if record is not None:
        raise cast(BaseException, (record.exc_info or (None, None))[1] or AssertionError(record.getMessage()))


def _answered(written: bytes, sent: bytes, transport: _Transport) -> tuple[str, bytes]:
    """The status, and the status line for comparison (a Date makes the rest differ)."""
    if not written:
        check(not transport.ended, "closed without an answer")
        return "waiting", b""
    head = _HEAD.match(written)
    check(head, f"no HTTP answer: {written[:80]!r}")
    assert head is not None
    status = int(head[1])
    check(status in STATUSES, f"answered with {status}")
    if status != 101:
        check(len(written) <= _MAX_ANSWER, f"an answer of {len(written)} bytes")
        check(transport.ended, "refused and not closed")
        return str(status), head[1]
    _asked_for_it(sent)
    codes = _server_messages(written[head.end() :])
    return f"101 {' '.join(codes[-3:])}"[:60], head[1]


def _asked_for_it(sent: bytes) -> None:
    """101 only for what a WebSocket client of version 13 sends, without an Origin of somebody else (fault 5, 6)."""
    head = sent[: sent.find(b"\r\n\r\n")]
    fields = _fields(head)
    check(head.startswith(b"GET "), "101 without GET")
    check(b"websocket" in fields.get(b"upgrade", b"").lower(), "101 without Upgrade")
    check(fields.get(b"sec-websocket-version") == b"13", "101 for another version")
    check(len(fields.get(b"sec-websocket-key", b"")) == 24, "101 without a key")
    origin = fields.get(b"origin")
    host = fields.get(b"host", b"").lower()
    allowed = (None, b"https://console.example")
    check(origin in allowed or origin.lower() in (b"http://" + host, b"https://" + host), "101 for another's page")


def _fields(head: bytes) -> Mapping[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    return fields


def _server_messages(written: bytes) -> list[str]:
    """What the node says over WebSocket: whole, unmasked messages of known kinds, and nothing behind CLOSE."""
    found: list[str] = []
    at = 0
    while at < len(written):
        check(not found or not found[-1].startswith("close"), "something behind CLOSE")
        opcode, length = written[at] & 0x0F, written[at + 1]
        check(written[at] & 0xF0 == 0x80 and length < 128, "a server's frame is whole and unmasked")
        at += 2
        if length > 125:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(written[at : at + size], "big"), at + size
        payload = written[at : at + length]
        check(len(payload) == length, "a frame without its end")
        at += length
        check(opcode in (2, 8, 10), f"opcode {opcode}")
        found.append({2: "message", 10: "pong"}.get(opcode) or f"close-{int.from_bytes(payload[:2], 'big')}")
    return found
