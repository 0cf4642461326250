"""HTTP requests written by hand, for what no client library would send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
#: RFC 6455 1.3: what the server makes of KEY.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def upgrade(
    *lines: str,
    method: str = "GET",
    path: str = "/rsocket",
    protocol: str = "HTTP/1.1",
    version: str | None = "13",
    key: str | None = KEY,
    connection: str = "Upgrade",
    host: str = "gateway.example:7878",
) -> bytes:
    """A WebSocket handshake, with one thing or another wrong with it. `lines` are further header lines."""
    head = [
        f"{method} {path} {protocol}",
        f"Host: {host}",
        "Upgrade: websocket",
        f"Connection: {connection}",
        *([] if key is None else [f"Sec-WebSocket-Key: {key}"]),
        *([] if version is None else [f"Sec-WebSocket-Version: {version}"]),
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


def answer_in(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(status.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, body)


async def send(port: int, request: bytes, timeout: float = 20) -> Answer:
    """Send bytes and return the answer; whatever is not a 101 must be followed by the end of the connection."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            answer = answer_in(head)
            if answer.status != 101:
                answer = answer_in(head + await reader.read())
            return answer
        finally:
            writer.close()
            await writer.wait_closed()
