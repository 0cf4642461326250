"""Fuzz targets of what cuts a byte stream into messages, whatever pieces it comes in.

The same bytes in one piece, byte by byte and in pieces of other sizes must give the same events; those are compared
with a plain reading of the whole stream that is written out here. What a reader holds is bounded by one message.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from gateway.errors import FrameError, InvalidSetup, RequestInvalid
from gateway.wire.frames import Fragmentable, Payload, Reassembly, decode, fragment
from gateway.wire.prefix import FrameReader
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import MessageReader
from tests.fuzz.target import check, outcome

Events = list[tuple[Any, ...]]


def _fail(events: Events, text: str) -> None:
    events.append(("failure",))


class _Sink(FrameSink):
    def __init__(self, events: Events) -> None:
        self._events = events

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        self._events.append(("message", bytes(data[start:end])))


#: Limits of a message: around those of the three length forms, and small enough that inputs reach them.
LIMITS = (0, 125, 126, 300, 2000, 65536)
MAX_FRAGMENTS = 8
_HEAD_BYTES = 14
_MAX_CONTROL = 125


def pieces(stream: bytes, seed: int) -> Iterator[list[bytes]]:
    """The stream in one piece, in two, in small ones of random sizes, and byte by byte; no piece is empty."""
    if not stream:
        return
    random = Random(seed)
    yield [stream]
    at = random.randrange(len(stream))
    if at:
        yield [stream[:at], stream[at:]]
    cut: list[bytes] = []
    at = 0
    while at < len(stream):
        size = random.choice((1, 2, 3, 7, 40, 500))
        cut.append(stream[at : at + size])
        at += size
    yield cut
    if len(stream) <= 600:
        yield [stream[at : at + 1] for at in range(len(stream))]


def websocket(data: bytes) -> str:
    """One byte chooses the limit, one the pieces; the rest is what a client sends once the handshake is over."""
    limit = LIMITS[data[0] % len(LIMITS)] if data else 0
    stream = data[2:]
    wanted = list(plain_messages(stream, limit))
    for cut in pieces(stream, data[1] if len(data) > 1 else 0):
        got = _feed_websocket(cut, limit)
        check(got == wanted, f"in {len(cut)} pieces {got!r:.300} and not {wanted!r:.300}")
    return " ".join(str(event[0]) + (str(event[1]) if event[0] != "message" else "") for event in wanted[-3:])[:80]


def _feed_websocket(cut: list[bytes], limit: int) -> Events:
    events: Events = []
    reader = MessageReader(
        _Sink(events),
        lambda payload: events.append(("ping", bytes(payload))),
        lambda: events.append(("pong", b"")),
        lambda code, text: events.append(("close", code, text)),
        lambda code, text: events.append(("failure", int(code))),
        max_message=limit,
        max_fragments=MAX_FRAGMENTS,
    )
    for piece in cut:
        reader.feed(piece)
        check(reader.held <= limit + _HEAD_BYTES + _MAX_CONTROL, f"{reader.held} bytes are held for {limit} at most")
        if reader.done:
            check(reader.held == 0, "bytes are held after the end")
    return events


def plain_messages(stream: bytes, limit: int) -> Iterator[tuple[Any, ...]]:
    """What the stream says, by RFC 6455 5.2 to 5.5, read frame by frame from whole frames."""
    at = 0
    fragments: list[bytes] | None = None
    while len(stream) - at >= 2:
        first, second = stream[at], stream[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        gathered = sum(map(len, fragments)) if fragments is not None else 0
        if first & 0x70 or not second & 0x80:
            yield "failure", 1002
            return
        if opcode == 1:
            yield "failure", 1003
            return
        if opcode & 8 and (not first & 0x80 or length > _MAX_CONTROL):
            yield "failure", 1002
            return
        body = at + 6
        if length == 126:
            body = at + 8
            length = int.from_bytes(stream[at + 2 : at + 4], "big")
            if len(stream) < at + 4:
                return
        elif length == 127:
            body = at + 14
            length = int.from_bytes(stream[at + 2 : at + 10], "big")
            if len(stream) < at + 10:
                return
        if not opcode & 8 and length + gathered > limit:
            yield "failure", 1009
            return
        end = body + length
        if end > len(stream):
            return
        key = stream[body - 4 : body]
        payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(stream[body:end]))
        at = end
        if opcode == 8:
            yield _closing(payload)
            return
        if opcode == 9:
            yield "ping", payload
        elif opcode == 10:
            yield "pong", b""
        elif opcode > 2 or (opcode == 2) == (fragments is not None):
            yield "failure", 1002
            return
        else:
            fragments = [*(fragments or ()), payload]
            if len(fragments) > MAX_FRAGMENTS:
                yield "failure", 1009
                return
            if first & 0x80:
                yield "message", b"".join(fragments)
                fragments = None


def _closing(payload: bytes) -> tuple[Any, ...]:
    if not payload:
        return "close", 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))):
        return "failure", 1002
    try:
        return "close", code, payload[2:].decode()
    except UnicodeDecodeError:
        return "failure", 1007


def prefixed(data: bytes) -> str:
    """One byte chooses the limit, one the pieces; the rest is a TCP stream of RSocket frames."""
    limit = LIMITS[data[0] % len(LIMITS)] if data else 0
    stream = data[2:]
    wanted: Events = list(_plain_frames(stream, limit))
    for cut in pieces(stream, data[1] if len(data) > 1 else 0):
        events: Events = []
        reader = FrameReader(_Sink(events), partial(_fail, events), max_frame=limit)
        for piece in cut:
            reader.feed(piece)
            check(reader.held <= limit + 3, f"{reader.held} bytes are held for {limit} at most")
        check(events == wanted, f"in {len(cut)} pieces {events!r:.300} and not {wanted!r:.300}")
    return f"{min(len(wanted), 9)} {wanted[-1][0] if wanted else ''}"


def _plain_frames(stream: bytes, limit: int) -> Iterator[tuple[Any, ...]]:
    at = 0
    while len(stream) - at >= 3:
        length = int.from_bytes(stream[at : at + 3], "big")
        if length > limit:
            yield ("failure",)
            return
        if at + 3 + length > len(stream):
            return
        yield "message", stream[at + 3 : at + 3 + length]
        at += 3 + length


def fragments(data: bytes) -> str:
    """`Reassembly` of frames with u16 lengths between them: whole messages, nothing, or RequestInvalid; bounded.

    A whole message that is cut up again and put together is the same.
    """
    max_bytes, max_fragments = 512, 6
    assembly = Reassembly(max_bytes, max_fragments)
    labels = []
    while data and len(labels) < 20:
        length = int.from_bytes(data[:2], "big")
        raw, data = data[2 : 2 + length], data[2 + length :]
        try:
            frame = decode(raw)
        except (FrameError, InvalidSetup):
            continue
        if not isinstance(frame, Fragmentable):
            continue
        try:
            whole = assembly.add(frame)
        except RequestInvalid as error:
            check(not assembly.pending, "something is left behind an error")
            labels.append(outcome(error))
            continue
        check(assembly.size <= max_bytes and assembly.fragments <= max_fragments, "over its bounds")
        if whole is None:
            check(assembly.pending, "nothing came out and nothing is pending")
            continue
        check(not whole.follows and not assembly.pending, "an unfinished message came out")
        labels.append("whole")
        _again(whole)
    return " ".join(labels[-3:])[:80]


def _again(whole: Fragmentable) -> None:
    if isinstance(whole, Payload) and not (whole.next or whole.complete):
        return
    assembly = Reassembly(1 << 20, 1 << 20)
    parts = fragment(whole, 64)
    for part in parts[:-1]:
        check(assembly.add(decode(part)) is None, "whole before its last fragment")  # type: ignore[arg-type]
    last = assembly.add(decode(parts[-1]))  # type: ignore[arg-type]
    if isinstance(whole, Payload) and len(parts) > 1 and not whole.next:
        # Bytes without NEXT are an item all the same.
        check(last is not None and last.data == whole.data, "cut up and put together it is another message")
    else:
        check(last == whole, "cut up and put together it is another message")
