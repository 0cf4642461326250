"""The WebSocket listener: which handshakes it takes, what it says to the others, and how it hands the stream over."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire import frames
from gateway.wire.websocket import masked_message
from tests.conftest import StartNode
from tests.http_head import ACCEPT, send, upgrade
from tests.local_node import LocalNode, call, until
from tests.rawclient import CLOSE, PING, PONG, RawClient


@pytest.mark.parametrize("path", ["/rsocket", "/", "/rsocket?token=ignored"])
async def test_handshake(node: LocalNode, path: str) -> None:
    answer = await send(node.port("ws"), upgrade(path=path))
    assert (answer.status, answer.headers["sec-websocket-accept"]) == (101, ACCEPT)
    assert "sec-websocket-protocol" not in answer.headers


async def test_configured_path(start_node: StartNode) -> None:
    node = await start_node({"listen.path": "/edge"})
    assert (await send(node.port("ws"), upgrade(path="/edge"))).status == 101
    assert (await send(node.port("ws"), upgrade(path="/"))).status == 101
    assert (await send(node.port("ws"), upgrade(path="/rsocket"))).status == 404


@pytest.mark.parametrize(
    ("offered", "status", "chosen"),
    [
        (["rsocket"], 101, "rsocket"),
        (["mqtt, rsocket"], 101, "rsocket"),
        (["mqtt", "rsocket"], 101, "rsocket"),
        (["mqtt"], 400, None),
        (["RSOCKET"], 400, None),
    ],
)
async def test_subprotocol_is_echoed_when_asked_for(
    node: LocalNode, offered: list[str], status: int, chosen: str | None
) -> None:
    """Fault 5: a subprotocol that is not ours is refused; ours is echoed."""
    answer = await send(node.port("ws"), upgrade(*(f"Sec-WebSocket-Protocol: {name}" for name in offered)))
    assert (answer.status, answer.headers.get("sec-websocket-protocol")) == (status, chosen)


_HEADERS = {f"X-{number}": "x" for number in range(200)}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade(path="/nothing"), 404),
        (upgrade(path="/rsocket/x"), 404),
        (upgrade(path="/../rsocket"), 404),
        (upgrade(path="/" + "a" * 9000), 414),
        (upgrade(method="POST"), 405),
        (upgrade(method="POST", path="/nothing"), 405),
        (upgrade(method="OPTIONS"), 405),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (upgrade(version="8"), 426),
        (upgrade("Sec-WebSocket-Version: 8"), 426),
        (upgrade("Sec-WebSocket-Version: 13"), 400),
        (upgrade(version=None), 400),
        (upgrade(key=None), 400),
        (upgrade(key="short"), 400),
        (upgrade(key="!" * 24), 400),
        (upgrade("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (upgrade(connection="keep-alive"), 426),
        (b"GET /rsocket HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (upgrade(protocol="HTTP/1.0"), 505),
        (upgrade(protocol="HTTP/2.0"), 400),
        (upgrade("Transfer-Encoding: chunked"), 400),
        (upgrade("Content-Length: 5"), 400),
        (upgrade("no colon"), 400),
        (upgrade("X-A: " + "a" * 9000), 431),
        (upgrade(*(f"{name}: {value}" for name, value in _HEADERS.items())), 431),
        (b"GET /rsocket HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x00\x00\x3f", 400),
        (bytes.fromhex("16030100"), 400),
    ],
)
async def test_bad_handshakes(node: LocalNode, request_bytes: bytes, status: int) -> None:
    """Faults 4 and 5: each wrong handshake gets its status and is closed; never a 101."""
    answer = await send(node.port("ws"), request_bytes)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["content-length"]) == len(answer.body) > 0
    reasons = {414: ("http_line_bytes",), 431: ("http_line_bytes", "http_headers", "bad_handshake")}
    assert sum(node.counters.closes[reason] for reason in node.counters.closes) == 1
    assert set(node.counters.closes) <= set(reasons.get(status, ("bad_handshake",)))
    assert not node.residue().get("connections")


_PLAIN = upgrade().count(b"\r\n") - 2


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        *[(upgrade(path="/rsocket?" + "a" * (200 - 24 + more)), 101, None) for more in (-1, 0)],
        (upgrade(path="/rsocket?" + "a" * (200 - 24 + 1)), 414, "http_line_bytes"),
        *[(upgrade("X-A: " + "a" * (200 - 7 + more)), 101, None) for more in (-1, 0)],
        (upgrade("X-A: " + "a" * (200 - 7 + 1)), 431, "http_line_bytes"),
        *[(upgrade(*["X-A: a"] * (20 - _PLAIN + more)), 101, None) for more in (-1, 0)],
        (upgrade(*["X-A: a"] * (20 - _PLAIN + 1)), 431, "http_headers"),
    ],
)
async def test_bounds_of_the_head(start_node: StartNode, request_bytes: bytes, status: int, reason: str | None) -> None:
    """limits.http_line_bytes, limits.http_headers, fault 4: one less, the limit, one more. A line's end counts."""
    node = await start_node({"limits.http_line_bytes": 200, "limits.http_headers": 20})
    answer = await send(node.port("ws"), request_bytes)
    assert answer.status == status
    assert {reason: count for reason, count in node.counters.closes.items() if reason.startswith("http")} == (
        {reason: 1} if reason else {}
    )


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_fragments_of_a_message(start_node: StartNode, more: int) -> None:
    """limits.message_fragments, fault 10: one less, the limit, one more, which is 1009."""
    node = await start_node({"limits.message_fragments": 5})
    client = await node.client("ws")
    frame = frames.encode(frames.KeepAlive(respond=True, data=b"whole"))
    pieces = [frame[at : at + 1] for at in range(4 + more)] + [frame[4 + more :]]
    for number, piece in enumerate(pieces):
        opcode = 0x0 if number else 0x2
        client.send_message(piece, opcode=opcode, final=number == len(pieces) - 1)
    if more <= 0:
        assert await client.recv() == frames.KeepAlive(respond=False, data=b"whole")
        return
    code, _ = await client.recv_close()
    assert code == 1009
    assert node.counters.refusals == {"message_fragments": 1}


