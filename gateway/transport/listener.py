"""A listening socket and the carriers that it accepted."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from gateway.errors import ConfigError
from gateway.forwarding.closing import CloseReason
from gateway.transport.carrier import SocketCarrier
from gateway.transport.websocket import WebSocketCarrier

#: How long stopping waits for peers to read why.
_LAST_WORDS_S = 0.5


class Listener:
    """Accepts connections on one address. `setting` names the setting that gave the address, for error messages."""

    def __init__(
        self,
        setting: str,
        host: str,
        port: int,
        make: Callable[[], SocketCarrier],
        *,
        tls: ssl.SSLContext | None,
        tls_timeout_s: float,
        backlog: int,
    ) -> None:
        self.setting = setting
        self.host = host
        self.port = port
        self._make = make
        self._tls = tls
        self._tls_timeout_s = tls_timeout_s
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._carriers: set[SocketCarrier] = set()
        self._empty: asyncio.Event | None = None

    async def start(self) -> int:
        """Bind; return the port. Raises ConfigError naming the setting when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._accept,
                self.host,
                self.port,
                ssl=self._tls,
                ssl_handshake_timeout=self._tls_timeout_s if self._tls else None,
                backlog=self._backlog,
                reuse_address=True,
            )
        except OSError as error:
            raise ConfigError(
                f"{self.setting}: cannot listen on {self.host}:{self.port}: {error.strerror or error}; "
                f"stop what uses it or set another address"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def _accept(self) -> SocketCarrier:
        carrier = self._make()
        self._carriers.add(carrier)
        carrier.on_lost = self._lost
        return carrier

    def _lost(self, carrier: SocketCarrier) -> None:
        self._carriers.discard(carrier)
        if self._empty is not None and not self._carriers:
            self._empty.set()

    @property
    def accepting(self) -> bool:
        return self._server is not None and self._server.is_serving()

    def tick(self, now: float) -> None:
        """End handshakes that take too long."""
        for carrier in [c for c in self._carriers if isinstance(c, WebSocketCarrier) and c.overdue(now)]:
            carrier.plane.counters.close("handshake_timeout")
            carrier.abort()

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Close what is still open and wait until the sockets are gone."""
        self.stop_accepting()
        for carrier in list(self._carriers):
            if carrier.connection is not None:
                carrier.connection.close(CloseReason.DRAINED, "this node is stopping")
        if self._carriers:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._empty.wait()
        for carrier in list(self._carriers):
            carrier.abort()
        if self._server is not None:
            await self._server.wait_closed()
