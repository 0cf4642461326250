"""The gateway asks: what the device serves and what it refuses."""

from __future__ import annotations

import asyncio

from gateway.wire import brokering, frames, metadata, mimetypes
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.device.peer import Link, Peer, composite

PRINCIPAL = (mimetypes.PRINCIPAL, b'{"subject": "app", "kind": "service", "node": "n"}')


async def ask(link: Link, route: str, data: bytes = b"", *entries: tuple[str, bytes]) -> frames.Frame:
    """Send a request/response to the device; its answer, which must be for this request."""
    stream_id = link.next_id()
    link.send(frames.RequestResponse(stream_id, composite(route, *entries), data))
    answer = await link.recv()
    assert isinstance(answer, frames.Payload | frames.Error)
    assert answer.stream_id == stream_id
    return answer


def answered(frame: frames.Frame) -> bytes:
    assert isinstance(frame, frames.Payload)
    assert frame.next
    assert frame.complete
    return frame.data


def refused(frame: frames.Frame) -> tuple[int, str]:
    assert isinstance(frame, frames.Error)
    return frame.code, frame.text


async def test_request_response(interpreter: Interpreter, start: Start) -> None:
    """Routes with and without the service's name, errors above 0x300 intact, malformed metadata refused."""
    async with Peer() as peer:
        program = await start(interpreter, "responder", peer.url)
        link = await peer.link()
        await link.accept()
        assert answered(await ask(link, "dev-1.led.set", b"on")) == b"led:on"
        assert answered(await ask(link, "dev-1/led.set", b"on")) == b"led:on"
        assert answered(await ask(link, "plant/7/thermo/led.set", b"on")) == b"led:on"
        assert answered(await ask(link, "led.set", b"on", PRINCIPAL)) == b"led:on"
        assert answered(await ask(link, "dev-1.exact")) == b"exact"
        assert answered(await ask(link, "dev-1")) == b"alone"
        assert answered(await ask(link, "dev-1.nothing")) == b""
        assert refused(await ask(link, "dev-10.led.set"))[0] == 0x202
        assert refused(await ask(link, "dev-1.unknown"))[0] == 0x202
        assert refused(await ask(link, "dev-1.numbers"))[0] == 0x202, "that one is a stream"
        assert refused(await ask(link, "dev-1.fail")) == (0x301, "as asked")
        code, text = refused(await ask(link, "dev-1.crash"))
        assert code == 0x201
        assert "ZeroDivisionError" in text
        with_metadata = await ask(link, "dev-1.with_metadata", b"x")
        assert answered(with_metadata) == b"x"
        assert isinstance(with_metadata, frames.Payload)
        assert with_metadata.metadata == b"\xfa\0\0\1\x85"

        # The routing entry as Spring sends it, by name and behind an ADDRESS frame.
        address = brokering.encode(brokering.Address(bytes(16), (), brokering.Cast.UNICAST))
        by_name = metadata.encode_composite([(mimetypes.BROKER_FRAME, address), PRINCIPAL])
        name = mimetypes.ROUTING.encode()
        routing = metadata.encode_routing(["dev-1.led.set"])
        by_name += bytes((len(name) - 1,)) + name + len(routing).to_bytes(3, "big") + routing
        link.send(frames.RequestResponse(100, by_name, b"off"))
        assert answered(await link.recv()) == b"led:off"
        # Addressed by tags alone there is no route.
        link.send(frames.RequestResponse(102, metadata.encode_composite([(mimetypes.BROKER_FRAME, address)]), b""))
        assert answered(await link.recv()) == b"alone"
        link.send(frames.RequestResponse(104, None, b""))
        assert answered(await link.recv()) == b"alone"
        for malformed in (b"\xfe", b"\xfe\0\0\xff", b"\x20mess", b"\xfe\0\0\3\x02\xff\xfe", b"\xfe\0\0\0"):
            link.send(frames.RequestResponse(106, malformed, b""))
            assert refused(await link.recv())[0] == 0x202
        await stop(link)
        assert (await program.finish())[-1] == {"open": 0, "errors": 2}