async def test_upgrade_required_says_which_version(node: LocalNode) -> None:
    """Fault 5: RFC 6455 4.4."""
    answer = await send(node.port("ws"), upgrade(version="12"))
    assert answer.headers["sec-websocket-version"] == "13"
    assert (await send(node.port("ws"), upgrade(method="PUT"))).headers["allow"] == "GET"


@pytest.mark.parametrize("query", ["", "?verbose=1"])
async def test_healthz(node: LocalNode, query: str) -> None:
    answer = await send(node.port("ws"), f"GET /healthz{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert node.counters.closes == {}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("https://app.example", 101),
        ("https://evil.example", 403),
        ("https://app.example.evil.example", 403),
        ("http://app.example", 403),
        ("null", 403),
        ("http://gateway.example:7878", 101),
        ("https://gateway.example:7878", 101),
        ("https://gateway.example", 403),
    ],
)
async def test_origin(start_node: StartNode, origin: str | None, status: int) -> None:
    """Fault 6: a page of another site is kept out unless it is listed; no Origin is no page."""
    node = await start_node({"listen.origins": "https://app.example"})
    lines = [] if origin is None else [f"Origin: {origin}"]
    assert (await send(node.port("ws"), upgrade(*lines))).status == status


async def test_every_origin(start_node: StartNode) -> None:
    node = await start_node({"listen.origins": "*"})
    assert (await send(node.port("ws"), upgrade("Origin: https://any.example"))).status == 101


async def test_two_origins_are_none_that_is_listed(start_node: StartNode) -> None:
    """Fault 6."""
    node = await start_node({"listen.origins": "https://app.example"})
    answer = await send(node.port("ws"), upgrade("Origin: https://app.example", "Origin: https://evil.example"))
    assert answer.status in (400, 403)


async def test_cookies_and_forwarding_headers_mean_nothing(node: LocalNode) -> None:
    """Faults 6 and 7: who a client is comes from SETUP alone, where it is from its socket says."""
    forged = [
        ("Cookie", f"token={node.token()}"),
        ("Authorization", f"Bearer {node.token()}"),
        ("X-Forwarded-For", "10.9.8.7"),
        ("Forwarded", "for=10.9.8.7"),
        ("X-Real-IP", "10.9.8.7"),
    ]
    client = await node.connect(headers=forged)
    (connection,) = [c for c in node.node.plane.connections.values() if c.kind == "client"]
    assert connection.peer.startswith("websocket 127.0.0.1:")
    client.setup(None)
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.code, (await client.recv_close())[0]) == (0x003, 4401)


@pytest.mark.parametrize(
    "offer",
    ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame", "permessage-bzip2"],
)
async def test_compression_is_never_negotiated(node: LocalNode, offer: str) -> None:
    """Fault 11: no bomb where nothing is ever inflated; a message that claims to be compressed is a violation."""
    answer = await send(node.port("ws"), upgrade(f"Sec-WebSocket-Extensions: {offer}"))
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers
    client = await node.client(headers=[("Sec-WebSocket-Extensions", offer)])
    client.send_raw(bytes((0xC2, 0x84)) + bytes(8))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert await client.recv_close() == (1002, "reserved bits are set")


