"""The raw client against servers that are not ours: it must not share a mistake with the node."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway.wire import frames
from tests.rawclient import ConnectionEnded, HandshakeRefused, RawClient

KEEPALIVE = frames.KeepAlive(respond=True, data=b"still here")
# Lengths around each form of the WebSocket length field.
LENGTHS = (0, 1, 111, 112, 65521, 65522, 200_000)


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def _echo_in_pieces(connection: ServerConnection) -> None:
    async for message in connection:
        assert isinstance(message, bytes)
        await connection.send([message[:7], message[7:]])


async def _end(connection: ServerConnection) -> None:
    await connection.send(frames.encode(frames.Error(0, 3, "no")))
    await connection.close(4401, "who are you")


async def _on_websocket(handler: Callable[[ServerConnection], Awaitable[None]], test: Callable[[int], Awaitable[None]]):
    async with serve(handler, "127.0.0.1", 0, subprotocols=["rsocket"], max_size=2**24) as server:  # type: ignore[list-item]
        await test(server.sockets[0].getsockname()[1])


async def test_websocket_frames_of_every_length_come_back() -> None:
    async def exchange(port: int) -> None:
        async with await RawClient.connect_ws(port) as client:
            assert "sec-websocket-protocol: rsocket" in client.handshake.lower()
            for length in LENGTHS:
                sent = frames.Payload(1, None, bytes(range(256)) * (length // 256) + bytes(length % 256), next=True)
                client.send(sent, KEEPALIVE)
                assert await client.recv() == sent
                assert await client.recv() == KEEPALIVE

    await _on_websocket(_echo, exchange)


async def test_websocket_messages_in_pieces_and_pings_are_read() -> None:
    async def exchange(port: int) -> None:
        async with await RawClient.connect_ws(port) as client:
            client.send_message(b"", opcode=0x9)
            client.send(KEEPALIVE)
            assert await client.recv() == KEEPALIVE

    await _on_websocket(_echo_in_pieces, exchange)


async def test_websocket_close_code_and_reason_are_told() -> None:
    async def exchange(port: int) -> None:
        async with await RawClient.connect_ws(port) as client:
            assert await client.recv_close() == (4401, "who are you")
            assert client.skipped == [frames.Error(0, 3, "no")]
            with pytest.raises(ConnectionEnded, match="4401"):
                await client.recv()

    await _on_websocket(_end, exchange)


async def test_refused_upgrade_is_an_error_with_its_status() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(HandshakeRefused, match="404"):
            await RawClient.connect_ws(server.sockets[0].getsockname()[1])


async def test_tcp_frames_come_back_in_order_and_the_end_is_told() -> None:
    exchanged = (KEEPALIVE, frames.Cancel(1))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(sum(3 + len(frames.encode(frame)) for frame in exchanged)))
        writer.close()

    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as server,
        await RawClient.connect_tcp(server.sockets[0].getsockname()[1]) as client,
    ):
        client.send(*exchanged)
        assert await client.recv() == exchanged[0]
        assert await client.recv() == exchanged[1]
        assert await client.recv_close() == (None, "")
