"""RFC 6455 framing as the node reads it: whole, split anywhere, fragmented, and wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as StockOpcode

from gateway.wire import websocket as ws
from gateway.wire.sink import UNBOUNDED, FrameSink

KEY = b"\x01\x02\x03\x04"


class Log(FrameSink):
    def frame_received(self, data: bytes, start: int, end: int) -> None:
        self.events.append(("message", bytes(data[start:end])))
        if self.stops:
            self.reader.stop()

    def __init__(self, max_message: int = 1 << 20, max_fragments: int = 1024, at_once: int = UNBOUNDED) -> None:
        self.events: list[tuple[object, ...]] = []
        self.stops = False
        self.reader = ws.MessageReader(
            self,
            lambda payload: self.events.append(("ping", payload)),
            lambda: self.events.append(("pong",)),
            lambda code, text: self.events.append(("close", code, text)),
            lambda code, text: self.events.append(("failure", int(code))),
            max_message=max_message,
            max_fragments=max_fragments,
            at_once=at_once,
        )

    def feed(self, *chunks: bytes) -> list[tuple[object, ...]]:
        for chunk in chunks:
            self.reader.feed(chunk)
        return self.events


def stock(opcode: StockOpcode, payload: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_survive_any_split(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(
        ws.masked_message(payload, data.draw(st.sampled_from([KEY, b"\0\0\0\0"]))) for payload in payloads
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert Log().feed(*[chunk for chunk in chunks if chunk]) == [("message", payload) for payload in payloads]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_length_forms_agree_with_a_stock_encoder(size: int) -> None:
    payload = bytes(size)
    assert Log().feed(stock(StockOpcode.BINARY, payload)) == [("message", payload)]
    assert ws.header(size) + payload == Frame(StockOpcode.BINARY, payload).serialize(mask=False)


def test_byte_by_byte() -> None:
    stream = stock(StockOpcode.BINARY, b"abc" * 60) + stock(StockOpcode.PING, b"x")
    assert Log().feed(*[bytes((byte,)) for byte in stream]) == [("message", b"abc" * 60), ("ping", b"x")]


def test_fragments_with_a_ping_between() -> None:
    events = Log().feed(
        stock(StockOpcode.BINARY, b"ab", fin=False),
        stock(StockOpcode.PING, b"p"),
        stock(StockOpcode.CONT, b"cd", fin=False),
        stock(StockOpcode.PONG, b""),
        stock(StockOpcode.CONT, b"ef"),
        stock(StockOpcode.BINARY, b"next"),
    )
    assert events == [("ping", b"p"), ("pong",), ("message", b"abcdef"), ("message", b"next")]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x82\x01a", 1002),  # unmasked
        (b"\xc2\x80" + KEY, 1002),  # RSV1: a compressed message that nobody negotiated
        (b"\x83\x80" + KEY, 1002),  # unknown opcode
        (b"\x8b\x80" + KEY, 1002),
        (b"\x09\x80" + KEY, 1002),  # fragmented ping
        (b"\x89\xfe\x00\x80" + KEY, 1002),  # ping of 128 bytes
        (b"\x81\x81" + KEY + b"x", 1003),  # text
        (b"\x80\x80" + KEY, 1002),  # continuation of nothing
        (b"\x88\x81" + KEY + b"\x03", 1002),  # close of one byte
        (b"\x88\x82" + KEY + ws.mask((1005).to_bytes(2, "big"), KEY), 1002),
        (b"\x88\x83" + KEY + ws.mask(b"\x03\xe8\xff", KEY), 1007),
    ],
)
def test_violations(raw: bytes, code: int) -> None:
    """Fault 9, fault 13: each violation gives its close code, once, and nothing after it is read."""
    log = Log()
    assert log.feed(raw, stock(StockOpcode.BINARY, b"late")) == [("failure", code)]
    assert log.reader.done


def test_interrupted_fragment_series() -> None:
    log = Log()
    assert log.feed(stock(StockOpcode.BINARY, b"a", fin=False), stock(StockOpcode.BINARY, b"b")) == [("failure", 1002)]


@pytest.mark.parametrize("size", [99, 100, 101])
def test_message_limit(size: int) -> None:
    """Fault 10: a message over the limit is refused on its header, before its body arrives."""
    whole = stock(StockOpcode.BINARY, bytes(size))
    expected: tuple[object, ...] = ("failure", 1009) if size > 100 else ("message", bytes(size))
    assert Log(max_message=100).feed(whole) == [expected]
    if size > 100:
        assert Log(max_message=100).feed(whole[:6]) == [expected]


@pytest.mark.parametrize("cut", range(1, 10))
def test_message_limit_holds_for_a_header_in_two_pieces(cut: int) -> None:
    """Fault 10: wherever its header is cut, a message over the limit is refused before its body is kept."""
    log = Log(max_message=100)
    header = b"\x82\xff" + (1 << 40).to_bytes(8, "big")
    assert log.feed(header[:cut], header[cut:]) == [("failure", 1009)]
    assert log.feed(bytes(4096)) == [("failure", 1009)]
    assert log.reader.held == 0


def test_a_control_frame_between_fragments_is_no_part_of_the_message() -> None:
    """Fault 10: the limit is the message's; a ping inside it has its own."""
    first, last = stock(StockOpcode.BINARY, bytes(90), fin=False), stock(StockOpcode.CONT, bytes(10))
    ping = stock(StockOpcode.PING, bytes(50))
    expected = [("ping", bytes(50)), ("message", bytes(100))]
    assert Log(max_message=100).feed(first, ping, last) == expected
    assert Log(max_message=100).feed(first + ping[:20], ping[20:] + last) == expected