async def _raw(node: LocalNode) -> RawClient:
    """A socket to the WebSocket port; the test writes the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port("ws"))
    client = RawClient(reader, writer, websocket=True)
    node.clients.append(client)
    return client


async def _take_head(client: RawClient) -> bytes:
    async with asyncio.timeout(30):
        return await client._reader.readuntil(b"\r\n\r\n")


async def test_handshake_byte_by_byte(node: LocalNode) -> None:
    client = await _raw(node)
    for byte in upgrade():
        client.send_raw(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await _take_head(client)).startswith(b"HTTP/1.1 101 ")
    client.setup(node.token())
    assert (await client.ready())["sub"] == "tester"


async def test_everything_in_one_segment(node: LocalNode) -> None:
    """P09: a client may send SETUP and requests at once; here even in one segment with the handshake."""
    client = await _raw(node)
    setup = client._framed(frames.encode(client.setup_frame(node.token())))
    client.send_raw(upgrade() + setup)
    client.request("gateway.time")
    assert (await _take_head(client)).startswith(b"HTTP/1.1 101 ")
    answer = await client.recv()
    assert isinstance(answer, frames.Payload)
    assert b'"time"' in answer.data


@pytest.mark.parametrize("cut", [1, 100, 155, 156, 157, 160, 163, 170, 300])
async def test_handshake_and_setup_cut_anywhere(node: LocalNode, cut: int) -> None:
    client = await _raw(node)
    data = upgrade() + client._framed(frames.encode(client.setup_frame(node.token())))
    client.send_raw(data[:cut])
    connections = len(node.node.listeners["websocket"]._carriers)
    await until(lambda: len(node.node.listeners["websocket"]._carriers) >= max(1, connections))
    await asyncio.sleep(0.01)
    client.send_raw(data[cut:])
    assert (await _take_head(client)).startswith(b"HTTP/1.1 101 ")
    assert (await client.ready())["sub"] == "tester"


async def test_draining_node_takes_no_handshake(node: LocalNode) -> None:
    """A socket that was accepted before: 503, and when to try again."""
    client = await _raw(node)
    await until(lambda: node.node.listeners["websocket"].open_sockets)
    node.node.plane.draining = True
    client.send_raw(upgrade())
    head = await _take_head(client)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in head


async def test_close_is_answered_in_kind(node: LocalNode) -> None:
    client = await node.client(serving=("echo",))
    client.send_message((4000).to_bytes(2, "big") + b"bye", opcode=CLOSE)
    assert await client.recv_close() == (4000, "")
    assert node.counters.closes == {"peer_closed": 1}
    client = await node.client()
    client.send_message(b"", opcode=CLOSE)
    assert (await client.recv_close())[0] == 1000


async def test_nothing_is_taken_after_a_close(node: LocalNode) -> None:
    client = await node.client()
    number = client.next_stream_id()
    request = frames.encode(frames.RequestResponse(number, None, b""))
    key = bytes(4)
    client.send_raw(masked_message(b"\x03\xe8", key, CLOSE) + masked_message(request, key))
    assert await client.recv_close() == (1000, "")
    assert client.skipped == []


async def test_pings_are_answered_the_newest_once_a_turn(node: LocalNode) -> None:
    """RFC 6455 5.5.3; fault 12: pings that came together get one pong."""
    client = await node.client()
    pings = b"".join(masked_message(b"%d" % number, b"\1\2\3\4", PING) for number in range(50))
    client.send_raw(pings)
    await client.barrier()
    client.send_message(b"last", opcode=PING)
    await client.barrier()
    assert client.pongs[-1] == b"last"
    assert client.pongs[-2] == b"49"
    assert len(client.pongs) <= 10


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_ping_and_pong_floods_end(node: LocalNode, opcode: int) -> None:
    """Fault 12: more than 200 in 10 s is no sign of life any more: 1008; memory holds one pong, not one a ping."""
    client = await node.client(kind="device")
    flood = masked_message(bytes(125), b"\1\2\3\4", opcode) * 50_000
    client.send_raw(flood)
    assert (await client.recv_close())[0] == 1008
    (error,) = client.skipped
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x101)
    assert len(client.pongs) <= 200


async def test_healthy_clients_outlive_all_that(node: LocalNode) -> None:
    """Handshakes that fail, sockets that only connect, resets: another client on the same port notices nothing."""
    servant = await node.servant("ws")
    client = await node.client()
    for request in (b"", b"GET", upgrade(path="/x"), upgrade()[:50], b"\x16\x03\x01"):
        for abort in (True, False):
            stranger = await _raw(node)
            stranger.send_raw(request)
            await asyncio.sleep(0)
            if abort:
                stranger.abort()
            else:
                await stranger.close()
        assert await call(client) == b"hello"
    assert servant.got(frames.RequestResponse)
    await until(lambda: node.node.listeners["websocket"].open_sockets == 2)
