"""One HTTP request over a real socket, made by the standard library in a thread beside the loop that serves it."""

import asyncio
import http.client
from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def _ask(host: str, port: int, method: str, path: str) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


async def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> Answer:
    return await asyncio.to_thread(_ask, host, port, method, path)
