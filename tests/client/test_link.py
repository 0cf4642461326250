"""The link: refusals, losing and regaining the node, liveness, draining, TLS."""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import trustme

from gateway.client import ConnectionLost, Gateway, RequestFailed, Service, SetupRefused, Unreachable, connect
from gateway.wire import brokering, frames
from gateway.wire.metadata import Bearer, decode_authentication, decode_composite
from tests.client.peer import Link, free_port, listening

QUICK = (0.001, 0.01)


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
@pytest.mark.parametrize(("code", "name"), [(0x001, "INVALID_SETUP"), (0x003, "REJECTED_SETUP")])
async def test_refused_setup(scheme: str, code: int, name: str) -> None:
    """P03 as the client sees it: the node's code and text, not a lost connection."""
    async with listening(scheme) as peer:

        async def refuse(link: Link) -> None:
            link.answer_ready = False
            await link.send(frames.Error(0, code, "token expired 4 m ago; device clock may be wrong"))
            link.hang_up()

        async def gently(link: Link) -> None:
            link.answer_ready = False
            await link.send(frames.Error(0, code, "token expired 4 m ago; device clock may be wrong"))

        for way in (gently, refuse) if scheme == "ws" else (gently,):
            peer.on_link = way
            with pytest.raises(SetupRefused) as refused:
                async with connect(peer.url, "old"):
                    pass
            assert (refused.value.code, refused.value.name) == (code, name)
            assert refused.value.text == "token expired 4 m ago; device clock may be wrong"


async def test_unreachable_is_told_at_once() -> None:
    port = free_port()
    for url in (f"ws://127.0.0.1:{port}/rsocket", f"tcp://127.0.0.1:{port}", f"tcp://localhost:{port}"):
        with pytest.raises(Unreachable, match=r": connection refused$"):
            async with connect(url, "token"):
                pass
    with pytest.raises(ValueError, match="use ws://"):
        await connect("http://127.0.0.1/", "token").open()


async def test_a_web_server_is_no_gateway() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/stolen\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # A redirect is not followed: it would carry the token to another host.
    with pytest.raises(Unreachable, match="302"):
        await connect(f"ws://127.0.0.1:{port}/rsocket", "token").open()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
async def test_reconnects_registers_again_and_asks_for_a_fresh_token(scheme: str) -> None:
    numbers = count(1)

    async def token() -> str:
        return f"token-{next(numbers)}"

    states: list[bool] = []
    async with listening(scheme) as peer:
        service = Service(peer.url, token, name="thermo", backoff=QUICK, on_state=lambda up, reason: states.append(up))

        @service.request_response("read")
        async def read(data: bytes) -> bytes:
            return b"21.5"

        async with service:
            ids = set()
            for attempt in (1, 2, 3):
                link = await asyncio.wait_for(peer.links.get(), 30)
                setup = await link.expect(frames.Setup)
                (_, auth), (_, registration) = decode_composite(setup.metadata or b"")
                assert decode_authentication(auth) == Bearer(b"token-%d" % attempt)
                route = brokering.decode(registration)
                assert isinstance(route, brokering.RouteSetup)
                ids.add(route.route_id)
                # A call made while the link is down waits for it.
                asking = asyncio.create_task(service.gateway.request("a.b"))
                request = await link.expect(frames.RequestResponse)
                await link.send(frames.Payload(request.stream_id, None, b"ok", complete=True, next=True))
                assert await asking == b"ok"
                link.hang_up()
            assert len(ids) == 1
        assert states[:5] == [True, False, True, False, True]


async def test_backoff_has_full_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """random.uniform(0, min(cap, base * 2**n)), from the first attempt on."""
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    enough = asyncio.Event()
    async with listening() as peer:
        gw = connect(peer.url, "token", backoff=(0.5, 4.0))
        await gw.open()
        link = await peer.links.get()

        async def refuse(link: Link) -> None:
            if len(asked) >= 7:
                enough.set()
                return
            link.hang_up()

        peer.on_link = refuse
        link.hang_up()
        await asyncio.wait_for(enough.wait(), 30)
        await gw.close()
    assert asked[:7] == [(0, 0.5), (0, 1.0), (0, 2.0), (0, 4.0), (0, 4.0), (0, 4.0), (0, 4.0)]


