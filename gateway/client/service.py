"""A service: handlers, and the link that registers and keeps them reachable.

service = Service("ws://127.0.0.1:7878/rsocket", token, name="thermo")

@service.request_response("read")
async def read(data: bytes) -> bytes:
    return b"21.5"

asyncio.run(service.run())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from gateway.client.calls import Gateway
from gateway.client.errors import ConnectionLost
from gateway.client.handlers import Handlers
from gateway.client.link import Ready, Token


class Service(Handlers):
    """One service, or several that share a connection (``also``). ``gateway`` makes calls over the same connection.

    `token` is a string, or a function (or coroutine function) that gives a fresh one for each connection attempt.
    `options` are those of ``gateway.client.Options``.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        token: Token,
        *,
        name: str,
        tags: Mapping[str, str] | None = None,
        on_state: Callable[[bool, str], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, tags)
        self._services: list[Handlers] = [self]
        self.gateway = Gateway(url, token, services=self._services, on_state=on_state, **options)

    def also(self, name: str, tags: Mapping[str, str] | None = None) -> Handlers:
        """Return the handlers of one more service on this connection. Only before the start."""
        if self.gateway.ready is not None:
            raise RuntimeError("services are registered when the connection is set up")
        service = Handlers(name, tags)
        self._services.append(service)
        return service

    async def start(self, *, wait: bool = False) -> Ready:
        """Connect and register; see ``Gateway.open``."""
        return await self.gateway.open(wait=wait)

    async def close(self) -> None:
        await self.gateway.close()

    async def run(self) -> None:
        """Serve until cancelled. Waits for a node that is not there yet; raises SetupRefused if it refuses at first."""
        try:
            await self.start(wait=True)
            await self.gateway.wait_closed()
            raise ConnectionLost("the connection ended and is not to be renewed")
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        await self.gateway.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
