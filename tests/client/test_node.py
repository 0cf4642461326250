"""Service and caller through a real node: every model, both transports, errors, fragments, endings, TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.client import Caller, ConnectionLost, Request, RequestFailed, Service, SetupRefused, Unreachable, connect
from gateway.config import load
from gateway.node import Node
from tests.client.conftest import Mint, minting, settings, url_of


def bench(url: str, token: str, **options: object) -> Service:
    service = Service(url, token, name="bench", tags={"zone": "eu"}, **options)

    @service.request_response("echo")
    async def echo(data: bytes) -> bytes:
        return data

    @service.request_response("whoami")
    async def whoami(data: bytes, request: Request) -> str:
        assert request.caller is not None
        return f"{request.caller.subject} {request.caller.kind} {request.caller.node}"

    @service.request_response("fail")
    async def fail(data: bytes) -> bytes:
        raise RequestFailed(int(data), "as you like it")

    @service.request_response("never")
    async def never(data: bytes) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    @service.stream("count")
    async def count(data: bytes) -> AsyncIterator[str]:
        for number in range(int(data)):
            yield str(number)

    @service.stream("for-ever")
    async def for_ever(data: bytes) -> AsyncIterator[bytes]:
        while True:
            yield b"tick"
            await asyncio.sleep(0)

    @service.channel("upper")
    async def upper(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item.upper()

    @service.channel("first")
    async def first(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item
            return

    return service


async def test_readiness_and_request_response(url: str, mint: Mint) -> None:
    async with bench(url, mint("svc")), connect(url, mint("phone-1", "user")) as gw:
        assert gw.ready is not None
        assert (gw.ready.node, gw.ready.subject, gw.ready.services) == ("edge-1", "phone-1", ())
        assert await gw.request("bench.echo", b"hi") == b"hi"
        assert await gw.request("bench/echo", b"") == b""
        assert await gw.request("bench.whoami") == b"phone-1 user edge-1"
        assert await gw.request("bench.echo", b"tagged", tags={"zone": "eu"}) == b"tagged"
        with pytest.raises(RequestFailed) as refused:
            await gw.request("bench.echo", b"", tags={"zone": "us"})
        assert refused.value.name == "REJECTED"
        with pytest.raises(RequestFailed) as nobody:
            await gw.request("nobody.home")
        assert (nobody.value.code, nobody.value.text) == (0x202, "no route to nobody.home")


async def test_forged_principal_is_replaced(url: str, mint: Mint) -> None:
    from gateway.wire.mimetypes import PRINCIPAL

    async with bench(url, mint("svc")), connect(url, mint("mallory", "user")) as gw:
        forged = b'{"subject":"root","kind":"admin","node":"x"}'
        assert await gw.request("bench.whoami", metadata=[(PRINCIPAL, forged)]) == b"mallory user edge-1"


@pytest.mark.parametrize("code", [0x201, 0x202, 0x301, 0xABCDEF01, 0xFFFFFFFE])
async def test_error_codes_cross_the_node(url: str, mint: Mint, code: int) -> None:
    async with bench(url, mint()), connect(url, mint()) as gw:
        with pytest.raises(RequestFailed) as failed:
            await gw.request("bench.fail", str(code))
        assert (failed.value.code, failed.value.text) == (code, "as you like it")


async def test_streams(url: str, mint: Mint) -> None:
    async with bench(url, mint()), connect(url, mint()) as gw:
        for n in (1, 3, 64):
            got = [item async for item in gw.stream("bench.count", "100", n=n)]
            assert got == [b"%d" % number for number in range(100)]
        assert [item async for item in gw.stream("bench.count", "0")] == []
        ticks = gw.stream("bench.for-ever", n=2)
        assert [await anext(ticks) for _ in range(5)] == [b"tick"] * 5
        await ticks.aclose()


async def test_channels(url: str, mint: Mint) -> None:
    async def letters() -> AsyncIterator[bytes]:
        for letter in "abcdefgh":
            yield letter.encode()

    async with bench(url, mint()), connect(url, mint()) as gw:
        assert [item async for item in gw.channel("bench.upper", letters(), n=2)] == [
            letter.encode() for letter in "ABCDEFGH"
        ]
        assert [item async for item in gw.channel("bench.upper", [b"one"])] == [b"ONE"]
        # The responder has heard enough: it cancels the requester's side, then completes its own (P33).
        assert [item async for item in gw.channel("bench.first", letters(), timeout=30)] == [b"a"]


async def test_fire_and_forget_arrives(url: str, mint: Mint) -> None:
    service = Service(url, mint(), name="log")
    seen: asyncio.Queue[tuple[bytes, Caller | None]] = asyncio.Queue()

    @service.fire_and_forget("put")
    async def put(data: bytes, request: Request) -> None:
        seen.put_nowait((data, request.caller))

    async with service, connect(url, mint("device-1", "device")) as gw:
        await gw.fire_and_forget("log.put", b"line")
        assert await seen.get() == (b"line", Caller("device-1", "device", "edge-1"))


async def test_large_payloads(url: str, mint: Mint) -> None:
    """P40: 64 KiB and more cross in fragments, both ways."""
    data = bytes(range(256)) * 1024
    async with bench(url, mint(), fragment_bytes=16_384), connect(url, mint(), fragment_bytes=4096) as gw:
        assert await gw.request("bench.echo", data) == data
        assert [item async for item in gw.channel("bench.upper", [b"x" * 70_000] * 3)] == [b"X" * 70_000] * 3


async def test_several_services_and_calls_between_them(url: str, mint: Mint) -> None:
    service = bench(url, mint("svc"))
    more = service.also("relay")

    @more.request_response("echo")
    async def echo(data: bytes) -> bytes:
        return b"relayed " + await service.gateway.request("bench.echo", data)

    async with service, connect(url, mint()) as gw:
        assert service.gateway.ready is not None
        assert set(service.gateway.ready.services) == {"bench", "relay"}
        assert await gw.request("relay.echo", b"hi") == b"relayed hi"
        assert await gw.request("echo", b"by subject", tags={"sub": "svc"}) == b"by subject"


async def test_refusals(node: Node, mint: Mint) -> None:
    url = url_of(node, "ws")
    with pytest.raises(SetupRefused) as bad:
        await connect(url, "no.such.token").open()
    assert bad.value.name == "REJECTED_SETUP"
    with pytest.raises(SetupRefused):
        await bench(url, mint("svc", services=("other",))).start()
    async with connect(url, mint("limited", "user", routes=("bench.*",))) as gw:
        with pytest.raises(RequestFailed) as refused:
            await gw.request("secret.read")
        assert refused.value.code == 0x202


async def test_a_service_that_dies_fails_its_calls(url: str, mint: Mint) -> None:
    service = bench(url, mint(), reconnect=False)
    await service.start()
    async with connect(url, mint()) as gw:
        answer = asyncio.create_task(gw.request("bench.never"))
        ticks = gw.stream("bench.for-ever", n=1)
        await anext(ticks)
        await service.close()
        for waiting in (answer, asyncio.ensure_future(anext(ticks))):
            with pytest.raises(RequestFailed) as gone:
                await asyncio.wait_for(waiting, 30)
            # What had arrived before the end may still be read.
            assert (gone.value.code, gone.value.text) == (0x203, "responder disconnected")


async def test_draining_node_finishes_requests(node: Node, mint: Mint) -> None:
    url = url_of(node, "ws")
    go = asyncio.Event()
    service = Service(url, mint(), name="slow", reconnect=False)

    @service.request_response("answer")
    async def answer(data: bytes) -> bytes:
        await go.wait()
        return b"in the end"

    async with service:
        gw = connect(url, mint(), reconnect=False)
        await gw.open()
        asking = asyncio.create_task(gw.request("slow.answer"))
        while not node.plane.busy:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stopping = asyncio.create_task(node.stop())
        while not node.plane.draining:  # noqa: ASYNC110
            await asyncio.sleep(0)
        go.set()
        assert await asking == b"in the end"
        await stopping
        await asyncio.wait_for(gw.wait_closed(), 30)
        with pytest.raises(ConnectionLost):
            await gw.request("slow.answer")
        await gw.close()


async def test_service_returns_after_a_restart_of_the_node(tmp_path: Path) -> None:
    first = Node(load(None, {}, settings(tmp_path / "data"), dev=True, secrets=tmp_path / "none"))
    await first.start()
    port = first.websocket_port
    url, mint = url_of(first, "ws"), minting(first.identity)
    states: asyncio.Queue[bool] = asyncio.Queue()
    options = {"backoff": (0.001, 0.02)}
    async with (
        bench(url, mint, on_state=lambda up, reason: states.put_nowait(up), **options),
        connect(url, mint(), **options) as gw,
    ):
        assert await states.get()
        await first.stop()
        assert not await states.get()
        again = Node(
            load(
                None,
                {},
                settings(tmp_path / "data", **{"listen.websocket": f"127.0.0.1:{port}"}),
                dev=True,
                secrets=tmp_path / "none",
            )
        )
        await again.start()
        assert await asyncio.wait_for(states.get(), 30)
        assert await gw.request("bench.echo", b"back") == b"back"
    await again.stop()


async def test_tls(tmp_path: Path) -> None:
    """wss and tls as in production: the node's own certificate, verified with its ca.pem."""
    node = Node(load(None, {}, settings(tmp_path / "data"), secrets=tmp_path / "none"))
    await node.start()
    mint, ca = minting(node.identity), node.identity.ca_path
    for scheme in ("wss", "tls"):
        url = url_of(node, scheme)
        async with bench(url, mint(), ca=ca), connect(url, mint(), ca=ca) as gw:
            assert await gw.request("bench.echo", bytes(100_000)) == bytes(100_000)
        with pytest.raises(Unreachable, match="cannot trust"):
            await connect(url, mint()).open()
        with pytest.raises(Unreachable, match=r"does it speak TLS|cannot reach"):
            await connect(url.replace("wss", "ws").replace("tls", "tcp"), mint(), connect_timeout=1).open()
    await node.stop()


async def test_many_requests_at_once(url: str, mint: Mint) -> None:
    async with bench(url, mint()), connect(url, mint()) as gw:
        answers = await asyncio.gather(*(gw.request("bench.echo", b"%d" % i, timeout=30) for i in range(2000)))
        assert answers == [b"%d" % i for i in range(2000)]
