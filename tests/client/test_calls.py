"""Calls: what goes over the wire for each model, what comes back, what happens when it goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.client import ConnectionLost, Gateway, RequestFailed, connect, deadline
from gateway.wire import frames
from gateway.wire.metadata import decode_composite, decode_routing
from gateway.wire.mimetypes import ROUTING, ZIPKIN
from tests.client.peer import Link, Peer, listening, route_of

PLAIN = ("ws", "tcp")


@pytest.fixture(params=PLAIN)
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    async with listening(request.param) as peer:
        yield peer


async def opened(peer: Peer, **options: object) -> tuple[Gateway, Link]:
    gw = connect(peer.url, "token", reconnect=False, **options)
    await gw.open()
    return gw, await peer.links.get()


async def test_request_response(peer: Peer) -> None:
    gw, link = await opened(peer)
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(
            gw.request("bench.echo", b"hi", tags={"zone": "eu"}, metadata=[(ZIPKIN, b"\x20")], timeout=30)
        )
        request = await link.expect(frames.RequestResponse)
        assert request.data == b"hi"
        entries = decode_composite(request.metadata or b"")
        assert [mime for mime, _ in entries] == [ROUTING, ZIPKIN]
        assert decode_routing(entries[0][1]) == ("bench.echo", "zone=eu")
        await link.send(frames.Payload(request.stream_id, None, b"hi back", complete=True, next=True))
    assert answer.result() == b"hi back"
    await gw.close()


async def test_answer_without_complete_is_an_answer(peer: Peer) -> None:
    """P34: a response lacking COMPLETE is treated as complete."""
    gw, link = await opened(peer)
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(gw.request("a.b"))
        request = await link.expect(frames.RequestResponse)
        await link.send(frames.Payload(request.stream_id, None, b"x", next=True))
    assert answer.result() == b"x"
    await gw.close()


@pytest.mark.parametrize("code", [0x201, 0x202, 0x203, 0x204, 0x301, 0x1234, 0xFFFFFFFE])
async def test_error_codes_reach_the_caller(peer: Peer, code: int) -> None:
    """rsocket-py drops ERROR frames above 0x300 and its caller hangs; here code and text arrive as they were sent."""
    gw, link = await opened(peer)

    async def fail() -> None:
        request = await link.expect(frames.RequestResponse)
        await link.send(frames.Error(request.stream_id, code, "töö cold"))

    failing = asyncio.create_task(fail())
    with pytest.raises(RequestFailed) as failed:
        await gw.request("a.b", timeout=30)
    await failing
    assert (failed.value.code, failed.value.text) == (code, "töö cold")
    await gw.close()


async def test_timeout_cancels(peer: Peer) -> None:
    gw, link = await opened(peer)
    with pytest.raises(TimeoutError, match=r"no answer from a.b within 0.05 s"):
        await gw.request("a.b", timeout=0.05)
    request = await link.expect(frames.RequestResponse)
    cancel = await link.expect(frames.Cancel)
    assert cancel.stream_id == request.stream_id
    # An answer that comes too late is nothing.
    await link.send(frames.Payload(request.stream_id, None, b"late", complete=True, next=True))
    again = asyncio.create_task(gw.request("a.b"))
    second = await link.expect(frames.RequestResponse)
    await link.send(frames.Payload(second.stream_id, None, b"on time", complete=True, next=True))
    assert await again == b"on time"
    await gw.close()


async def test_cancelled_task_cancels_the_request(peer: Peer) -> None:
    gw, link = await opened(peer)
    task = asyncio.create_task(gw.request("a.b"))
    request = await link.expect(frames.RequestResponse)
    task.cancel()
    assert (await link.expect(frames.Cancel)).stream_id == request.stream_id
    with pytest.raises(asyncio.CancelledError):
        await task
    await gw.close()


async def test_fire_and_forget(peer: Peer) -> None:
    gw, link = await opened(peer)
    await gw.fire_and_forget("log.put", "line")
    request = await link.expect(frames.RequestFnf)
    assert (route_of(request), request.data) == ("log.put", b"line")
    await gw.close()


async def test_stream_credit_is_topped_up_at_half(peer: Peer) -> None:
    """P30, P31: never more items under way than the window."""
    gw, link = await opened(peer)
    got = []

    async def consume() -> None:
        async for item in gw.stream("a.items", b"from 0", n=4):
            got.append(item)

    consumer = asyncio.create_task(consume())
    request = await link.expect(frames.RequestStream)
    assert (request.initial_n, request.data) == (4, b"from 0")
    sid = request.stream_id
    await link.send(*(frames.Payload(sid, None, b"%d" % i, next=True) for i in range(2)))
    assert (await link.expect(frames.RequestN)).n == 2
    await link.send(*(frames.Payload(sid, None, b"%d" % i, next=True) for i in range(2, 6)))
    granted = 0
    while granted < 4:
        granted += (await link.expect(frames.RequestN)).n
    assert granted == 4
    await link.send(
        frames.Payload(sid, None, b"", next=True), frames.Payload(sid, None, b"end", complete=True, next=True)
    )
    await consumer
    assert got == [b"0", b"1", b"2", b"3", b"4", b"5", b"", b"end"]
    await gw.close()


async def test_slow_consumer_grants_nothing(peer: Peer) -> None:
    gw, link = await opened(peer)
    items = gw.stream("a.items", n=2)
    first = asyncio.create_task(anext(items))
    request = await link.expect(frames.RequestStream)
    await link.send(*(frames.Payload(request.stream_id, None, b"x", next=True) for _ in range(2)))
    assert await first == b"x"
    assert (await link.expect(frames.RequestN)).n == 1
    # Two under way or waiting; nobody reads on, so the next grant needs a reader.
    await link.send(frames.Payload(request.stream_id, None, b"y", next=True))
    await gw.fire_and_forget("mark")
    await link.expect(frames.RequestFnf)
    assert not [frame for frame in link.received if isinstance(frame, frames.RequestN)]
    await items.aclose()
    assert (await link.expect(frames.Cancel)).stream_id == request.stream_id
    await gw.close()


async def test_items_beyond_credit_end_the_stream(peer: Peer) -> None:
    """P31: a responder that sends more than it may is cut off."""
    gw, link = await opened(peer)
    items = gw.stream("a.items", n=2)
    first = asyncio.create_task(anext(items))
    request = await link.expect(frames.RequestStream)
    await link.send(*(frames.Payload(request.stream_id, None, b"%d" % i, next=True) for i in range(9)))
    await link.expect(frames.Cancel)
    assert await first == b"0"
    assert await anext(items) == b"1"
    with pytest.raises(RequestFailed, match="more items than were asked for"):
        await anext(items)
    await gw.close()


async def test_leaving_a_stream_cancels_it(peer: Peer) -> None:
    gw, link = await opened(peer)

    async def take_one() -> bytes:
        async for item in gw.stream("a.items"):
            return item
        raise AssertionError("no item")

    task = asyncio.create_task(take_one())
    request = await link.expect(frames.RequestStream)
    await link.send(frames.Payload(request.stream_id, None, b"one", next=True))
    assert await task == b"one"
    assert (await link.expect(frames.Cancel)).stream_id == request.stream_id
    await gw.close()


async def test_stream_error_comes_after_the_items(peer: Peer) -> None:
    gw, link = await opened(peer)
    got = []

    async def consume() -> None:
        async for item in gw.stream("a.items"):
            got.append(item)

    consumer = asyncio.create_task(consume())
    request = await link.expect(frames.RequestStream)
    await link.send(
        frames.Payload(request.stream_id, None, b"one", next=True), frames.Error(request.stream_id, 0x333, "out of ink")
    )
    with pytest.raises(RequestFailed) as failed:
        await consumer
    assert (failed.value.code, failed.value.text, got) == (0x333, "out of ink", [b"one"])
    await gw.close()


async def test_stream_item_timeout(peer: Peer) -> None:
    gw, link = await opened(peer)
    with pytest.raises(TimeoutError, match=r"no item from a\.items"):
        async for _ in gw.stream("a.items", timeout=0.05):
            pass
    await link.expect(frames.Cancel)
    await gw.close()


async def test_channel_waits_for_credit(peer: Peer) -> None:
    """P32: the first item rides on REQUEST_CHANNEL, the others wait for REQUEST_N. P33: both sides complete."""
    gw, link = await opened(peer)
    got = []

    async def talk() -> None:
        async for item in gw.channel("a.chat", [b"1", b"2", b"3"], n=8):
            got.append(item)

    talking = asyncio.create_task(talk())
    request = await link.expect(frames.RequestChannel)
    sid = request.stream_id
    assert (request.data, request.initial_n, request.complete) == (b"1", 8, False)
    await gw.fire_and_forget("mark")
    await link.expect(frames.RequestFnf)
    assert not [frame for frame in link.received if isinstance(frame, frames.Payload)]
    await link.send(frames.RequestN(sid, 1))
    assert (await link.expect(frames.Payload)).data == b"2"
    await link.send(frames.Payload(sid, None, b"got two", next=True), frames.RequestN(sid, 5))
    assert (await link.expect(frames.Payload)).data == b"3"
    end = await link.expect(frames.Payload)
    assert (end.next, end.complete) == (False, True)
    await link.send(frames.Payload(sid, None, b"", complete=True))
    await talking
    assert got == [b"got two"]
    await gw.close()


async def test_channel_without_items_completes_in_the_request(peer: Peer) -> None:
    gw, link = await opened(peer)
    answers = gw.channel("a.chat", [])
    first = asyncio.create_task(anext(answers))
    request = await link.expect(frames.RequestChannel)
    assert request.complete
    await link.send(frames.Payload(request.stream_id, None, b"well", next=True))
    assert await first == b"well"
    await answers.aclose()
    await link.expect(frames.Cancel)
    await gw.close()


async def test_channel_error_ends_both_sides(peer: Peer) -> None:
    """P33: any ERROR terminates both directions, and the source is closed."""
    gw, link = await opened(peer)
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    answers = gw.channel("a.chat", source())
    first = asyncio.create_task(anext(answers))
    request = await link.expect(frames.RequestChannel)
    await link.send(frames.RequestN(request.stream_id, 3))
    for _ in range(3):
        await link.expect(frames.Payload)
    await link.send(frames.Error(request.stream_id, 0x202, "enough"))
    with pytest.raises(RequestFailed, match="enough"):
        await first
    await asyncio.wait_for(closed.wait(), 30)
    await gw.close()


async def test_responder_cancel_stops_only_the_source(peer: Peer) -> None:
    """P33: CANCEL from the responder stops what we send; its own items still come."""
    gw, link = await opened(peer)
    got = []

    async def talk() -> None:
        async for item in gw.channel("a.chat", [b"1", b"2", b"3"]):
            got.append(item)

    talking = asyncio.create_task(talk())
    request = await link.expect(frames.RequestChannel)
    sid = request.stream_id
    await link.send(frames.Cancel(sid), frames.Payload(sid, None, b"last", complete=True, next=True))
    await talking
    assert got == [b"last"]
    assert not [frame for frame in link.received if isinstance(frame, frames.Payload)]
    await gw.close()


async def test_source_failure_is_raised_and_told(peer: Peer) -> None:
    gw, link = await opened(peer)

    async def source() -> AsyncIterator[bytes]:
        yield b"1"
        raise OSError("sensor gone")

    answers = gw.channel("a.chat", source())
    first = asyncio.create_task(anext(answers))
    request = await link.expect(frames.RequestChannel)
    await link.send(frames.RequestN(request.stream_id, 3))
    error = await link.expect(frames.Error)
    assert (error.stream_id, error.code, error.text) == (request.stream_id, 0x203, "the requester failed: OSError")
    with pytest.raises(OSError, match="sensor gone"):
        await first
    await gw.close()


async def test_large_payloads_go_and_come_in_fragments(peer: Peer) -> None:
    """P40, P41: 64 KiB and more in frames of the fragment size, each way."""
    gw, link = await opened(peer, fragment_bytes=1024)
    data = bytes(range(256)) * 400
    answer = asyncio.create_task(gw.request("a.b", data))
    parts: list[frames.Frame] = [await link.expect(frames.RequestResponse)]
    whole = frames.Reassembly(1 << 20, 1000)
    request = whole.add(parts[0])
    while request is None:
        request = whole.add(await link.expect(frames.Payload))
    assert request.data == data
    reply = frames.Payload(request.stream_id, None, data[::-1], complete=True, next=True)
    for part in frames.fragment(reply, 777):
        await link.send_bytes(part)
    assert await answer == data[::-1]
    await gw.close()


async def test_fragments_of_one_stream_keep_their_order(peer: Peer) -> None:
    """P40: rsocket-py lets the next item of a stream overtake between the fragments of the one before."""
    gw, link = await opened(peer, fragment_bytes=64)
    items = [bytes([i]) * 300 for i in range(5)]
    answers = gw.channel("a.chat", items)
    first = asyncio.create_task(anext(answers, None))
    whole = frames.Reassembly(1 << 20, 1000)
    request = whole.add(await link.expect(frames.RequestChannel))
    while request is None:
        request = whole.add(await link.expect(frames.Payload))
    await link.send(frames.RequestN(request.stream_id, 10))
    got = [request.data]
    while len(got) < 5:
        item = whole.add(await link.expect(frames.Payload))
        if item is not None:
            got.append(item.data)
    assert got == items
    await link.send(frames.Payload(request.stream_id, None, b"", complete=True))
    assert await first is None
    await gw.close()


async def test_too_large_an_answer_fails_its_call_only(peer: Peer) -> None:
    """P42: reassembly is bounded; the call fails with INVALID, the responder gets CANCEL, the connection lives."""
    gw, link = await opened(peer, max_payload_bytes=4096)
    answer = asyncio.create_task(gw.request("a.b"))
    request = await link.expect(frames.RequestResponse)
    reply = frames.Payload(request.stream_id, None, bytes(10_000), complete=True, next=True)
    for part in frames.fragment(reply, 1000):
        await link.send_bytes(part)
    with pytest.raises(RequestFailed) as failed:
        await answer
    assert failed.value.code == frames.ErrorCode.INVALID
    await link.expect(frames.Cancel)
    assert gw.up
    await gw.close()


async def test_lost_connection_fails_what_is_under_way(peer: Peer) -> None:
    gw, link = await opened(peer)
    answer = asyncio.create_task(gw.request("a.b"))
    items = gw.stream("a.items")
    first = asyncio.create_task(anext(items))
    await link.expect(frames.RequestResponse)
    await link.expect(frames.RequestStream)
    link.hang_up()
    with pytest.raises(ConnectionLost):
        await answer
    with pytest.raises(ConnectionLost):
        await first
    with pytest.raises(ConnectionLost):
        await gw.request("a.b")
    await gw.close()


async def test_sender_waits_when_the_peer_does_not_read() -> None:
    """What waits to be sent is bounded: the caller waits, memory does not grow."""
    stalled = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(len(data).to_bytes(3, "big") + data)
            await writer.drain()

        link = Link(write, writer.transport.abort)
        for _ in range(2):
            await link.take(await reader.readexactly(int.from_bytes(await reader.readexactly(3), "big")))
        await stalled.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    gw = connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token", reconnect=False)
    await gw.open()
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            await gw.fire_and_forget("log", bytes(65_536), timeout=0.2)
            sent += 1

    with pytest.raises(TimeoutError, match="could not send to log"):
        await pour()
    assert sent < 1000
    stalled.set()
    await gw.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("seconds", "left_ms"), [(2.0, 2000), (0.0005, 0), (-1.0, 0), (1e9, 0xFFFFFFFF)])
def test_a_deadline_is_the_time_that_is_left(seconds: float, left_ms: int) -> None:
    assert deadline(seconds) == ("message/x.gateway.deadline.v0", left_ms.to_bytes(4, "big"))
