"""A server of JWK sets on loopback that can be well, slow, wrong or endless; and tokens signed with its keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from gateway.policy.tokens import mint

ISSUER = "https://idp.example"


class KeyServer:
    """`keys` is what it publishes. `mood`: well, down (500), slow (nothing comes), endless (100 MB), broken."""

    def __init__(self) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.mood = "well"
        self.requests = 0
        self.sent = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/jwks.json"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def add_key(self, kid: str) -> None:
        self.keys[kid] = Ed25519PrivateKey.generate()

    def document(self) -> dict[str, Any]:
        return {"keys": [json.loads(OKPAlgorithm.to_jwk(k.public_key())) | {"kid": n} for n, k in self.keys.items()]}

    def token(self, now: float, subject: str = "dev-1", kid: str = "", key: Ed25519PrivateKey | None = None) -> str:
        kid = kid or next(iter(self.keys))
        signer = key or self.keys[kid]
        return mint(signer, kid, ISSUER, "gateway", subject, "device", ["*"], ["*"], 600, now)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self._writers.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self.mood == "slow":
                await reader.read()
            else:
                await self._answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if self.mood == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
            for _ in range(1600):
                writer.write(b" " * 65536)
                await writer.drain()
                self.sent += 65536
            return
        status = "500 No" if self.mood == "down" else "200 OK"
        body = b"<html>" if self.mood == "broken" else json.dumps(self.document()).encode()
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


class LagMeter:
    """The longest that the event loop kept a callback waiting while it was watched, in seconds."""

    def __init__(self, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        self.longest = 0.0
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LagMeter:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._sleep(0.002)
            self.longest = max(self.longest, loop.time() - began - 0.002)
