"""Fault 37: whatever a peer can make long, reading it takes time in proportion, never its square."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from gateway.wire import brokering, metadata
from gateway.wire.codec import decode, encode
from gateway.wire.fragments import Reassembly, fragment
from gateway.wire.header import MAX_FRAME_BYTES
from gateway.wire.mimetypes import ROUTING
from gateway.wire.prefix import FrameReader
from gateway.wire.shapes import Payload, RequestResponse, Setup
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import MessageReader


def reassemble(size: int) -> Callable[[], Any]:
    parts = [Payload(1, None, bytes(1024), follows=True, next=True)] * size

    def run() -> None:
        assembly = Reassembly(1 << 30, 1 << 30)
        for part in parts:
            assembly.add(part)
        assembly.add(Payload(1, None, b""))

    return run


def decode_frame(size: int) -> Callable[[], Any]:
    data = memoryview(encode(RequestResponse(1, bytes(size * 256), bytes(size * 256))))
    return lambda: decode(data)


def decode_setup(size: int) -> Callable[[], Any]:
    data = memoryview(encode(Setup(1, 1, "a/b", "a/b", bytes(size * 256), bytes(size * 256))))
    return lambda: decode(data)


class Nobody(FrameSink):
    def frame_received(self, data: bytes, start: int, end: int) -> None: ...


def prefixed_frame_in_pieces(size: int) -> Callable[[], Any]:
    """The first piece cuts the prefix, which a reader may be tempted to look at again with each further one."""
    pieces = [b"\xff", b"\xff\xff", *[bytes(256)] * size]

    def run() -> None:
        reader = FrameReader(Nobody(), lambda text: None, max_frame=MAX_FRAME_BYTES)
        for piece in pieces:
            reader.feed(piece)
        assert reader.held == 3 + size * 256

    return run


def message_in_pieces(size: int) -> Callable[[], Any]:
    pieces = [b"\x82", b"\xff", (1 << 24).to_bytes(8, "big"), *[bytes(256)] * size]

    def run() -> None:
        nothing: Any = lambda *_: None  # noqa: E731
        reader = MessageReader(Nobody(), nothing, nothing, nothing, nothing, max_message=1 << 24)
        for piece in pieces:
            reader.feed(piece)
        assert reader.held == 10 + size * 256

    return run


def cut_up(size: int) -> Callable[[], Any]:
    frame = RequestResponse(1, bytes(size * 32), bytes(size * 32))
    return lambda: fragment(frame, 64)


def composite_entries(size: int) -> Callable[[], Any]:
    data = metadata.encode_composite([(ROUTING, b"\x01a"), ("x/y", b"")] * size)
    return lambda: metadata.decode_composite(data)


def write_composite(size: int) -> Callable[[], Any]:
    return lambda: metadata.encode_composite([(ROUTING, bytes(256))] * size)


def routing_tags(size: int) -> Callable[[], Any]:
    data = metadata.encode_routing(["k=v"] * size)
    return lambda: metadata.decode_routing(data)


def accepted_types(size: int) -> Callable[[], Any]:
    data = b"\x85\x02x/y" * size
    return lambda: metadata.decode_accept_mime_types(data)


def broker_tags(size: int) -> Callable[[], Any]:
    data = brokering.encode_tags((("k", "v"),) * size)
    return lambda: brokering.decode_tags(data)


def best_of(run: Callable[[], Any], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = process_time()
        run()
        best = min(best, process_time() - start)
    return best


@pytest.mark.parametrize(
    "work",
    [
        reassemble,
        decode_frame,
        decode_setup,
        prefixed_frame_in_pieces,
        message_in_pieces,
        cut_up,
        composite_entries,
        write_composite,
        routing_tags,
        accepted_types,
        broker_tags,
    ],
)
def test_eight_times_the_input_takes_eight_times_as_long(work: Callable[[int], Callable[[], Any]]) -> None:
    """Quadratic work would take 64 times as long; the bound lies between, so that a busy machine cannot fail it."""
    small, large = work(2000), work(16_000)
    assert best_of(large, 3) < 30 * best_of(small, 7) + 0.001
