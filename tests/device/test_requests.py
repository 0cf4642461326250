"""The device asks: all four interaction models against a scripted gateway."""

from __future__ import annotations

from gateway.wire import brokering, frames, metadata, mimetypes
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.device.peer import Link, Peer, composite, gateway, route_of


async def test_request_response_and_fire_and_forget(interpreter: Interpreter, start: Start) -> None:
    """P20, P34, P35: ids, errors of every range, a limit on requests in flight, cancellation."""
    async with Peer(gateway) as peer:
        program = await start(interpreter, "requests", peer.url)
        await program.expect(node="n", up=True, down=False, time=True)
        await program.expect(echo="hello", meta=None)
        await program.expect(empty="")
        await program.expect(tags="tagged")
        await program.expect(application=["RSocketError", 0x301, "as asked"])
        await program.expect(rejected=["RSocketError", 0x202, "as asked"])
        await program.expect(largest=["RSocketError", 0xFFFFFFFE, "as asked"])
        await program.expect(timeout=["TimeoutError"], count=1)
        await program.expect(busy=["Busy"])
        await program.expect(free="again")
        end = await program.expect(states=["up", "down"], after=["ConnectionLost"])
        assert end["stats"] == {"connects": 1, "lost": 1, "timeouts": 1, "errors": 0}
        await program.finish()
        assert peer.links[0].close_code == 1000
        heard = peer.links[0].heard

    requests = [frame for frame in heard if hasattr(frame, "metadata")]
    ids = [frame.stream_id for frame in requests]
    assert all(sid & 1 for sid in ids), "P20: odd"
    assert ids == sorted(set(ids)), "P20: upwards, each once"
    assert [(route_of(f), f.data) for f in heard if isinstance(f, frames.RequestFnf)] == [("log", b"forgotten")]
    silent = {frame.stream_id for frame in requests if route_of(frame) == "silent"}
    cancelled = {frame.stream_id for frame in heard if isinstance(frame, frames.Cancel)}
    assert silent <= cancelled, "what nobody waits for any more is cancelled"
    tagged = next(f for f in requests if f.data == b"tagged")
    entries = dict(metadata.decode_composite(tagged.metadata or b""))
    assert metadata.decode_routing(entries[mimetypes.ROUTING]) == ("echo", "zone=eu")


async def test_request_stream(interpreter: Interpreter, start: Start) -> None:
    """P31: a stream ends, is given up, fails, or runs out of time."""
    async with Peer(gateway) as peer:
        program = await start(interpreter, "streams", peer.url)
        await program.expect(items=50)
        await program.expect(after_cancel=["StopAsyncIteration"])
        await program.expect(error=["RSocketError", 0x303, "as asked"])
        await program.expect(timeout=["TimeoutError"])
        await program.expect(open=0)
        await program.finish()
        heard = peer.links[0].heard
    silent = next(f for f in heard if hasattr(f, "metadata") and route_of(f) == "silent")
    given_up = next(f for f in heard if hasattr(f, "data") and f.data == b"1000")
    cancelled = [frame.stream_id for frame in heard if isinstance(frame, frames.Cancel)]
    assert cancelled == [given_up.stream_id, silent.stream_id]


async def test_credit_is_never_exceeded(interpreter: Interpreter, start: Start) -> None:
    """P30: the device never has more than its window granted, and refills at half."""
    granted: list[int] = []

    async def script(link: Link) -> None:
        await link.accept()
        sent = 0
        while True:
            frame = await link.recv()
            if isinstance(frame, frames.RequestStream):
                granted.append(frame.initial_n)
            elif isinstance(frame, frames.RequestN):
                granted.append(frame.n)
                assert sum(granted) - sent <= 8
            elif isinstance(frame, frames.Cancel):
                return
            else:
                continue
            while sent < sum(granted):
                link.send(frames.Payload(3, None, b"%d" % sent, next=True))
                sent += 1

    async with Peer(script) as peer:
        program = await start(interpreter, "credit", peer.url)
        await program.expect(items=30)
        await program.finish()
    assert granted[0] == 8
    assert max(granted[1:]) <= 8


