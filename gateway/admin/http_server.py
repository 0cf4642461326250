"""An HTTP listener inside the node's own event loop: uvicorn (h11) without its process-wide manners.

uvicorn expects to own the process: it prints, takes SIGINT and SIGTERM, exits when a port is taken, and lets a client
that never finishes its request hold a descriptor for ever. Here the node owns the process, so the sockets are bound
first (an error says which setting is wrong), signals and logging stay as they are, and connections are bounded in
number and in time (fault 4). Must not know: what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import ConfigError

MAX_CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 5
"""A connection has this long to send a whole request, and as long again after each response."""
SHUTDOWN_SECONDS: Final = 1
SHUTDOWN_LOOK_S: Final = 0.005
BACKLOG: Final = 128
#: The extension of an ASGI scope by which a WebSocket handshake is handed over: its `hand_over` takes what makes a
#: protocol.
UPGRADE: Final = "gateway.upgrade"


class HttpServer:
    """Serves ``app`` on ``host:port`` between ``start`` and ``stop``; ``setting`` names the address in errors."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        setting: str,
        *,
        max_connections: int = MAX_CONNECTIONS,
        request_seconds: int = REQUEST_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._setting = setting
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            # Below it uvicorn logs a line for whatever bytes a stranger sends.
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            workers=1,
            backlog=BACKLOG,
            limit_concurrency=max_connections + 1,
            timeout_keep_alive=request_seconds,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and return the port (the bound one where 0 was asked for). Raises ConfigError."""
        sockets = await self._bind()
        port: int = sockets[0].getsockname()[1]
        self._task = asyncio.create_task(self._serve(sockets), name=f"http {self._setting}")
        serving = asyncio.create_task(self._server.serving.wait())
        await asyncio.wait({serving, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serving.cancel()
            await self._task
        return port

    async def stop(self) -> None:
        """Stop listening, let responses under way finish for up to a second, end every connection and task."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._server.should_exit = True
        self._server.stopping.set()
        await task

    async def _serve(self, sockets: list[socket.socket]) -> None:
        try:
            await self._server.serve(sockets)
        finally:
            for listener in sockets:
                listener.close()

    async def _bind(self) -> list[socket.socket]:
        try:
            addresses = await asyncio.get_running_loop().getaddrinfo(
                self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            return _listeners({(family, str(address[0])) for family, _, _, _, address in addresses}, self._port)
        except OSError as error:
            why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise ConfigError(
                f"{self._setting}: cannot listen on {_shown(self._host, self._port)}: {why}", reason="cannot_listen"
            ) from error


def _listeners(addresses: set[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    """Listen on every address that this machine has, all on the same port."""
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in sorted(addresses):
        try:
            listener = _listener(family, address, port)
        except OSError as error:
            # A name (localhost, or none at all) stands for IPv6 too, which a machine may not have.
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                absent = error
                continue
            for listener in listeners:
                listener.close()
            raise
        listeners.append(listener)
        port = listener.getsockname()[1]
    if absent is not None and not listeners:
        raise absent
    return listeners


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # The protocol by its name: asyncio switches Nagle's algorithm off only where it is sure that this is TCP, and with
    # it an answer of several parts waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it should exit; all that is needed is a fresh Date header.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn sleeps for a tenth of a second first, and again wherever something is not over yet.
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110  (uvicorn has no event)
            await asyncio.sleep(SHUTDOWN_LOOK_S)
        for server in self.servers:
            await server.wait_closed()


class _Connection(H11Protocol):
    """uvicorn's keep-alive timer stops at the first byte and its close waits for a peer that does not read. This timer
    runs whenever no response is being made, and aborts.
    """

    _overdue: asyncio.TimerHandle | None = None

    def _should_upgrade(self) -> bool:
        # No protocol is looked for here: who serves the request may take the socket, and else answers as ever.
        if self._get_upgrade() == b"websocket" and self.scope["method"] == "GET":
            self.scope["extensions"] = {UPGRADE: {"hand_over": self._hand_over}}
        return False

    def _hand_over(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Give the socket to what `make` gives, which gets the whole request; nothing is answered here any more."""
        if self.cycle.disconnected or self.transport.is_closing():
            # Nobody would tell the successor that it has ended.
            return
        successor = make()
        self._expect_nothing()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.cycle.disconnected = True
        target = self.scope["raw_path"] + (b"?" + self.scope["query_string"] if self.scope["query_string"] else b"")
        head = b"".join(b"%b: %b\r\n" % header for header in self.headers)
        behind, _ = self.conn.trailing_data
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        successor.data_received(b"GET %b HTTP/1.1\r\n%b\r\n%b" % (target, head, behind))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self.connections.discard(self)
            transport.abort()
        else:
            self._expect_within(self.timeout_keep_alive)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()

    def on_response_complete(self) -> None:
        # First, because a pipelined request may start its response in there.
        self._expect_within(self.timeout_keep_alive)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        self.timeout_keep_alive = SHUTDOWN_SECONDS
        self._expect_within(SHUTDOWN_SECONDS)

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._overdue = self.loop.call_later(seconds, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
