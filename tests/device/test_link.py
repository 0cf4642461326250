"""The link: keepalive, silence, loss, reconnecting, and a peer that misbehaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.http11 import Response

from gateway.wire import frames
from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import Interpreter, Program
from tests.device.peer import Ended, Link, Peer, composite, gateway, route_of, websocket_frame

QUICK = {"backoff_ms": [10, 50]}


async def supervised(start: Start, interpreter: Interpreter, peer: Peer, **settings: object) -> Program:
    return await start(interpreter, "supervised", peer.url, json.dumps(QUICK | settings))


async def stop(link: Link, program: Program) -> dict[str, int]:
    """Ask for an echo, end the program, and return its statistics."""
    link.send(frames.RequestResponse(1000, composite("echo"), b"alive"))
    assert (await link.find(frames.Payload)).data == b"alive"
    link.send(frames.RequestFnf(1002, composite("stop"), b""))
    await link.ended()
    lines = await program.finish()
    assert lines[-1]["ws"] is False
    return dict(lines[-1]["stats"])


async def test_keepalive(interpreter: Interpreter, start: Start) -> None:
    """P10, P11: the device asks, and answers with the same data when it is asked."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer, keepalive_ms=50)
        link = await peer.link()
        await link.accept()
        for _ in range(3):
            ping = await link.find(frames.KeepAlive)
            assert (ping.respond, ping.position) == (True, 0)
        link.send(frames.KeepAlive(True, 77, b"are you there"))
        while (answer := await link.find(frames.KeepAlive)).respond:
            pass
        assert (answer.position, answer.data) == (0, b"are you there")
        link.raw(websocket_frame(b"ping", 9))
        assert await link.pong() == b"ping"
        await stop(link, program)


async def test_half_open(interpreter: Interpreter, start: Start) -> None:
    """P12: a gateway that freezes is noticed after lifetime and keepalive at the latest."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer, keepalive_ms=200, lifetime_ms=600)
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        silent_since = time.monotonic()
        await program.expect(state="down", reason="timeout")
        assert 0.5 <= time.monotonic() - silent_since <= 0.8 + 20.0, "20 s for a busy machine"
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        assert (await stop(link, program))["lost"] == 2


async def test_any_traffic_keeps_the_link_alive(interpreter: Interpreter, start: Start) -> None:
    """P12: a gateway that only talks, and never answers a keepalive, is alive."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer, keepalive_ms=100, lifetime_ms=500)
        link = await peer.link()
        await link.accept()
        for _ in range(20):
            link.raw(websocket_frame(b"", 10))
            await asyncio.sleep(0.05)
        assert (await stop(link, program))["lost"] == 1


async def reset(link: Link) -> None:
    link.reset()


async def end_of_file(link: Link) -> None:
    link.writer.close()


def sends(*data: bytes) -> Callable[[Link], Awaitable[None]]:
    async def misbehave(link: Link) -> None:
        for part in data:
            link.raw(part)

    return misbehave


MESSAGE = frames.encode(frames.KeepAlive(False))
MISBEHAVIOUR = {
    "reset": reset,
    "end of file": end_of_file,
    "masked frame": sends(websocket_frame(MESSAGE, masked=True)),
    "reserved bit": sends(websocket_frame(MESSAGE, reserved=0x40)),
    "text frame": sends(websocket_frame(b"hello", 1)),
    "unknown opcode": sends(websocket_frame(b"", 3)),
    "unknown control opcode": sends(websocket_frame(b"x" * 126, 11)),
    "message longer than max_rx": sends(websocket_frame(bytes(8193))),
    "length of eight bytes": sends(b"\x82\x7f" + (1 << 40).to_bytes(8, "big")),
    "fragments longer than max_rx": sends(
        websocket_frame(bytes(5000), fin=False), websocket_frame(bytes(5000), 0, fin=False)
    ),
    "control frame of 126 bytes": sends(websocket_frame(bytes(126), 9)),
    "control frame in fragments": sends(websocket_frame(b"x", 9, fin=False)),
    "continuation of nothing": sends(websocket_frame(MESSAGE, 0)),
    "message within a message": sends(websocket_frame(b"\0", fin=False), websocket_frame(MESSAGE)),
    "empty message": sends(websocket_frame(b"")),
    "frame without header": sends(websocket_frame(b"\0\0\0\0\x24")),
    "metadata longer than its frame": sends(websocket_frame(bytes.fromhex("000000021100ffffff00"))),
    "close": sends(websocket_frame((4401).to_bytes(2, "big") + b"token expired", 8)),
    "close without a code": sends(websocket_frame(b"", 8)),
    "CONNECTION_ERROR": sends(websocket_frame(frames.encode(frames.Error(0, 0x101, "broken")))),
}


