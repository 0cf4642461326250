"""Stock RSocket clients talk to each other through the node: every library calls every library, over both transports.

What a library cannot do is said where it is declared (``peers.LIBRARIES``), and what cannot be seen through it is
looked at on the wire, by a raw client in its place:

- rsocket-py 0.4.20 as caller drops an ERROR with a code that the specification does not name and waits for ever. It
  asks for APPLICATION_ERROR instead; that the code it would get is intact shows ``test_error_codes_on_the_wire``.
- rsocket-js 0.0.27 as responder sends every error as APPLICATION_ERROR; its text must still be intact.
- rsocket-js 0.0.27 makes no fragments, and 1.0.0-alpha.3 none of its answers; both put together those of others.
- rsocket-js 0.0.27 as responder overlooks the C flag of REQUEST_CHANNEL, so no channel here ends with its first item.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.wire import brokering, frames, metadata, mimetypes
from tests.interop.conftest import TRANSPORTS, Fleet, Node
from tests.interop.interactions import WAIT_S, InteractionModels, Line, until
from tests.interop.peers import (
    APPLICATION_ERROR,
    CUSTOM_ERROR,
    FRAGMENT_BYTES,
    LIBRARIES,
    Library,
    RemoteError,
    address,
    broker_frame,
    route_setup,
)
from tests.rawclient import RawClient, composite

# What a library adds to a fragment beyond the size that it was told: header, lengths, credit, or the TCP prefix.
FRAGMENT_OVERHEAD = 16
PAYLOAD_BYTES = 64 * 1024
PAYLOAD = "".join(chr(97 + (i * 31 + i // 1000) % 26) for i in range(PAYLOAD_BYTES))
REJECTED_SETUP, REJECTED, CANCELED = 0x003, 0x202, 0x203

callers = pytest.mark.parametrize("caller", LIBRARIES, ids=lambda library: f"from-{library}")
servers = pytest.mark.parametrize("server", LIBRARIES, ids=lambda library: f"to-{library}")
routes = pytest.mark.parametrize(("caller_transport", "server_transport"), [("ws", "tcp"), ("tcp", "ws")])
transports = pytest.mark.parametrize("transport", TRANSPORTS)
pytestmark = pytest.mark.xdist_group("interop")


@pytest.fixture
def line(fleet: Fleet, caller: Library, server: Library, caller_transport: str, server_transport: str) -> Line:
    fleet.peer(server)
    return Line(fleet.peer(caller), caller_transport, fleet.service(server, server_transport))


@pytest.fixture
def codes(caller: Library, server: Library) -> tuple[int, int]:
    """The code to ask the server for and the one that must come back."""
    asked = CUSTOM_ERROR if caller.reads_custom_codes else APPLICATION_ERROR
    return asked, asked if server.sends_custom_codes else APPLICATION_ERROR


@callers
@servers
@routes
class TestInteractionModels(InteractionModels):
    payload = PAYLOAD

    def test_what_the_service_is_told_of_the_caller(self, line: Line) -> None:
        """The node adds who calls as one entry, takes the rest as it came, and keeps the route first."""
        seen = [(mime, bytes.fromhex(content)) for mime, content in line.ask("seen")]
        assert seen[0][0] == mimetypes.ROUTING
        principals = [json.loads(content) for mime, content in seen if mime == mimetypes.PRINCIPAL]
        assert [(who["subject"], who["kind"]) for who in principals] == [("interop", "service")]
        assert mimetypes.AUTHENTICATION not in [mime for mime, _ in seen]


@callers
@transports
class TestCallers:
    def test_no_such_service(self, fleet: Fleet, caller: Library, transport: str) -> None:
        with pytest.raises(RemoteError, match=r"nobody\.home") as caught:
            fleet.peer(caller).request(transport, "nobody.home")
        assert caught.value.code == REJECTED

    async def test_address_frame(self, fleet: Fleet, caller: Library, transport: str, raw_service: RawService) -> None:
        """An ADDRESS beats the route; rsocket-java's is encoded by the broker client itself."""
        frame = address(raw_service.name)
        request = fleet.peer(caller).request
        answer = await asyncio.to_thread(request, transport, "nobody.home", "by address", frames=[frame])
        assert answer == "by address"
        broker_entries = [content for mime, content in raw_service.entries if mime == mimetypes.BROKER_FRAME]
        assert [content.hex() for content in broker_entries] == [frame["hex"]]

    async def test_request_in_fragments(
        self, fleet: Fleet, caller: Library, transport: str, raw_service: RawService
    ) -> None:
        """P40: the fragments that a library makes cross the node one by one, and those of the answer come back."""
        route = f"{raw_service.name}.echo"
        assert await asyncio.to_thread(fleet.peer(caller).request, transport, route, PAYLOAD) == PAYLOAD
        sizes = raw_service.request_frame_sizes
        if caller.fragments_requests:
            assert len(sizes) > PAYLOAD_BYTES // (FRAGMENT_BYTES + FRAGMENT_OVERHEAD)
            # The first one also has the metadata that the node added.
            assert max(sizes[1:]) <= FRAGMENT_BYTES + FRAGMENT_OVERHEAD
        else:
            assert len(sizes) == 1

    @pytest.mark.parametrize("kind", ["garbage", "tampered", "not granted"])
    def test_refused_setup(
        self, node: Node, fleet: Fleet, caller: Library, transport: str, kind: str, bad: Bad
    ) -> None:
        """P03: ERROR[REJECTED_SETUP] with a reason that a person can act on reaches the library before the close."""
        services = (route_setup("not.mine"),)
        with pytest.raises(RemoteError) as caught:
            fleet.peer(caller).connect("refused", node.url(transport), bad[kind], services=services)
        assert caught.value.code == REJECTED_SETUP
        assert ("not.mine" if kind == "not granted" else "token") in caught.value.text