async def test_a_service_waits_for_a_node_that_is_not_there_yet() -> None:
    port = free_port()
    service = Service(f"tcp://127.0.0.1:{port}", "token", name="thermo", backoff=QUICK)
    running = asyncio.create_task(service.run())
    seen = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        seen.set()
        writer.close()

    await asyncio.sleep(0)
    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await asyncio.wait_for(seen.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    server.close()
    await server.wait_closed()


async def test_silent_node_is_given_up_after_the_lifetime() -> None:
    """P12 as a client: no frame within the lifetime means that the link is dead, half-open sockets included."""
    async with listening() as peer:

        async def mute(link: Link) -> None:
            link.answer_keepalive = False

        peer.on_link = mute
        gw = connect(peer.url, "token", keepalive=0.05, lifetime=0.3, reconnect=False)
        await gw.open()
        await asyncio.wait_for(gw.wait_closed(), 30)
        with pytest.raises(ConnectionLost, match="silent"):
            await gw.request("a.b")
        await gw.close()


async def test_keepalives_hold_the_link_and_the_nodes_are_answered() -> None:
    """P10, P11: ours ask for an answer; the node's are answered with their data and position 0."""
    async with listening() as peer, connect(peer.url, "token", keepalive=0.02, lifetime=0.5) as gw:
        link = await peer.links.get()
        for _ in range(3):
            assert (await link.expect(frames.KeepAlive)).respond
        await link.send(frames.KeepAlive(True, 77, b"ping"))
        assert await link.expect(frames.KeepAlive, lambda frame: not frame.respond) == frames.KeepAlive(
            False, 0, b"ping"
        )
        assert gw.up


async def test_connection_close_lets_streams_finish() -> None:
    """CONNECTION_CLOSE: what is under way finishes on the old connection, new requests go over the next."""
    async with listening() as peer, connect(peer.url, "token", backoff=QUICK) as gw:
        link = await peer.links.get()
        old = asyncio.create_task(gw.request("a.slow"))
        request = await link.expect(frames.RequestResponse)
        await link.send(frames.Error(0, 0x102, "draining"))
        successor = await asyncio.wait_for(peer.links.get(), 30)
        new = asyncio.create_task(gw.request("a.next"))
        second = await successor.expect(frames.RequestResponse)
        await successor.send(frames.Payload(second.stream_id, None, b"new", complete=True, next=True))
        assert await new == b"new"
        assert not link.closed.is_set()
        await link.send(frames.Payload(request.stream_id, None, b"old", complete=True, next=True))
        assert await old == b"old"
        await asyncio.wait_for(link.closed.wait(), 30)


async def test_connection_error_says_why() -> None:
    async with listening() as peer:
        gw = connect(peer.url, "token", reconnect=False)
        await gw.open()
        link = await peer.links.get()
        asking = asyncio.create_task(gw.request("a.b"))
        await link.expect(frames.RequestResponse)
        await link.send(frames.Error(0, 0x101, "replaced by a newer connection"))
        with pytest.raises(ConnectionLost, match="replaced by a newer connection"):
            await asking
        await asyncio.wait_for(gw.wait_closed(), 30)
        await gw.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        bytes.fromhex("00000001" "2960" "ffffff"),  # PAYLOAD whose metadata goes beyond the frame
        bytes.fromhex("00000001" "7c00"),  # a type that nobody knows, without I
    ],
)  # fmt: skip
async def test_malformed_frames_end_the_connection(data: bytes) -> None:
    """P23, P24: CONNECTION_ERROR and close; an empty message is one of them (rsocket-py's parser never returns)."""
    async with listening() as peer:
        gw = connect(peer.url, "token", reconnect=False)
        await gw.open()
        link = await peer.links.get()
        await link.send_bytes(data)
        error = await link.expect(frames.Error)
        assert (error.stream_id, error.code) == (0, 0x101)
        await asyncio.wait_for(gw.wait_closed(), 30)
        await gw.close()


