"""The phone page on the devices' port: the files of the admin port, cheap, and only while somebody reads them."""

from __future__ import annotations

import gzip
import socket
from dataclasses import replace

from gateway.admin.static import FOLDER
from gateway.transport.pages import page
from tests.conftest import StartNode
from tests.http_head import send, upgrade
from tests.local_node import LocalNode, call, until

CLIENT = "/phone/client/gateway-client.js"
SOURCE = (FOLDER / "client" / "gateway-client.js").read_bytes()


def get(path: str, *lines: str) -> bytes:
    return ("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines]) + "\r\n\r\n").encode()


def put(node: LocalNode, mebibytes: int) -> None:
    """A page at /large, beyond what any socket's buffers hold."""
    large = page(bytes(mebibytes * 1024 * 1024), None, {"etag": '"large"'})
    node.node.handshake = replace(node.node.handshake, pages={"/large": large})


async def test_files_with_what_browsers_need_of_them(node: LocalNode) -> None:
    plain = await send(node.port("ws"), get(f"{CLIENT}?v=1"))
    assert (plain.status, plain.body) == (200, SOURCE)
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert plain.headers["x-content-type-options"] == "nosniff"
    policy = plain.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self' ws: wss:" in policy
    packed = await send(node.port("ws"), get(CLIENT, "Accept-Encoding: br, gzip"))
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(SOURCE)
    assert gzip.decompress(packed.body) == SOURCE
    again = await send(node.port("ws"), get(CLIENT, f"If-None-Match: {plain.headers['etag']}"))
    assert (again.status, again.body) == (304, b"")
    assert (await send(node.port("ws"), get("/phone"))).headers["location"] == "/phone/"
    assert (await send(node.port("ws"), get("/phone/nothing.js"))).status == 404
    assert (await send(node.port("ws"), get("/phone/../app.css"))).status == 404
    for _ in range(20):
        await send(node.port("ws"), get(CLIENT))
    # Who asks for many pages has done nothing that bars its address.
    assert (await send(node.port("ws"), get("/healthz"))).status == 200


async def test_a_page_is_no_place_for_a_connection(node: LocalNode) -> None:
    assert (await send(node.port("ws"), upgrade(path=CLIENT, method="POST"))).status == 405


async def test_a_large_page_comes_whole(node: LocalNode) -> None:
    put(node, 8)
    assert len((await send(node.port("ws"), get("/large"))).body) == 8 * 1024 * 1024


async def test_none_where_the_setting_says_so(start_node: StartNode) -> None:
    node = await start_node({"listen.pages": False})
    assert (await send(node.port("ws"), get(CLIENT))).status == 404


async def test_who_does_not_read_is_cut_off_and_holds_up_nobody(start_node: StartNode) -> None:
    node = await start_node({"limits.upgrade_timeout_s": 0.5})
    await node.servant()
    put(node, 16)
    (listener,) = [listener for name, listener in node.node.listeners.items() if name == "websocket"]
    before = listener.open_sockets
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", node.port("ws")))
        deaf.sendall(get("/large"))
        await until(lambda: listener.open_sockets == before + 1)
        assert await call(await node.client("tcp"), data=b"meanwhile") == b"meanwhile"
        await until(lambda: listener.open_sockets == before)
