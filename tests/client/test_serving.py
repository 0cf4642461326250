"""A Python service: registration, handlers of each model, what the caller is told when a handler fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.client import Caller, Handlers, Request, RequestFailed, Service
from gateway.client.handlers import Model, find
from gateway.wire import brokering, frames
from gateway.wire.metadata import Bearer, decode_authentication, decode_composite, encode_composite, encode_routing
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, PRINCIPAL, ROUTING
from tests.client.peer import Peer, listening


@pytest.fixture(params=("ws", "tcp"))
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    async with listening(request.param) as peer:
        yield peer


def routed(route: str, caller: bytes | None = None, *tags: str) -> bytes:
    entries = [(ROUTING, encode_routing((route, *tags))), ("id:0x51", b"an id that rsocket-py does not know")]
    if caller is not None:
        entries.append((PRINCIPAL, caller))
    return encode_composite(entries)


def thermo(peer: Peer, **options: object) -> Service:
    return Service(peer.url, "the-token", name="thermo", tags={"zone": "eu"}, reconnect=False, **options)


async def test_setup_carries_token_and_registrations(peer: Peer) -> None:
    service = thermo(peer)
    service.also("bench", {"version": "2"})
    async with service:
        link = await peer.links.get()
        setup = await link.expect(frames.Setup)
        assert setup.metadata_mime == COMPOSITE
        assert (setup.keepalive_ms, setup.lifetime_ms) == (20_000, 90_000)
        entries = decode_composite(setup.metadata or b"")
        assert [mime for mime, _ in entries] == [AUTHENTICATION, BROKER_FRAME, BROKER_FRAME]
        assert decode_authentication(entries[0][1]) == Bearer(b"the-token")
        first, second = (brokering.decode(content) for _, content in entries[1:])
        assert isinstance(first, brokering.RouteSetup)
        assert isinstance(second, brokering.RouteSetup)
        assert (first.service, first.tags) == ("thermo", (("zone", "eu"),))
        assert (second.service, second.tags) == ("bench", (("version", "2"),))
        assert first.route_id != second.route_id
    with pytest.raises(RuntimeError):
        service.also("late")


async def test_request_response_with_caller_and_unknown_metadata(peer: Peer) -> None:
    service = thermo(peer)

    @service.request_response("read")
    async def read(data: bytes, request: Request) -> str:
        assert request.caller == Caller("phone-1", "user", "edge-1")
        assert request.route == "thermo.read"
        assert request.tags == ("zone=eu",)
        assert request.metadata[1] == ("id:0x51", b"an id that rsocket-py does not know")
        return f"{data.decode()} from {request.caller.subject}"

    async with service:
        link = await peer.links.get()
        principal = json.dumps({"subject": "phone-1", "kind": "user", "node": "edge-1"}).encode()
        await link.send(frames.RequestResponse(2, routed("thermo.read", principal, "zone=eu"), b"hello"))
        assert await link.expect(frames.Payload) == frames.Payload(
            2, None, b"hello from phone-1", complete=True, next=True
        )


async def test_empty_answer_is_an_item(peer: Peer) -> None:
    """P34: an item of zero bytes is a real item, so it carries NEXT."""
    service = thermo(peer)

    @service.request_response("touch")
    async def touch(data: bytes) -> None:
        return None

    @service.stream("blanks")
    async def blanks(data: bytes) -> AsyncIterator[bytes]:
        yield b""

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.touch"), b""))
        assert await link.expect(frames.Payload) == frames.Payload(2, None, b"", complete=True, next=True)
        await link.send(frames.RequestStream(4, routed("thermo/blanks"), b"", 5))
        assert await link.expect(frames.Payload) == frames.Payload(4, None, b"", next=True)
        assert await link.expect(frames.Payload) == frames.Payload(4, None, b"", complete=True)


@pytest.mark.parametrize("code", [0x201, 0x202, 0x301, 0xFFFFFFFE])
async def test_handler_chooses_the_error(peer: Peer, code: int) -> None:
    service = thermo(peer)

    @service.request_response("read")
    async def read(data: bytes) -> bytes:
        raise RequestFailed(code, "not today")

    @service.stream("readings")
    async def readings(data: bytes) -> AsyncIterator[bytes]:
        yield b"one"
        raise RequestFailed(code, "no more")

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.read"), b""))
        assert await link.expect(frames.Error) == frames.Error(2, code, "not today")
        await link.send(frames.RequestStream(4, routed("thermo.readings"), b"", 5))
        assert (await link.expect(frames.Payload)).data == b"one"
        assert await link.expect(frames.Error) == frames.Error(4, code, "no more")


async def test_unforeseen_failure_tells_no_detail(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    service = thermo(peer)

    @service.request_response("read")
    async def read(data: bytes) -> bytes:
        raise ValueError("password is hunter2")

    @service.request_response("number")
    async def number(data: bytes) -> bytes:
        return 7  # type: ignore[return-value]

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.read"), b""))
        assert await link.expect(frames.Error) == frames.Error(2, 0x201, "thermo.read failed: ValueError")
        assert "hunter2" in caplog.text
        await link.send(frames.RequestResponse(4, routed("thermo.number"), b""))
        assert await link.expect(frames.Error) == frames.Error(4, 0x201, "thermo.number failed: TypeError")


async def test_unknown_route_is_rejected(peer: Peer) -> None:
    async with thermo(peer):
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.nothing"), b""))
        error = await link.expect(frames.Error)
        assert (error.code, error.text) == (0x202, "no request_response handler for 'thermo.nothing'")
        await link.send(frames.RequestStream(4, routed("thermo.nothing"), b"", 1))
        assert (await link.expect(frames.Error)).stream_id == 4
        await link.send(frames.RequestChannel(6, routed("thermo.nothing"), b"", 1))
        assert (await link.expect(frames.Error)).stream_id == 6
        await link.send(frames.RequestResponse(8, b"\xfe\x00\xff\xff", b""))
        assert (await link.expect(frames.Error)).code == 0x204


async def test_a_slow_handler_stalls_nothing(peer: Peer) -> None:
    """rsocket-py awaits handlers in its receive loop; here a handler may even call back over its own connection."""
    service = thermo(peer)

    @service.request_response("slow")
    async def slow(data: bytes) -> bytes:
        return await service.gateway.request("thermo.fast", data)

    @service.request_response("fast")
    async def fast(data: bytes) -> bytes:
        return data

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.slow"), b"round trip"))
        asked = await link.expect(frames.RequestResponse)
        await link.send(frames.RequestResponse(4, routed("thermo.fast"), asked.data))
        answer = await link.expect(frames.Payload)
        assert answer.stream_id == 4
        await link.send(frames.Payload(asked.stream_id, None, answer.data, complete=True, next=True))
        assert await link.expect(frames.Payload) == frames.Payload(2, None, b"round trip", complete=True, next=True)


async def test_fire_and_forget_is_never_answered(peer: Peer) -> None:
    """P35: no answer, not even an error."""
    service = thermo(peer)
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    @service.fire_and_forget("note")
    async def note(data: bytes) -> None:
        seen.put_nowait(data)
        raise RequestFailed(0x301, "nobody hears this")

    async with service:
        link = await peer.links.get()
        await link.send(
            frames.RequestFnf(2, routed("thermo.note"), b"one"), frames.RequestFnf(4, routed("thermo.nothing"), b"")
        )
        assert await seen.get() == b"one"
        await service.gateway.fire_and_forget("mark")
        await link.expect(frames.RequestFnf)
        assert [type(frame) for frame in link.received] == [frames.Setup]


async def test_fire_and_forget_is_processed_after_the_connection_is_lost(peer: Peer) -> None:
    service = thermo(peer)
    begun, lost, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @service.fire_and_forget("note")
    async def note(data: bytes) -> None:
        begun.set()
        await lost.wait()
        done.set()

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestFnf(2, routed("thermo.note"), b"one"))
        await begun.wait()
        link.hang_up()
        await service.gateway.wait_closed()
        lost.set()
    assert done.is_set()


async def test_stream_respects_credit(peer: Peer) -> None:
    """P31: no more items than initial n and REQUEST_N grant; the generator is at most one item ahead."""
    service = thermo(peer)
    made = 0

    @service.stream("readings")
    async def readings(data: bytes) -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield f"{made}"

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestStream(2, routed("thermo.readings"), b"", 3))
        for number in range(1, 4):
            assert (await link.expect(frames.Payload)).data == b"%d" % number
        await service.gateway.fire_and_forget("mark")
        await link.expect(frames.RequestFnf)
        assert not [frame for frame in link.received if isinstance(frame, frames.Payload)]
        assert made <= 4
        await link.send(frames.RequestN(2, 2))
        for number in range(4, 6):
            assert (await link.expect(frames.Payload)).data == b"%d" % number
        await link.send(frames.Cancel(2))
        await service.gateway.fire_and_forget("mark")
        await link.expect(frames.RequestFnf)
        assert made <= 6


async def test_finite_stream_ends_without_more_credit(peer: Peer) -> None:
    service = thermo(peer)

    @service.stream("three")
    async def three(data: bytes) -> AsyncIterator[bytes]:
        for item in (b"1", b"2", b"3"):
            yield item

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestStream(2, routed("thermo.three"), b"", 3))
        got = [await link.expect(frames.Payload) for _ in range(4)]
        assert [(item.data, item.complete) for item in got] == [
            (b"1", False), (b"2", False), (b"3", False), (b"", True)
        ]  # fmt: skip


async def test_cancel_ends_the_handler(peer: Peer) -> None:
    service = thermo(peer)
    begun, ended = asyncio.Queue[str](), asyncio.Queue[str]()

    async def work(name: str) -> None:
        begun.put_nowait(name)
        try:
            await asyncio.Event().wait()
        finally:
            ended.put_nowait(name)

    @service.request_response("wait")
    async def wait(data: bytes) -> bytes:
        await work("response")
        return b""

    @service.stream("waits")
    async def waits(data: bytes) -> AsyncIterator[bytes]:
        await work("stream")
        yield b""

    @service.channel("chat")
    async def chat(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        await work("channel")
        yield b""

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestResponse(2, routed("thermo.wait"), b""))
        await link.send(frames.RequestStream(4, routed("thermo.waits"), b"", 1))
        await link.send(frames.RequestChannel(6, routed("thermo.chat"), b"", 1))
        assert {await begun.get() for _ in range(3)} == {"response", "stream", "channel"}
        await link.send(frames.Cancel(2), frames.Cancel(4), frames.Cancel(6))
        assert {await ended.get() for _ in range(3)} == {"response", "stream", "channel"}
        # The same when the connection goes.
        await link.send(frames.RequestResponse(8, routed("thermo.wait"), b""))
        await link.send(frames.RequestStream(10, routed("thermo.waits"), b"", 1))
        await link.send(frames.RequestChannel(12, routed("thermo.chat"), b"", 1))
        assert {await begun.get() for _ in range(3)} == {"response", "stream", "channel"}
        link.hang_up()
        assert {await ended.get() for _ in range(3)} == {"response", "stream", "channel"}


async def test_channel(peer: Peer) -> None:
    """P32: the responder grants credit before items come; P33: it ends when both sides have completed."""
    service = thermo(peer)

    @service.channel("upper")
    async def upper(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item.upper()
        yield b"bye"

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestChannel(2, routed("thermo.upper"), b"one", 10))
        assert (await link.expect(frames.Payload)).data == b"ONE"
        assert (await link.expect(frames.RequestN)).n > 0
        await link.send(frames.Payload(2, None, b"two", next=True))
        assert (await link.expect(frames.Payload)).data == b"TWO"
        await link.send(frames.Payload(2, None, b"", complete=True))
        assert (await link.expect(frames.Payload)).data == b"BYE".lower()
        end = await link.expect(frames.Payload)
        assert (end.complete, end.next) == (True, False)
        assert not [frame for frame in link.received if isinstance(frame, frames.Cancel)]


async def test_channel_handler_that_ends_early_stops_the_requester(peer: Peer) -> None:
    service = thermo(peer)

    @service.channel("first")
    async def first(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item
            return

    async with service:
        link = await peer.links.get()
        await link.send(frames.RequestChannel(2, routed("thermo.first"), b"one", 10))
        assert (await link.expect(frames.Payload)).data == b"one"
        assert (await link.expect(frames.Cancel)).stream_id == 2
        assert (await link.expect(frames.Payload)).complete


async def test_too_many_at_once_are_rejected(peer: Peer) -> None:
    """What is being served is bounded: above it, REJECTED promises that the request was not processed."""
    service = thermo(peer, max_serving=2)
    go = asyncio.Event()

    @service.request_response("wait")
    async def wait(data: bytes) -> bytes:
        await go.wait()
        return data

    async with service:
        link = await peer.links.get()
        await link.send(*(frames.RequestResponse(i, routed("thermo.wait"), b"x") for i in (2, 4, 6)))
        assert await link.expect(frames.Error) == frames.Error(6, 0x202, "busy with 2 requests")
        go.set()
        assert {(await link.expect(frames.Payload)).stream_id for _ in range(2)} == {2, 4}


def handler(name: str) -> Callable[[bytes], object]:
    async def answer(data: bytes) -> bytes:
        return name.encode()

    return answer


async def test_lookup_is_exact_then_without_the_service_name() -> None:
    short, long = Handlers("plant"), Handlers("plant/7/thermo")
    short.request_response("7/thermo/read")(handler("short"))  # type: ignore[type-var]
    long.request_response("read")(handler("long"))  # type: ignore[type-var]
    long.request_response("")(handler("root"))  # type: ignore[type-var]
    short.request_response("other.read")(handler("exact"))  # type: ignore[type-var]
    for route, expected in (
        ("plant/7/thermo/read", b"long"),
        ("plant/7/thermo", b"root"),
        ("read", b"long"),
        ("other.read", b"exact"),
        ("plantation.read", None),
        ("plant", None),
    ):
        found = find([short, long], Model.RESPONSE, route)
        assert (None if found is None else await found(b"", Request(route))) == expected
    assert find([short], Model.FNF, "7/thermo/read") is None


async def test_star_takes_what_no_other_handler_does() -> None:
    telemetry, other = Handlers("telemetry"), Handlers("other")
    telemetry.request_response("*")(handler("any"))  # type: ignore[type-var]
    telemetry.request_response("known")(handler("known"))  # type: ignore[type-var]
    for route, expected in (
        ("telemetry.known", b"known"),
        ("telemetry.new", b"any"),
        ("telemetry", b"any"),
        ("telemetries.new", None),
        ("other.new", None),
    ):
        found = find([telemetry, other], Model.RESPONSE, route)
        assert (None if found is None else await found(b"", Request(route))) == expected


def test_registration_mistakes_are_told_at_once() -> None:
    handlers = Handlers("a")
    handlers.request_response("x")(handler("x"))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="already"):
        handlers.request_response("x")(handler("x"))  # type: ignore[type-var]
    with pytest.raises(TypeError, match="takes at least the data"):
        handlers.request_response("y")(lambda: None)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="1 to 255"):
        Handlers("")
