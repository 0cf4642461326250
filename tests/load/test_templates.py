"""A template with a stream id is the frame with that id, however it is carried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.load.templates import NO_MASK, Framing, Template
from gateway.wire.frames import Payload, RequestN, RequestResponse, decode
from gateway.wire.websocket import mask

KEY = b"\x8a\x01\xff\x7e"
IDS = (1, 2, 0x01020304, 0x7FFFFFFF)


def carried(framing: Framing, message: bytes) -> bytes:
    """The frame in a message, read by the rules of its carrier."""
    if framing.key is None:
        assert int.from_bytes(message[:3], "big") == len(message) - 3
        return message[3:]
    assert message[0] == 0x82
    length, at = message[1] & 0x7F, 2
    assert message[1] & 0x80
    if length == 126:
        length, at = int.from_bytes(message[2:4], "big"), 4
    elif length == 127:
        length, at = int.from_bytes(message[2:10], "big"), 10
    assert message[at : at + 4] == framing.key
    assert len(message) == at + 4 + length
    return mask(message[at + 4 :], message[at : at + 4])


@pytest.mark.parametrize("framing", [Framing(None), Framing(NO_MASK), Framing(KEY)], ids=["tcp", "unmasked", "masked"])
@pytest.mark.parametrize("size", [0, 32, 110, 126, 200, 70_000])
def test_the_frame_with_another_id(framing: Framing, size: int) -> None:
    for frame in (RequestResponse(1, b"about", b"x" * size), Payload(1, None, b"y" * size, next=True), RequestN(1, 7)):
        template = Template(framing, frame)
        for stream_id in IDS:
            message = bytes(template.addressed(stream_id))
            assert len(message) == template.size
            assert decode(carried(framing, message)) == replace(frame, stream_id=stream_id)


def test_how_many_are_made_at_a_time() -> None:
    assert Template(Framing(None), RequestResponse(1, None, b"x" * 32)).chunk > 1000
    assert Template(Framing(None), RequestResponse(1, None, b"x" * 200_000)).chunk == 1