def test_what_is_held_is_less_than_a_message() -> None:
    """Fault 10: in pieces of two bytes, held bytes count as bytes and stay below the limit and two headers."""
    log = Log(max_message=1000)
    stream = stock(StockOpcode.BINARY, bytes(600), fin=False) + stock(StockOpcode.CONT, bytes(400))
    held = []
    for at in range(0, len(stream), 2):
        log.feed(stream[at : at + 2])
        held.append(log.reader.held)
    assert log.events == [("message", bytes(1000))]
    assert max(held) < 1000 + 2 * 14
    assert held[-1] == 0


def test_message_limit_over_fragments() -> None:
    """Fault 10: the limit holds for the sum of fragments, and their number is bounded."""
    parts = [stock(StockOpcode.BINARY, bytes(60), fin=False), stock(StockOpcode.CONT, bytes(60))]
    assert Log(max_message=100).feed(*parts) == [("failure", 1009)]
    many = [stock(StockOpcode.BINARY, b"a", fin=False), *[stock(StockOpcode.CONT, b"", fin=False)] * 4]
    assert Log(max_fragments=4).feed(*many) == [("failure", 1009)]


def test_long_length_is_refused_from_its_header() -> None:
    assert Log().feed(b"\x82\xff" + (1 << 40).to_bytes(8, "big")) == [("failure", 1009)]


def test_close_carries_code_and_text() -> None:
    assert Log().feed(stock(StockOpcode.CLOSE, (1001).to_bytes(2, "big") + b"bye")) == [("close", 1001, "bye")]
    assert Log().feed(stock(StockOpcode.CLOSE, b"")) == [("close", 1005, "")]
    assert Log().feed(stock(StockOpcode.CLOSE, (4000).to_bytes(2, "big"))) == [("close", 4000, "")]


def test_reading_stops_inside_a_batch() -> None:
    log = Log()
    log.stops = True
    log.feed(stock(StockOpcode.BINARY, b"a") + stock(StockOpcode.BINARY, b"b") + b"\x82")
    assert log.events == [("message", b"a")]
    assert log.reader.done


def test_close_frame_text_is_cut_at_a_character() -> None:
    frame = ws.close_frame(1008, "é" * 100)
    assert len(frame) <= 2 + 125
    assert frame[4:].decode("utf-8") == "é" * 61


def test_pong_echoes() -> None:
    assert ws.pong_frame(b"hi") == b"\x8a\x02hi"


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(noise: bytes) -> None:
    """Fault 51."""
    Log(max_message=1000).feed(noise)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30), st.integers(1, 7), st.integers(0, 12))
def test_a_bound_on_frames_at_once(payloads: list[bytes], at_once: int, cut: int) -> None:
    """What a call leaves is handled by the next, in order, also where something comes before; pings count."""
    expected: list[tuple[object, ...]] = []
    stream = b""
    for number, payload in enumerate(payloads):
        kind = ("ping", ws.Opcode.PING) if number % 3 == 2 else ("message", ws.Opcode.BINARY)
        expected.append((kind[0], payload))
        stream += ws.masked_message(payload, KEY, kind[1])
    log = Log(at_once=at_once)
    waits = log.reader.feed(stream[:-cut] if cut else stream)
    if waits:
        assert len(log.events) == at_once
        assert log.reader.held
    waits = log.reader.feed(stream[-cut:] if cut else b"")
    while waits:
        before = len(log.events)
        waits = log.reader.feed(b"")
        assert len(log.events) - before <= at_once
    assert log.events == expected
    assert log.reader.held == 0


def test_a_stop_drops_what_waits() -> None:
    log = Log(at_once=2)
    assert log.reader.feed(stock(StockOpcode.BINARY, b"a") * 5)
    assert log.reader.held == 3 * 7
    log.reader.stop()
    assert log.reader.held == 0
    assert not log.reader.feed(b"")
    assert log.events == [("message", b"a")] * 2


def test_a_failure_among_what_waits() -> None:
    log = Log(at_once=2)
    assert log.reader.feed(stock(StockOpcode.BINARY, b"a") * 3 + stock(StockOpcode.TEXT, b"b") * 9)
    assert not log.reader.feed(b"")
    assert log.events == [("message", b"a")] * 3 + [("failure", 1003)]
    assert log.reader.held == 0


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_the_side_that_dialled_reads_any_split(payloads: list[bytes], data: st.DataObject) -> None:
    log = Log()
    log.reader = ws.MessageReader(
        log,
        lambda payload: None,
        lambda: None,
        lambda code, text: None,
        lambda code, text: log.events.append(("failure", int(code))),
        max_message=1 << 20,
        masked=False,
    )
    stream = b"".join(ws.header(len(payload)) + payload for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert log.feed(*[chunk for chunk in chunks if chunk]) == [("message", payload) for payload in payloads]
    assert log.feed(ws.masked_message(b"x", KEY))[-1] == ("failure", 1002)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_what_the_side_that_dialled_sends_is_masked(size: int) -> None:
    payload = bytes(range(256)) * 300
    payload = payload[:size]
    assert Log().feed(ws.masked_header(size) + payload) == [("message", payload)]
