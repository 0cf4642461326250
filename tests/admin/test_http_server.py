import asyncio
import contextlib
import errno
import logging
import signal
import socket

import pytest
from starlette.types import Receive, Scope, Send

from gateway.admin.http_server import HttpServer
from gateway.errors import ConfigError
from tests.admin.http_exchange import ask


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Slow:
    """Answers when it is told to; knows when a request has arrived."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.go.wait()
        await hello(scope, receive, send)


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """More than the kernel's buffers take from a peer that does not read."""
    body = bytes(16 * 2**20)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def test_it_serves_until_it_is_stopped() -> None:
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    answer = await ask(port, "/")
    assert (answer.status, answer.body) == (200, b"hello")
    assert "server" not in answer.headers
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_it_leaves_no_task_behind_and_stopping_twice_is_fine() -> None:
    before = asyncio.all_tasks()
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"hello")
    await server.stop()
    await server.stop()
    assert asyncio.all_tasks() == before
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_stopping_at_once_after_starting_is_fine() -> None:
    before = asyncio.all_tasks()
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen")
    await server.start()
    await server.stop()
    assert asyncio.all_tasks() == before


async def test_stopping_what_never_started_is_fine() -> None:
    await HttpServer(hello, "127.0.0.1", 0, "telemetry.listen").stop()


async def test_it_prints_nothing_logs_nothing_and_leaves_signals_alone(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    await ask(port, "/")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await server.stop()
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert capfd.readouterr() == ("", "")


async def test_a_taken_port_names_the_setting_and_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer(hello, "127.0.0.1", port, "telemetry.listen")
        with pytest.raises(ConfigError) as caught:
            await server.start()
        assert str(caught.value) == f"telemetry.listen: cannot listen on 127.0.0.1:{port}: Address already in use"
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EADDRINUSE
    await server.stop()


@pytest.mark.parametrize(("host", "shown"), [("192.0.2.1", "192.0.2.1:9879"), ("2001:db8::1", "[2001:db8::1]:9879")])
async def test_an_address_of_another_machine_is_named_too(host: str, shown: str) -> None:
    with pytest.raises(ConfigError, match=r"^admin\.listen: cannot listen on ") as caught:
        await HttpServer(hello, host, 9879, "admin.listen").start()
    assert shown in str(caught.value)


async def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(ConfigError, match=r"^telemetry\.listen: cannot listen on no such host:9879: "):
        await HttpServer(hello, "no such host", 9879, "telemetry.listen").start()


@pytest.mark.parametrize("host", ["localhost", "", "0.0.0.0"])
async def test_names_and_wildcards_listen_on_ipv4(host: str) -> None:
    server = HttpServer(hello, host, 0, "telemetry.listen")
    port = await server.start()
    assert (await ask(port, "/")).status == 200
    await server.stop()


async def test_a_response_under_way_is_finished_before_it_stops() -> None:
    app = Slow()
    server = HttpServer(app, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    asking = asyncio.create_task(ask(port, "/"))
    await app.asked.wait()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    app.go.set()
    assert (await asking).body == b"hello"
    await stopping


async def test_a_peer_that_does_not_read_cannot_hold_up_the_stop() -> None:
    before = asyncio.all_tasks()
    server = HttpServer(flood, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n")
    async with asyncio.timeout(30):
        await server.stop()
    assert asyncio.all_tasks() == before
    writer.transport.abort()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx",
    ],
    ids=["nothing", "half a head", "a request and no other", "half a body"],
)
async def test_a_connection_that_sends_no_whole_request_in_time_is_ended(sent: bytes) -> None:
    """Fault 4: a slow header or body does not hold a connection."""
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen", request_seconds=1)
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
    writer.transport.abort()
    await server.stop()


async def test_a_head_that_trickles_in_does_not_put_off_the_end() -> None:
    """Fault 4: the time is for the whole head, not for its next byte."""
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen", request_seconds=1)
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(30):
        while not ended.done():
            writer.write(b"G")
            await asyncio.wait({ended}, timeout=0.05)
    with contextlib.suppress(ConnectionResetError):
        ended.result()
    writer.transport.abort()
    await server.stop()


async def test_the_number_of_connections_is_bounded() -> None:
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen", max_connections=3)
    port = await server.start()
    kept = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        kept.append((reader, writer))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.transport.abort()

    reader, writer = kept[0]
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert (await ask(port, "/")).status == 200
    for _, writer in kept:
        writer.transport.abort()
    await server.stop()


async def test_pipelined_requests_are_all_answered() -> None:
    server = HttpServer(hello, "127.0.0.1", 0, "telemetry.listen")
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).count(b"hello") == 3
    writer.close()
    await server.stop()