async def stop(link: Link) -> None:
    link.send(frames.RequestFnf(link.next_id(), composite("stop"), b""))
    await link.ended()


async def test_limits_and_cancellation(interpreter: Interpreter, start: Start) -> None:
    """P21, P22, P41: a limit on handlers, CANCEL ends one, frames for nobody are ignored."""
    async with Peer() as peer:
        program = await start(interpreter, "responder", peer.url)
        link = await peer.link()
        await link.accept()
        link.send(frames.RequestResponse(2, composite("hang"), b""))
        link.send(frames.RequestResponse(4, composite("hang"), b""))
        link.send(frames.RequestResponse(6, composite("led.set"), b""))
        assert refused(await link.recv()) == (0x202, "busy")
        link.send(frames.RequestResponse(2, composite("led.set"), b"P21: this id is in use"))
        link.send(frames.Cancel(2))
        await program.expect(hang="cancelled")
        link.send(frames.RequestResponse(8, composite("led.set"), b"room"))
        assert answered(await link.recv()) == b"led:room"
        for stray in (
            frames.Cancel(99),
            frames.Payload(98, None, b"", next=True),
            frames.Error(97, 0x201, "?"),
            frames.RequestN(96, 1),
            frames.Lease(1, 1),
            frames.MetadataPush(b"x"),
            frames.Extension(0, True, False, 1),
            bytes.fromhex("000000013e00"),
        ):
            link.send(stray)
        link.send(frames.Cancel(4))
        await program.expect(hang="cancelled")
        await stop(link)
        assert (await program.finish())[-1] == {"open": 0, "errors": 0}


async def test_fire_and_forget(interpreter: Interpreter, start: Start) -> None:
    """P35: never answered, not even by an error."""
    async with Peer() as peer:
        program = await start(interpreter, "responder", peer.url)
        link = await peer.link()
        await link.accept()
        for data in (b"1", b"crash"):
            link.send(frames.RequestFnf(link.next_id(), composite("dev-1.note"), data))
            await program.expect(note=data.decode())
        link.send(frames.RequestFnf(link.next_id(), composite("dev-1.unknown"), b""))
        assert answered(await ask(link, "led.set", b"next")) == b"led:next"
        await stop(link)
        assert (await program.finish())[-1] == {"open": 0, "errors": 1}


async def test_stream(interpreter: Interpreter, start: Start) -> None:
    """P31: the device sends as much as it was granted, then waits."""
    async with Peer() as peer:
        program = await start(interpreter, "responder", peer.url)
        link = await peer.link()
        await link.accept()
        link.send(frames.RequestStream(2, composite("numbers"), b"5", 2))
        for i in range(2):
            assert (await link.expect(frames.Payload)).data == b"%d" % i
        assert answered(await ask_later(link, 10)) == b"led:10", "nothing comes in between: the credit is used up"
        link.send(frames.RequestN(2, 1))
        link.send(frames.RequestN(2, 0x7FFFFFFF))
        for i in range(2, 5):
            item = await link.expect(frames.Payload)
            assert (item.data, item.next, item.complete) == (b"%d" % i, True, False)
        last = await link.expect(frames.Payload)
        assert (last.next, last.complete) == (False, True)

        link.send(frames.RequestStream(4, composite("broken"), b"", 2))
        assert (await link.expect(frames.Payload)).data == b"1"
        assert refused(await link.recv()) == (0x302, "broke")

        link.send(frames.RequestStream(6, composite("numbers"), b"1000000", 1))
        assert (await link.expect(frames.Payload)).data == b"0"
        link.send(frames.Cancel(6))
        # Cancelled while it has all the credit in the world and is writing.
        link.send(frames.RequestStream(8, composite("numbers"), b"1000000", 0x7FFFFFFF))
        for _ in range(100):
            assert (await link.expect(frames.Payload)).stream_id == 8
        link.send(frames.Cancel(8))
        link.send(frames.RequestResponse(12, composite("led.set"), b"after"))
        while (frame := await link.recv()).stream_id == 8:
            pass
        assert answered(frame) == b"led:after"
        await stop(link)
        assert (await program.finish())[-1] == {"open": 0, "errors": 1}


