"""`gateway healthcheck` tells a node that works from one that does not, and from none."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway.config import load
from gateway.control.runtime import Runtime
from gateway.node import Node
from tests.cli.conftest import RunningNode, Shell
from tests.client.peer import free_port


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    """An HTTP server that answers everything alike; its host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def runtime(data: Path, **urls: str) -> Path:
    data.mkdir()
    Runtime(os.getpid(), time.time(), **urls).write(data)
    return data


async def test_a_node_that_runs(shell: Shell, node: RunningNode) -> None:
    async with asyncio.timeout(20):
        while Runtime.read(node.data) is None:  # noqa: ASYNC110  (another process writes it when its ports are open)
            await asyncio.sleep(0.02)
    result = await shell.run("healthcheck", "--data", str(node.data))
    assert (result.code, result.out, result.err) == (0, b"healthy\n", "")


async def test_tls_on_every_address(shell: Shell, tmp_path: Path) -> None:
    """The port that devices use is asked, whatever its certificate is for and wherever it listens."""
    listen = {"listen.websocket": "0.0.0.0:0", "listen.tcp": "", "admin.listen": "", "telemetry.listen": "127.0.0.1:0"}
    node = Node(load(environ={}, overrides={"node.data": tmp_path / "data", **listen}))
    await node.start()
    try:
        result = await shell.run("healthcheck", "--data", str(tmp_path / "data"))
        assert (result.code, result.err) == (0, "")
        node.plane.draining = True
        result = await shell.run("healthcheck", "--data", str(tmp_path / "data"))
        assert (result.code, result.out) == (3, b"not ready: draining\n")
    finally:
        await node.stop()


async def test_no_node(shell: Shell, tmp_path: Path) -> None:
    nothing = await shell.run("healthcheck", "--data", str(tmp_path))
    assert nothing.code == 4
    assert "no node runs here" in nothing.err
    gone = runtime(tmp_path / "gone", websocket=f"wss://127.0.0.1:{free_port()}/rsocket")
    result = await shell.run("healthcheck", "--data", str(gone))
    assert result.code == 4
    assert "/healthz does not answer" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("broken", ["websocket", "telemetry"])
async def test_an_answer_that_is_not_ok(shell: Shell, tmp_path: Path, broken: str) -> None:
    """Either port makes it unhealthy, with what the node says of it."""
    with answering(200, "ok\n") as good, answering(503, "no memory\n") as bad:
        urls = {name: f"http://{bad if name == broken else good}" for name in ("websocket", "telemetry")}
        data = runtime(tmp_path / "data", **urls)
        result = await shell.run("healthcheck", "--data", str(data))
    assert (result.code, result.out) == (3, b"no memory\n")


async def test_tcp_alone(shell: Shell, tmp_path: Path) -> None:
    with answering(200, "ok\n") as there:
        up = await shell.run("healthcheck", "--data", str(runtime(tmp_path / "up", tcp=f"tls://{there}")))
    down = await shell.run("healthcheck", "--data", str(runtime(tmp_path / "down", tcp=f"tls://{there}")))
    assert (up.code, down.code) == (0, 4)
