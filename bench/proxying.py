"""Requests through an HTTP/1.1 reverse proxy to a small server, both ends in this process.

A connection has one request in flight: as many connections as a shape has requests. The server is reached through
connections that the proxy keeps open.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import cast

from bench.echo import Link, Nats, Score, run
from gateway.load.shape import Result, Shape

_END = b"\r\n\r\n"


class HttpCaller(Link):
    """Sends the next request when the answer to the last one is whole. The body of both is the payload."""

    def __init__(self, score: Score, payload: bytes) -> None:
        super().__init__(Nats("http"), score, b"", 0)
        self._payload = payload
        self._request = _message(b"POST /echo HTTP/1.1\r\nHost: bench", payload)
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.accepted.set_result(None)

    def begin(self) -> None:
        self._begun = perf_counter()
        self.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if _END not in data or not data.endswith(self._payload):
            self._rest = data
            return
        self._rest = b""
        score = self.score
        now = perf_counter()
        score.operations += 1
        score.latencies.record(now - self._begun)
        if not data.startswith(b"HTTP/1.1 200"):
            score.fail(data.split(b"\r\n", 1)[0].decode("latin-1"))
        if score.running:
            self._begun = now
            self.write(self._request)


class Backend(asyncio.Protocol):
    """The server behind the proxy: answers each request with its payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._answer = _message(b"HTTP/1.1 200 OK", payload)
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._rest:
            data = self._rest + data
        if _END not in data or not data.endswith(self._payload):
            self._rest = data
            return
        self._rest = b""
        self._transport.write(self._answer)


def _message(first: bytes, payload: bytes) -> bytes:
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (first, len(payload), payload)


async def requests(name: str, port: int, backend_port: int, shape: Shape) -> Result:
    """One shape through the proxy on `port`, which passes on to `backend_port`."""
    payload = b"x" * shape.payload
    score = Score()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(payload), "127.0.0.1", backend_port)
    async with server:
        callers = [HttpCaller(score, payload) for _ in range(shape.requesters * shape.in_flight)]
        return await run(name, score, port, callers, shape)