async def ask_later(link: Link, stream_id: int) -> frames.Frame:
    link.send(frames.RequestResponse(stream_id, composite("led.set"), b"%d" % stream_id))
    return await link.recv()


async def test_channel_to_the_device(interpreter: Interpreter, start: Start) -> None:
    """P32, P33: the responder grants credit, and the channel ends when both sides completed."""
    async with Peer() as peer:
        program = await start(interpreter, "responder", peer.url)
        link = await peer.link()
        await link.accept()
        link.send(frames.RequestChannel(2, composite("sum"), b"1", 100))
        granted = await link.expect(frames.RequestN)
        assert granted.n == 8
        assert (await link.expect(frames.Payload)).data == b"1"
        total = 1
        for i in range(2, 30):
            granted_now = granted.n
            assert granted_now > 0
            link.send(frames.Payload(2, None, b"%d" % i, next=True))
            total += i
            assert (await link.find(frames.Payload)).data == b"%d" % total
        link.send(frames.Payload(2, None, b"", complete=True))
        end = await link.find(frames.Payload)
        assert (end.next, end.complete) == (False, True)
        link.send(frames.RequestChannel(4, composite("sum"), b"5", 1, complete=True))
        assert (await link.find(frames.Payload)).data == b"5"
        assert (await link.find(frames.Payload)).complete
        await stop(link)
        assert (await program.finish())[-1] == {"open": 0, "errors": 0}


async def test_channel_from_the_device(interpreter: Interpreter, start: Start) -> None:
    """P32, P33: no PAYLOAD before REQUEST_N; CANCEL ends one direction, ERROR both."""

    async with Peer() as peer:
        program = await start(interpreter, "channels", peer.url)
        link = await peer.link()
        await link.accept()
        channel = await link.expect(frames.RequestChannel)
        assert (channel.data, channel.initial_n, channel.complete) == (b"1", 8, False)
        total = int(channel.data)
        link.send(frames.Payload(channel.stream_id, None, b"%d" % total, next=True))
        await asyncio.sleep(0.05)
        assert not link.has_frames(), "nothing was granted yet"
        link.send(frames.RequestN(channel.stream_id, 2))
        for i in range(5):
            total += int((await link.expect(frames.Payload)).data)
            link.send(frames.Payload(channel.stream_id, None, b"%d" % total, next=True))
            if i % 2:
                link.send(frames.RequestN(channel.stream_id, 2))
        end = await link.find(frames.Payload)
        assert (end.next, end.complete) == (False, True)
        link.send(frames.Payload(channel.stream_id, None, b"", complete=True))
        await program.expect(totals=[1, 3, 6, 10, 15, 21], after=["RSocketError", 0x203, ""])

        half = await link.find(frames.RequestChannel)
        link.send(frames.RequestN(half.stream_id, 1))
        assert (await link.find(frames.Payload)).data == b"y"
        link.send(frames.Cancel(half.stream_id))
        link.send(frames.Payload(half.stream_id, None, b"rest", next=True))
        link.send(frames.Payload(half.stream_id, None, b"", complete=True))
        await program.expect(half=["RSocketError", 0x203, ""], rest="rest")
        await program.expect(end=["StopAsyncIteration"], open=0)

        error = await link.find(frames.RequestChannel)
        link.send(frames.Error(error.stream_id, 0x305, "enough"))
        await program.expect(error=["RSocketError", 0x305, "enough"], receive=["RSocketError", 0x305, "enough"])
        await link.ended()
        await program.finish()