async def test_frames_to_ignore_are_ignored() -> None:
    """P22, P23: unknown streams, unknown types with I, frames that a client has no use for."""
    async with listening() as peer, connect(peer.url, "token", reconnect=False) as gw:
        link = await peer.links.get()
        await link.send_bytes(bytes.fromhex("000000007e00"))
        await link.send(
            frames.Payload(99, None, b"x", next=True),
            frames.Cancel(98),
            frames.Error(97, 0x301, "?"),
            frames.RequestN(95, 3),
            frames.MetadataPush(b"news"),
            frames.Lease(1000, 5),
        )
        asking = asyncio.create_task(gw.request("a.b"))
        request = await link.expect(frames.RequestResponse)
        await link.send(frames.Payload(request.stream_id, None, b"fine", complete=True, next=True))
        assert await asking == b"fine"


async def test_something_else_behind_the_address() -> None:
    async with listening() as peer:

        async def odd(link: Link) -> None:
            link.answer_ready = False

        peer.on_link = odd

        async def answer(gw: Gateway, data: bytes) -> None:
            opening = asyncio.create_task(gw.open())
            link = await peer.links.get()
            request = await link.expect(frames.RequestResponse)
            await link.send(frames.Payload(request.stream_id, None, data, complete=True, next=True))
            await opening

        for data in (b"", b"[]", b'{"node": "x"}'):
            gw = connect(peer.url, "token")
            with pytest.raises(RequestFailed, match="what no gateway does"):
                await answer(gw, data)
            await gw.close()
        mute = connect(peer.url, "token", connect_timeout=0.1)
        with pytest.raises(Unreachable, match="does not answer"):
            await mute.open()


@pytest.mark.parametrize("scheme", ["wss", "tls"])
async def test_tls_with_a_ca_file(scheme: str, tmp_path: Path) -> None:
    """The certificate and its name are verified against the given CA; nothing is accepted unverified."""
    ca, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    wrong_file = tmp_path / "wrong.pem"
    stranger.cert_pem.write_to_path(str(wrong_file))
    async with listening(scheme, context) as peer:
        async with connect(peer.url, "token", ca=ca_file) as gw:
            link = await peer.links.get()
            asking = asyncio.create_task(gw.request("a.b", bytes(100_000)))
            whole = frames.Reassembly(1 << 20, 100)
            request = whole.add(await link.expect(frames.RequestResponse))
            while request is None:
                request = whole.add(await link.expect(frames.Payload))
            await link.send(frames.Payload(request.stream_id, None, request.data, complete=True, next=True))
            assert await asking == bytes(100_000)
        for ca_wrong in (None, wrong_file):
            with pytest.raises(Unreachable, match="cannot trust"):
                await connect(peer.url, "token", ca=ca_wrong).open()
        with pytest.raises(Unreachable, match="cannot trust"):
            await connect(peer.url.replace("localhost", "127.0.0.1"), "token", ca=ca_file).open()


async def test_connect_and_close_leave_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with listening() as peer, listening("tcp") as other:
        for _ in range(10):
            for url in (peer.url, other.url):
                async with connect(url, "token"):
                    pass
        for at in (peer, other):
            while not at.links.empty():
                await asyncio.wait_for((await at.links.get()).closed.wait(), 30)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_import_brings_in_no_node_and_no_command_line() -> None:
    program = (
        "import gateway.client, sys; "
        "unwanted = ('typer', 'pydantic', 'starlette', 'jwt', 'gateway.node', 'gateway.config', 'gateway.forwarding', "
        "'gateway.transport', 'gateway.session', 'gateway.policy', 'gateway.routing', 'gateway.cli'); "
        "found = [name for name in unwanted if name in sys.modules]; "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