async def test_misbehaving_peer(interpreter: Interpreter, start: Start) -> None:
    """The device drops the connection, says so once, and finds its way back, whatever was wrong before."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer)
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        for how, misbehave in MISBEHAVIOUR.items():
            print(how)
            await misbehave(link)
            down = await program.expect(state="down")
            assert down["reason"]
            if how == "close":
                assert "4401" in down["reason"]
                assert "token expired" in down["reason"]
            link = await peer.link()
            await link.accept()
            await program.expect(state="up")
        stats = await stop(link, program)
        often = len(MISBEHAVIOUR) + 1
        assert stats == {"connects": often, "lost": often, "timeouts": 0, "errors": 0}


async def test_misbehaving_peers_cost_no_memory(compiled: Path, start: Start) -> None:
    """All of them again and again: what the device has on its heap afterwards is what it had before."""
    used = []
    async with Peer() as peer:
        program = await start(micropython_compiled(compiled), "battered", peer.url)
        for _ in range(5):
            for misbehave in MISBEHAVIOUR.values():
                link = await peer.link()
                await link.accept()
                await misbehave(link)
            link = await peer.link()
            await link.accept()
            link.send(frames.RequestResponse(2, composite("used"), b""))
            answer = await link.find(frames.Payload)
            used.append(int(answer.data))
            link.reset()
        link = await peer.link()
        await link.accept()
        link.send(frames.RequestFnf(2, composite("stop"), b""))
        await link.ended()
        await program.finish()
    # The collector takes what looks like a pointer for one: something may stay for a round, but not for good.
    assert min(used[3:]) - used[1] <= 512, used


async def test_odd_but_legal_peer(interpreter: Interpreter, start: Start) -> None:
    """RFC 6455: bytes in any portions, messages in fragments, control frames between them; nothing is lost."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer)
        link = await peer.link()
        await link.accept()
        request = frames.encode(frames.RequestResponse(2, composite("echo"), b"slowly"))
        for byte in websocket_frame(request):
            link.raw(bytes((byte,)))
            await link.writer.drain()
            await asyncio.sleep(0.001)
        assert (await link.find(frames.Payload)).data == b"slowly"

        link.raw(websocket_frame(request[:5], fin=False))
        link.raw(websocket_frame(b"in between", 9))
        link.raw(websocket_frame(b"", 0, fin=False))
        link.raw(websocket_frame(b"", 10))
        link.raw(websocket_frame(request[5:], 0))
        assert await link.pong() == b"in between"
        assert (await link.find(frames.Payload)).data == b"slowly"

        link.raw(websocket_frame(b"", fin=False) + websocket_frame(request, 0, fin=False) + websocket_frame(b"", 0))
        assert (await link.find(frames.Payload)).data == b"slowly"

        two = [frames.encode(frames.RequestResponse(i, composite("echo"), b"y" * 400)) for i in (4, 6)]
        link.raw(b"".join(map(websocket_frame, two)))
        for _ in range(2):
            echo = await link.find(frames.Payload)
            assert echo.data == b"y" * 400

        link.send(frames.Error(0, 0x102, "draining"))
        link.send(frames.RequestResponse(8, composite("echo"), b"CONNECTION_CLOSE lets streams finish"))
        assert (await link.find(frames.Payload)).data.endswith(b"finish")
        assert (await stop(link, program))["lost"] == 1


async def test_peer_that_does_not_read(interpreter: Interpreter, start: Start) -> None:
    """A write that takes longer than timeout_ms ends the connection; what waits behind it fails with it."""
    frozen = []

    async def script(link: Link) -> None:
        await link.accept()
        if len(frozen):
            await link.serve()
        else:
            frozen.append(link)
            await asyncio.sleep(60)

    async with Peer(script) as peer:
        program = await start(interpreter, "flood", peer.url)
        await program.expect(error=["ConnectionLost"])
        await program.expect(echo=True, lost=1)
        await program.finish()