async def test_setup(interpreter: Interpreter, start: Start) -> None:
    """SETUP carries the token and one ROUTE_SETUP a service; route ids outlive the connection."""
    async with Peer() as peer:
        program = await start(interpreter, "setup", peer.url)
        ids = []
        for _ in range(2):
            link = await peer.link()
            await link.accept()
            assert link.request is not None
            assert link.request.path == "/rsocket"
            assert link.request.headers["Sec-WebSocket-Protocol"] == "rsocket"
            setup = link.setup
            assert (setup.major, setup.minor, setup.lease, setup.resume_token) == (1, 0, False, None)
            assert (setup.keepalive_ms, setup.lifetime_ms) == (7000, 30000)
            assert setup.metadata_mime == mimetypes.COMPOSITE
            entries = metadata.decode_composite(setup.metadata or b"")
            assert metadata.decode_authentication(entries[0][1]) == metadata.Bearer(b"token-1")
            routes = [brokering.decode(content) for mime, content in entries[1:] if mime == mimetypes.BROKER_FRAME]
            assert all(isinstance(route, brokering.RouteSetup) for route in routes)
            assert [route.service for route in routes] == ["dev-1", "plant/7/thermo"]
            ids.append([route.route_id for route in routes])
            await link.ended()
        await program.finish()
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


async def test_rejected_setup(interpreter: Interpreter, start: Start) -> None:
    """P03: the device learns why it was refused."""

    async def script(link: Link) -> None:
        await link.expect(frames.Setup)
        link.send(frames.Error(0, 0x003, "token expired 4 m ago"))
        await link.ended()

    async with Peer(script) as peer:
        program = await start(interpreter, "refused", peer.url)
        await program.expect(error=["RSocketError", 3, "token expired 4 m ago"], up=False)
        await program.finish()


async def test_fragments_go_out(interpreter: Interpreter, start: Start) -> None:
    """P40: metadata first, the request type on the first frame, nothing longer than the limit."""
    async with Peer() as peer:
        program = await start(interpreter, "fragments_out", peer.url)
        link = await peer.link()
        await link.accept()
        sizes, parts, whole = [], 0, None
        reassembly = frames.Reassembly(1 << 20, 1000)
        while whole is None:
            raw = await link.recv_bytes()
            sizes.append(len(raw))
            frame = frames.decode(raw)
            assert isinstance(frame, frames.RequestResponse if parts == 0 else frames.Payload)
            parts += 1
            whole = reassembly.add(frame)
        assert parts > 3
        assert max(sizes) <= 256
        assert min(sizes[:-1]) >= frames.MIN_FRAGMENT_BYTES
        assert whole.data == bytes(range(256)) * 4
        assert route_of(whole) == "put"
        entries = metadata.decode_composite(whole.metadata or b"")
        assert entries[1] == ("application/octet-stream", b"m" * 300)
        link.send(frames.Payload(whole.stream_id, None, b"stored", next=True, complete=True))
        await program.expect(answer="stored")
        await link.ended()
        await program.finish()


async def test_fragments_come_in(interpreter: Interpreter, start: Start) -> None:
    """P41, P42: fragments are put together, and a payload that grows without end costs only its stream."""

    async with Peer() as peer:
        program = await start(interpreter, "fragments_in", peer.url)
        link = await peer.link()
        await link.accept()
        request = await link.expect(frames.RequestResponse)
        answer = frames.Payload(request.stream_id, b"\xfa\0\0\1\x85", b"x" * 800, next=True, complete=True)
        for part in frames.fragment(answer, 200):
            link.send(part)
        await program.expect(size=800, meta=5)

        request = await link.expect(frames.RequestResponse)
        endless = frames.Payload(request.stream_id, None, b"y" * 200, follows=True, next=True)
        for _ in range(30):
            link.send(endless)
        assert (await link.find(frames.Cancel)).stream_id == request.stream_id
        await program.expect(error="RSocketError")

        request = await link.expect(frames.RequestResponse)
        for _ in range(1000):
            link.send(frames.Payload(request.stream_id, None, b"", follows=True, next=True))
        assert (await link.find(frames.Cancel)).stream_id == request.stream_id
        await program.expect(error="RSocketError")

        # A request in fragments, with another stream's frames between them.
        parts = frames.fragment(frames.RequestResponse(2, composite("dev-1.size"), b"z" * 800), 200)
        ping = frames.RequestResponse(4, composite("dev-1.size"), b"12345")
        for part in [*parts[:3], frames.encode(ping), *parts[3:]]:
            link.send(part)
        answers = {}
        for _ in range(2):
            payload = await link.expect(frames.Payload)
            answers[payload.stream_id] = payload.data
        assert answers == {2: b"800", 4: b"5"}

        # CANCEL drops what was collected; a request that grows without end is refused.
        for part in parts[:3]:
            link.send(part)
        link.send(frames.Cancel(2))
        too_long = frames.RequestResponse(6, composite("dev-1.size"), b"z" * 5000)
        for part in frames.fragment(too_long, 200):
            link.send(part)
        error = await link.expect(frames.Error)
        assert (error.stream_id, error.code) == (6, 0x202)
        link.send(frames.RequestResponse(8, composite("dev-1.stop"), b""))
        await link.ended()
        await program.finish()