def test_keepalives_hold_a_connection_beyond_its_lifetime(node: Node, token: str, fleet: Fleet) -> None:
    """P10, P12: each library counts the node as dead when its keepalives go unanswered for a lifetime."""
    opened = [
        (fleet.peer(library), transport, f"short-{transport}")
        for library in fleet.libraries
        for transport in TRANSPORTS
    ]
    for peer, transport, connection in opened:
        peer.connect(connection, node.url(transport), token, keepalive_ms=200, lifetime_ms=1_000)
    time.sleep(1.5)
    for peer, _, connection in opened:
        peer.request(connection, "gateway.ready")
        peer.command("close", connection=connection)


@servers
@transports
class TestServers:
    async def test_error_codes_on_the_wire(self, fleet: Fleet, server: Library, transport: str, raw: RawClient) -> None:
        fleet.peer(server)
        data = json.dumps({"code": CUSTOM_ERROR, "text": "außer Betrieb"}).encode()
        number = raw.request(f"{fleet.service(server, transport)}.fail", data)
        code = CUSTOM_ERROR if server.sends_custom_codes else APPLICATION_ERROR
        assert await raw.recv() == frames.Error(number, code, "außer Betrieb")

    async def test_answer_in_fragments(self, fleet: Fleet, server: Library, transport: str, raw: RawClient) -> None:
        """P40: the library reassembles a request in fragments; its own fragments cross the node one by one."""
        fleet.peer(server)
        number = raw.next_stream_id()
        route = composite(f"{fleet.service(server, transport)}.echo")
        raw.send(*frames.fragment(frames.RequestResponse(number, route, PAYLOAD.encode()), FRAGMENT_BYTES))
        got = []
        while not got or got[-1].follows:
            answer = await raw.recv()
            assert isinstance(answer, frames.Payload), answer
            got.append(answer)
        assert b"".join(part.data for part in got).decode() == PAYLOAD
        assert got[-1].complete or got[-1].next
        if server.fragments_answers:
            assert len(got) > PAYLOAD_BYTES // (FRAGMENT_BYTES + FRAGMENT_OVERHEAD)
            assert max(len(part.data) for part in got) <= FRAGMENT_BYTES
        else:
            assert len(got) == 1

    async def test_a_service_that_leaves_in_mid_stream(
        self, node: Node, token: str, fleet: Fleet, server: Library, transport: str, raw: RawClient
    ) -> None:
        """The requester gets ERROR[CANCELED]."""
        peer = fleet.peer(server)
        service = f"leaving-{uuid.uuid4()}"
        await asyncio.to_thread(peer.connect, "leaving", node.url(transport), token, services=(route_setup(service),))
        number = raw.next_stream_id()
        asked = json.dumps({"key": service, "count": 100}).encode()
        raw.send(frames.RequestStream(number, composite(f"{service}.items"), asked, 1))
        assert await raw.recv() == frames.Payload(number, None, b"0", next=True)
        await asyncio.to_thread(peer.command, "close", connection="leaving")
        ended = await raw.recv()
        assert isinstance(ended, frames.Error)
        assert (ended.stream_id, ended.code) == (number, CANCELED)

    async def test_a_requester_that_leaves_in_mid_stream(
        self, node: Node, token: str, fleet: Fleet, server: Library, transport: str
    ) -> None:
        """The responder gets CANCEL."""
        peer = fleet.peer(server)
        key = str(uuid.uuid4())
        route = composite(f"{fleet.service(server, transport)}.items")
        async with await RawClient.connect_ws(node.ws_port) as leaving:
            leaving.setup(token)
            leaving.send(frames.RequestStream(1, route, json.dumps({"key": key, "count": 100}).encode(), 1))
            assert isinstance(await leaving.recv(), frames.Payload)
            leaving.abort()

        def cancelled() -> bool:
            progress = peer.ask(transport, f"{fleet.service(server, transport)}.progress", key)
            return progress == {"produced": 1, "cancelled": True}

        await asyncio.to_thread(until, cancelled, "the stream is cancelled")


