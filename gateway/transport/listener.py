"""A listening socket and the carriers that it accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable

from gateway.errors import ConfigError
from gateway.forwarding.closing import CloseReason
from gateway.observe.metrics import Counters
from gateway.transport.carrier import LINGER_S, House, SocketCarrier

#: How long stopping waits for peers to read why.
_LAST_WORDS_S = 1.0
#: Bytes that the system takes for a socket beyond those on their way. Left alone it takes megabytes, and while they
#: last, a peer that reads slowly looks like one that does not read at all (faults 14, 91).
_UNSENT_BYTES = 128 * 1024


class Listener:
    """Accepts connections on one address. `setting` names the setting that gave the address, for error messages.

    `make` makes a carrier that tells the listener, its house, how it fares. `monotonic` is the clock of `tick`.
    """

    def __init__(
        self,
        setting: str,
        host: str,
        port: int,
        make: Callable[[House], SocketCarrier],
        *,
        counters: Counters,
        monotonic: Callable[[], float],
        tls: ssl.SSLContext | None,
        tls_timeout_s: float,
        backlog: int,
    ) -> None:
        self.setting = setting
        self.host = host
        self.port = port
        self._make = make
        self._counters = counters
        self._monotonic = monotonic
        self._tls = tls
        self._tls_timeout_s = tls_timeout_s
        self._backlog = backlog
        self._server: asyncio.Server | None = None
        self._carriers: set[SocketCarrier] = set()
        #: Those still in a handshake, TLS or WebSocket, with the moment when it must be over.
        self._pending: dict[SocketCarrier, float] = {}
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
                ssl_shutdown_timeout=LINGER_S if self._tls else None,
                backlog=self._backlog,
                reuse_address=True,
            )
        except OSError as error:
            raise ConfigError(
                f"{self.setting}: cannot listen on {self.host}:{self.port}: {_why(error)}; "
                f"stop what uses it or set another address"
            ) from error
        for listening in self._server.sockets:
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what is accepted inherits it
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def _accept(self) -> SocketCarrier:
        carrier = self._make(self)
        if self._tls is not None:
            # asyncio ends a TLS handshake by itself, without a word to the carrier; this is how it gets counted.
            self._pending[carrier] = self._monotonic() + self._tls_timeout_s
        return carrier

    # What carriers tell

    def opened(self, carrier: SocketCarrier) -> None:
        self._carriers.add(carrier)
        if carrier.handshake_timeout_s:
            self._pending[carrier] = self._monotonic() + carrier.handshake_timeout_s
        else:
            self._pending.pop(carrier, None)

    def established(self, carrier: SocketCarrier) -> None:
        self._pending.pop(carrier, None)

    def ended(self, carrier: SocketCarrier) -> None:
        self._pending.pop(carrier, None)
        self._carriers.discard(carrier)
        if self._empty is not None and not self._carriers:
            self._empty.set()

    @property
    def accepting(self) -> bool:
        return self._server is not None and self._server.is_serving()

    @property
    def open_sockets(self) -> int:
        """Accepted sockets that are open, whatever state they are in; without those in a TLS handshake."""
        return len(self._carriers)

    @property
    def handshakes(self) -> int:
        """Handshakes that are not over, or failed so lately that it was not noticed yet."""
        return len(self._pending)

    def tick(self, now: float) -> None:
        """End handshakes that take too long (faults 1, 2, 4)."""
        for carrier in [carrier for carrier, deadline in self._pending.items() if deadline < now]:
            del self._pending[carrier]
            self._counters.close("tls_handshake" if carrier.transport is None else "handshake_timeout")
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
            else:
                carrier.abort()
        if self._carriers:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._empty.wait()
        for carrier in list(self._carriers):
            carrier.abort()
        self._pending.clear()
        if self._server is not None:
            # From Python 3.12 on this waits for TLS handshakes too, which nobody here can end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._server.wait_closed()


def _why(error: OSError) -> str:
    """What the system said; asyncio wraps it in a sentence that repeats the address."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
