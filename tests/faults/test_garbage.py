"""Bytes that mean nothing (fault 51): whatever comes, the answer is an error or a clean close, within a second, and
nothing is raised where nobody catches. `LocalNode` checks the last part, and that nothing is left behind.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from gateway.wire import frames
from gateway.wire.mimetypes import BROKER_FRAME, ROUTING
from gateway.wire.websocket import masked_message
from tests.local_node import LocalNode, call
from tests.rawclient import ConnectionEnded, RawClient, composite

TRANSPORTS = ["ws", "tcp"]
CONNECTIONS = 150


async def _end(client: RawClient) -> None:
    """The client goes and its connection ends, whichever side is first."""
    client.half_close()
    await client.recv_close(4)
    await client.close()


async def _alive(node: LocalNode) -> None:
    healthy = await node.client("tcp")
    await node.servant()
    assert await call(healthy) == b"hello"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_random_bytes_instead_of_a_connection(node: LocalNode, transport: str) -> None:
    """Not even a handshake."""
    random = Random(1)
    for _ in range(CONNECTIONS):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port(transport))
        writer.write(random.randbytes(random.choice((1, 3, 20, 500, 5000))))
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(4):
            try:
                await reader.read()
            except ConnectionResetError:
                pass
        writer.close()
    await _alive(node)


@pytest.mark.parametrize("stage", ["before SETUP", "after SETUP"])
async def test_random_bytes_instead_of_messages(node: LocalNode, stage: str) -> None:
    random = Random(2)
    for _ in range(CONNECTIONS):
        client = await node.connect("ws") if stage == "before SETUP" else await node.client("ws")
        client.send_raw(random.randbytes(random.choice((1, 2, 6, 50, 3000))))
        await _end(client)
    await _alive(node)


def _random_frame(random: Random) -> bytes:
    """A frame with a plausible header and nonsense behind it."""
    stream_id = random.choice((0, 0, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF))
    kind = random.choice((*range(0x10), 0x3F))
    flags = random.choice((0, 0x100, 0x80, 0x180, 0x20, 0x60, 0x3FF, random.getrandbits(10)))
    body = random.choice(
        (
            b"",
            random.randbytes(random.randrange(40)),
            b"\0\0\0\1" + random.randbytes(random.randrange(40)),
            random.randrange(40).to_bytes(3, "big") + composite("echo.it"),
            b"\0\0\0\1" + len(composite("echo.it")).to_bytes(3, "big") + composite("echo.it"),
        )
    )
    return stream_id.to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big") + body


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_random_frames(node: LocalNode, transport: str) -> None:
    """Headers that exist with bodies that do not; every connection goes on until it is told that it is over."""
    random = Random(3)
    await node.servant()
    sent = 0
    while sent < 6000:
        client = await node.client(transport)
        client.send(*[_random_frame(random) for _ in range(20)])
        sent += 20
        await _end(client)
    await _alive(node)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_random_first_frames(node: LocalNode, transport: str) -> None:
    random = Random(4)
    for _ in range(CONNECTIONS):
        client = await node.connect(transport)
        client.send(_random_frame(random))
        error = await client.recv(4)
        assert isinstance(error, frames.Error)
        assert error.stream_id == 0
        await _end(client)
    await _alive(node)


FRAMES: list[frames.Frame] = [
    frames.KeepAlive(True, 5, b"data"),
    frames.RequestResponse(1, composite("echo.it"), b"data"),
    frames.RequestFnf(1, composite("echo.it"), b"data"),
    frames.RequestStream(1, composite("echo.it"), b"1", 3),
    frames.RequestChannel(1, composite("echo.it"), b"1", 3),
    frames.RequestN(1, 1),
    frames.Cancel(1),
    frames.Payload(1, b"metadata", b"data", next=True),
    frames.Error(1, 0x301, "text"),
    frames.Error(0, 0x301, "text"),
    frames.MetadataPush(b"metadata"),
    frames.Lease(1, 1, b"metadata"),
    frames.Resume(b"token", 0, 0),
    frames.ResumeOk(5),
    frames.Extension(0, True, False, 5, b"body"),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_truncated_frames(node: LocalNode, transport: str) -> None:
    """Every prefix of every frame: answered, ignored, or the end of the connection; never silence for the next one."""
    await node.servant()
    for frame in FRAMES:
        whole = frames.encode(frame)
        for length in range(len(whole)):
            client = await node.client(transport)
            client.send(whole[:length])
            try:
                for answer in await client.barrier(1):
                    assert isinstance(answer, frames.Error | frames.Payload | frames.KeepAlive)
            except ConnectionEnded:
                assert isinstance(client.skipped[-1] if client.skipped else frames.Error(0, 0), frames.Error)
            await client.close()
    await _alive(node)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_flipped_bits(node: LocalNode, transport: str) -> None:
    """A good conversation with one bit of it turned."""
    servant = await node.servant()
    random = Random(5)
    conversation = [
        RawClient.setup_frame(node.token(), ["flip"]),
        frames.RequestResponse(1, composite("echo.it"), b"data"),
        frames.RequestStream(3, composite("echo.it"), b"1", 2),
        frames.RequestN(3, 1),
        frames.Cancel(3),
        frames.RequestChannel(5, composite("echo.it"), b"1", 2),
        frames.Payload(5, None, b"item", next=True, complete=True),
        frames.KeepAlive(True, 0, b"mark"),
    ]
    encoded = [frames.encode(frame) for frame in conversation]
    if transport == "ws":
        framed = [masked_message(frame, b"\1\2\3\4") for frame in encoded]
    else:
        framed = [len(frame).to_bytes(3, "big") + frame for frame in encoded]
    whole = b"".join(framed)
    for _ in range(CONNECTIONS):
        client = await node.connect(transport)
        turned = bytearray(whole)
        turned[random.randrange(len(turned))] ^= 1 << random.randrange(8)
        client.send_raw(bytes(turned))
        await _end(client)
    assert servant.heard
    await _alive(node)


@pytest.mark.parametrize("kind", ["ready", "time", "register", "unregister", "routes", "", "nothing"])
async def test_nonsense_for_the_nodes_own_services(node: LocalNode, kind: str) -> None:
    """Random data, wrong models, fragments that never fit: an error on the stream, at most."""
    random = Random(6)
    client = await node.client("tcp")
    for _ in range(100):
        data = random.randbytes(random.choice((0, 1, 5, 6, 22, 40, 300)))
        if random.random() < 0.5:
            data = b"\0\0\0\1" + ((random.randrange(8) << 10) | random.getrandbits(10)).to_bytes(2, "big") + data
        number = client.next_stream_id()
        metadata = composite(f"gateway.{kind}", entries=[(BROKER_FRAME, b"")] if random.random() < 0.1 else ())
        request = random.choice(
            (
                frames.RequestResponse(number, metadata, data),
                frames.RequestStream(number, metadata, data, 1),
                frames.RequestChannel(number, metadata, data, 1),
                frames.RequestFnf(number, metadata, data),
                frames.RequestResponse(number, metadata, data, follows=True),
            )
        )
        client.send(request)
        if isinstance(request, frames.RequestResponse) and request.follows:
            client.send(frames.Payload(number, None, random.randbytes(70), next=True))
        if random.random() < 0.3:
            client.send(frames.Cancel(number))
        elif random.random() < 0.3:
            client.send(frames.RequestN(number, random.choice((1, 0x7FFFFFFF))))
    await client.barrier()
    await call(client, "gateway.time")


@pytest.mark.parametrize("mime", [ROUTING, "application/json"])
async def test_random_metadata_of_other_forms(node: LocalNode, mime: str) -> None:
    """Metadata that is no composite, from clients that said so in SETUP."""
    random = Random(7)
    client = await node.connect("tcp")
    client.setup(metadata=None, metadata_mime=mime, data=b'{"token": "%s"}' % node.token().encode())
    await client.barrier()
    for _ in range(300):
        metadata = random.randbytes(random.randrange(20))
        client.send(frames.RequestResponse(client.next_stream_id(), metadata, b""))
    answers = await client.barrier()
    assert len(answers) == 300
    assert all(isinstance(answer, frames.Error) and answer.code in (0x202, 0x204) for answer in answers)