async def test_pings_without_end(interpreter: Interpreter, start: Start) -> None:
    """Replies that a peer does not read do not pile up."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer, timeout_ms=500, keepalive_ms=200)
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        flood = websocket_frame(b"p" * 125, 9) * 1000

        async def pour() -> None:
            while True:
                link.raw(flood)
                await link.writer.drain()

        pouring = asyncio.create_task(pour())
        await program.expect(state="down")
        with pytest.raises(ConnectionError):
            await pouring
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        await stop(link, program)


async def test_requests_cut_off(interpreter: Interpreter, start: Start) -> None:
    """Whatever is cancelled, and wherever it is, the bytes on the wire stay whole: the peer fails on any other."""
    async with Peer(gateway) as peer:
        program = await start(interpreter, "interrupted", peer.url)
        await program.expect(cut=1000)
        await program.expect(answered=10, open=0)
        await program.finish()
        for link in peer.links:
            for frame in link.heard:
                if isinstance(frame, frames.RequestResponse):
                    assert route_of(frame) == "echo"
                    assert frame.data == b"whole" or frame.data[5:] == b"x" * 100


async def test_write_cut_off(interpreter: Interpreter, start: Start) -> None:
    """A write cancelled half-way must not be resumed: MicroPython would send its beginning twice."""
    may_read = asyncio.Event()

    async def script(link: Link) -> None:
        await link.accept()
        if link is peer.links[0]:
            await may_read.wait()
        await link.serve()

    async with Peer(script) as peer:
        program = await start(interpreter, "cut_write", peer.url)
        await program.expect(cut=True)
        may_read.set()
        await program.expect(echo=True)
        await program.finish()
        for frame in peer.links[0].heard:
            assert isinstance(frame, frames.RequestFnf | frames.RequestResponse | frames.KeepAlive), frame


async def test_memory_is_freed_before_connecting(interpreter: Interpreter, start: Start) -> None:
    """gc.collect() before each attempt, with the old socket out of reach: a board cannot hold two TLS buffers."""

    async def script(link: Link) -> None:
        if len(peer.links) == 5:
            await link.expect(frames.Setup)
            link.send(frames.Error(0, 0x003, "no"))
            return
        await link.accept()
        await link.find(frames.RequestResponse)
        link.reset()

    async with Peer(script) as peer:
        program = await start(interpreter, "collects", peer.url)
        await program.expect(collections=5, left=0, connects=4)
        await program.finish()


async def test_gateway_comes_late(interpreter: Interpreter, start: Start, unused_port: int) -> None:
    """A device boots with no gateway in sight, survives its restart, and keeps trying."""
    peer = Peer(port=unused_port)
    program = await supervised(start, interpreter, peer)
    await asyncio.sleep(0.5)
    async with peer:
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
    await program.expect(state="down")
    async with Peer(port=unused_port) as peer:
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        assert (await stop(link, program))["connects"] == 2


def answer_with(status: int, reason: str, **headers: str) -> Callable[[Response], Response]:
    def answer(response: Response) -> Response:
        response.status_code = status
        response.reason_phrase = reason
        del response.headers["Sec-WebSocket-Accept"]
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return answer


REFUSALS = {
    "forbidden": (answer_with(403, "Forbidden"), ["RSocketError", 403, "HTTP"]),
    "unavailable": (answer_with(503, "Service Unavailable", Retry_After="7"), ["RSocketError", 503, "HTTP"]),
    "bad accept": (answer_with(101, "Switching Protocols", Sec_WebSocket_Accept="AAAA"), ["ConnectionLost"]),
    "no accept": (answer_with(101, "Switching Protocols"), ["ConnectionLost"]),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_refused_upgrade(how: str, interpreter: Interpreter, start: Start) -> None:
    answer, error = REFUSALS[how]

    async def ended(link: Link) -> None:
        with pytest.raises(Ended):
            await link.recv()

    async with Peer(ended, answer=answer) as peer:
        program = await start(interpreter, "refused", peer.url)
        assert await program.line() == {"error": error, "up": False}
        await program.finish()


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"\0" * 100, b"HTTP/1.1 200 OK\r\nA: b\r\n"])
async def test_no_websocket_there(reply: bytes, interpreter: Interpreter, start: Start) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/rsocket"
        program = await start(interpreter, "refused", url)
        line = await program.expect(up=False)
        assert line["error"] is not None
        await program.finish()


async def test_connection_refused(interpreter: Interpreter, start: Start, unused_port: int) -> None:
    program = await start(interpreter, "refused", f"ws://127.0.0.1:{unused_port}/rsocket")
    line = await program.expect(up=False)
    assert line["error"][0] in ("OSError", "ConnectionRefusedError", "ConnectionLost")
    await program.finish()


async def test_silent_handshake(interpreter: Interpreter, start: Start) -> None:
    """An attempt ends in time when nobody answers."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/rsocket"
        program = await start(interpreter, "refused", url, "500")
        await program.expect(error=["TimeoutError"], up=False)
        await program.finish()


async def test_refused_setup_is_tried_again(interpreter: Interpreter, start: Start) -> None:
    """P03: a refusal ends the attempt, not the supervision."""
    async with Peer() as peer:
        program = await supervised(start, interpreter, peer)
        for _ in range(3):
            link = await peer.link()
            await link.expect(frames.Setup)
            link.send(frames.Error(0, 0x003, "unknown key"))
            await link.ended()
        link = await peer.link()
        await link.accept()
        await program.expect(state="up")
        assert (await stop(link, program))["connects"] == 1
