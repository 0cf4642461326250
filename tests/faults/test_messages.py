"""WebSocket messages that are no RSocket frames, and WebSocket frames that are no messages."""

from __future__ import annotations

import pytest

from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until
from tests.rawclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient

KEY = b"\1\2\3\4"


def _frame(first: int, length: bytes, body: bytes = b"") -> bytes:
    """A frame whose two first bytes are what the test says; the mask is all zero."""
    return bytes((first,)) + length + bytes(4) + body


VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "fault 9: text": (_frame(0x81, b"\x85", b"hello"), 1003),
    "fault 9: empty text": (_frame(0x81, b"\x80"), 1003),
    "fault 9: start of a long text": (_frame(0x01, b"\xff\0\0\0\0\x7f\xff\xff\xff"), 1003),
    "fault 13: unmasked": (b"\x82\x06" + bytes(6), 1002),
    "fault 13: unmasked and empty": (b"\x82\x00", 1002),
    "fault 13: unmasked ping": (b"\x89\x00", 1002),
    "fault 13: RSV1": (_frame(0xC2, b"\x80"), 1002),
    "fault 13: RSV2": (_frame(0xA2, b"\x80"), 1002),
    "fault 13: RSV3": (_frame(0x92, b"\x80"), 1002),
    **{
        f"fault 13: opcode {code}": (_frame(0x80 | code, b"\x80"), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "fault 13: ping of 126 bytes": (_frame(0x89, b"\xfe\0\x7e", bytes(126)), 1002),
    "fault 13: close of 126 bytes": (_frame(0x88, b"\xfe\0\x7e", b"\x03\xe8" + bytes(124)), 1002),
    "fault 13: fragmented ping": (_frame(0x09, b"\x80"), 1002),
    "fault 13: continuation of nothing": (_frame(0x80, b"\x80"), 1002),
    "fault 13: message in a message": (_frame(0x02, b"\x81", b"x") + _frame(0x82, b"\x81", b"x"), 1002),
    "fault 13: close of one byte": (_frame(0x88, b"\x81", b"\x03"), 1002),
    **{
        f"fault 13: close code {code}": (_frame(0x88, b"\x82", code.to_bytes(2, "big")), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "fault 13: close reason that is not UTF-8": (_frame(0x88, b"\x84", b"\x03\xe8\xff\xfe"), 1007),
    "fault 10: a length with the top bit": (_frame(0x82, b"\xff\x80" + bytes(7)), 1009),
    "fault 10: the longest length there is": (_frame(0x82, b"\xff\x7f" + b"\xff" * 7), 1009),
    "fault 8: an empty message": (_frame(0x82, b"\x80"), 1002),
    "fault 8: an empty message in fragments": (_frame(0x02, b"\x80") + _frame(0x80, b"\x80"), 1002),
    "fault 8: five bytes": (_frame(0x82, b"\x85", bytes(5)), 1002),
}


@pytest.mark.parametrize("stage", ["before SETUP", "after SETUP"])
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violations(node: LocalNode, name: str, stage: str) -> None:
    """Faults 8, 9, 10, 13: ERROR on stream 0, then the close code, and nothing behind it is taken."""
    data, code = VIOLATIONS[name]
    servant = await node.servant()
    healthy = await node.client("ws")
    client = await node.client() if stage == "after SETUP" else await node.connect()
    client.send_raw(data)
    client.setup(node.token())
    client.request("echo.it")
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert (await client.recv_close())[0] == code
    assert client.skipped == []
    assert await call(healthy) == b"hello"
    assert len(servant.heard) == 1
    assert sum(node.counters.closes.values()) == 1


@pytest.mark.parametrize(
    ("kind", "limit"), [("device", 64 * 1024), ("user", 64 * 1024), ("service", 0xFFFFFF), ("node", 0xFFFFFF)]
)
async def test_message_over_the_limit(node: LocalNode, kind: str, limit: int) -> None:
    """Fault 10 and P43: the limit of the kind, one below, and one above, which is 16 MiB for a service: 1009."""
    await node.servant()
    client = await node.client(kind=kind)
    for size in (limit - 1, limit):
        client.send(frames.Payload(99, None, bytes(size - 6), next=True))
        assert await client.barrier() == []
    client.send_message(bytes(limit + 1))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert await client.recv_close() == (1009, f"message of {limit + 1} bytes is over the limit of {limit}")
    assert node.counters.closes == {"too_big": 1}
    assert await call(await node.client()) == b"hello"


def _fragmented(client: RawClient, count: int, size: int) -> None:
    for number in range(count):
        opcode = BINARY if number == 0 else CONTINUATION
        client.send_message(bytes(size), opcode=opcode, final=number == count - 1)


@pytest.mark.parametrize(("count", "size"), [(200, 1024), (5_000, 64), (1_025, 1), (66, 1024)])
async def test_message_of_too_many_fragments(node: LocalNode, count: int, size: int) -> None:
    """Fault 10: the sum of the fragments counts, and so does their number."""
    client = await node.client(kind="device")
    _fragmented(client, count, size)
    assert (await client.recv_close())[0] == 1009
    (error,) = client.skipped
    assert isinstance(error, frames.Error)
    assert error.code == 0x101


@pytest.mark.parametrize(("count", "size"), [(1_024, 64), (1_023, 1), (64, 1024), (1, 64 * 1024)])
async def test_message_of_many_fragments(node: LocalNode, count: int, size: int) -> None:
    client = await node.client(kind="device")
    whole = frames.encode(frames.Payload(99, None, bytes(count * size - 6), next=True))
    for number in range(count):
        piece = whole[number * size : (number + 1) * size]
        client.send_message(piece, opcode=BINARY if number == 0 else CONTINUATION, final=number == count - 1)
        if number % 100 == 50:
            client.send_message(b"between", opcode=PING)
    assert await client.barrier() == []


async def test_memory_of_a_message_that_never_ends(start_node: StartNode) -> None:
    """Fault 10: what is held of a peer that says nothing about itself is bounded by what a SETUP may be."""
    node = await start_node()
    client = await node.connect()
    client.send_raw(_frame(0x02, b"\xff" + (65_000).to_bytes(8, "big"), bytes(65_000)))
    client.send_raw(_frame(0x00, b"\xff" + (65_000).to_bytes(8, "big")))
    assert (await client.recv_close())[0] == 1009


async def test_empty_fragments_and_pongs_around_a_message(node: LocalNode) -> None:
    """Nothing of this is a violation; the message between them arrives."""
    await node.servant()
    client = await node.client(kind="device")
    client.send_message(b"", opcode=PONG)
    client.send_message(b"", opcode=BINARY, final=False)
    client.send_message(b"", opcode=CONTINUATION, final=False)
    client.send_message(b"ping", opcode=PING)
    client.send_message(frames.encode(frames.KeepAlive(True, 0, b"x")), opcode=CONTINUATION, final=True)
    assert await client.recv() == frames.KeepAlive(False, 0, b"x")
    await until(lambda: node.connection(client).accepted)
    assert await call(client) == b"hello"
    assert client.pongs == [b"ping"]


@pytest.mark.parametrize("opcode", [TEXT, CLOSE])
async def test_after_the_end_nothing_is_answered(node: LocalNode, opcode: int) -> None:
    client = await node.client()
    client.send_message(b"\x03\xe8" if opcode == CLOSE else b"text", opcode=opcode)
    client.send_message(b"still here?", opcode=PING)
    client.request("gateway.time")
    await client.recv_close()
    assert client.pongs == []
    assert not [frame for frame in client.skipped if isinstance(frame, frames.Payload)]