ROUTE_ID, BROKER_ID = (0x11).to_bytes(16, "big"), (0xB1).to_bytes(16, "big")
JAVA = tuple(library for library in LIBRARIES if library.name.startswith("rsocket-java"))


@pytest.mark.parametrize("library", JAVA, ids=str)
@pytest.mark.parametrize(
    "frame",
    [
        brokering.RouteSetup(ROUTE_ID, "pong"),
        brokering.RouteSetup(ROUTE_ID, "pong", ((brokering.INSTANCE_NAME, "p1"), ("zone", "eu"))),
        brokering.RouteJoin(BROKER_ID, ROUTE_ID, 1_700_000_000_000, "pong", ((brokering.SERVICE_NAME, "pong"),)),
        brokering.RouteRemove(BROKER_ID, ROUTE_ID, 1_700_000_000_000),
        brokering.BrokerInfo(
            BROKER_ID,
            1_700_000_000_000,
            ((brokering.BROKER_PROXY_URI, "tcp://a:1"), (brokering.BROKER_CLUSTER_URI, "tcp://a:2")),
        ),
        brokering.Address(ROUTE_ID, ((brokering.SERVICE_NAME, "pong"),), brokering.Cast.UNICAST),
        brokering.Address(ROUTE_ID, (("zone", "eu"), ("größe", "µ" * 60)), brokering.Cast.UNICAST),
    ],
    ids=lambda frame: frame.frame_type.name,
)
def test_broker_frames_are_the_broker_clients_bytes(
    fleet: Fleet, library: Library, frame: brokering.BrokerFrame
) -> None:
    """The vectors of the broker protocol come out of the broker client's own encoders."""
    assert fleet.peer(library).command("encode", frame=broker_frame(frame))["data"] == brokering.encode(frame).hex()


class RawService:
    """A service that echoes in fragments, and shows what reached it: the frames of a request and its metadata."""

    def __init__(self, client: RawClient, name: str) -> None:
        self.name = name
        self.request_frame_sizes: list[int] = []
        self.entries: list[tuple[str, bytes]] = []
        self._client = client

    async def run(self) -> None:
        request = frames.Reassembly(max_bytes=1 << 20, max_fragments=1 << 10)
        while True:
            received = await self._client.recv_bytes(WAIT_S * 2)
            frame = frames.decode(received)
            assert isinstance(frame, frames.RequestResponse | frames.Payload), frame
            self.request_frame_sizes.append(len(received))
            whole = request.add(frame)
            if whole is not None:
                assert whole.metadata is not None
                self.entries = metadata.decode_composite(whole.metadata)
                answer = frames.Payload(whole.stream_id, None, whole.data, complete=True, next=True)
                self._client.send(*frames.fragment(answer, FRAGMENT_BYTES))


@pytest.fixture
async def raw(node: Node, token: str) -> AsyncIterator[RawClient]:
    async with await RawClient.connect_tcp(node.tcp_port) as client:
        client.setup(token)
        await client.ready()
        yield client


@pytest.fixture
async def raw_service(node: Node, token: str) -> AsyncIterator[RawService]:
    async with await RawClient.connect_tcp(node.tcp_port) as client:
        name = f"raw-{uuid.uuid4()}"
        client.setup(token, [name])
        await client.ready()
        service = RawService(client, name)
        running = asyncio.create_task(service.run())
        yield service
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


Bad = dict[str, str]


@pytest.fixture(scope="package")
def bad(node: Node, token: str) -> Bad:
    """Tokens that must not be let in: no token at all, one whose claims were changed, one that may not register."""
    head, claims, signature = token.split(".")
    return {
        "garbage": "garbage",
        "tampered": ".".join((head, claims[:-2] + ("AA" if claims[-2:] != "AA" else "BB"), signature)),
        "not granted": node.mint("intruder", services="something.else"),
    }
