"""A connection to a gateway that is kept up: dialled, set up, checked with ``gateway.ready``, and dialled again.

Reconnecting waits ``random.uniform(0, min(cap, base * 2**n))``, so that a thousand clients that lost the same node do
not come back at the same moment. Where there are several addresses each attempt takes the next one. The first attempt
at each is not retried: a wrong address or token is told at once.

Must not know: what the handlers do.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import ssl
import time
import uuid
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from rsocket.payload import Payload

from gateway.client.connection import SETUP_REFUSALS, Connection
from gateway.client.dispatch import MAX_SERVING, Dispatcher
from gateway.client.errors import ConnectionLost, RequestFailed, SetupRefused, Unreachable
from gateway.client.handlers import Handlers
from gateway.client.metadata import request_payload
from gateway.client.streams import incoming
from gateway.client.transport import BoundedTransport, client_context, dial
from gateway.wire import brokering
from gateway.wire.frames import ErrorCode
from gateway.wire.metadata import encode_bearer, encode_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, OCTET_STREAM

log = logging.getLogger("gateway.client")

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
STEADY_SECONDS = 60.0
#: How long a node that was come to because another one drained may lack services, which come there too.
SETTLING_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a connection behaves. Times are seconds, sizes bytes.

    `ca` is a PEM file for wss and tls instead of the system's roots; `tls` a whole context instead of either.
    `timeout` is the default of one request. Messages above `fragment_bytes` go out in several frames: a device takes
    frames up to 8 KiB, and the node adds the caller's identity to the first. A message that arrives may have
    `max_payload_bytes`. `backoff` is (base, cap).
    """

    ca: str | Path | None = None
    tls: ssl.SSLContext | None = None
    timeout: float = 10.0
    connect_timeout: float = 10.0
    keepalive: float = 20.0
    lifetime: float = 90.0
    reconnect: bool = True
    backoff: tuple[float, float] = (0.5, 30.0)
    fragment_bytes: int = 7168
    max_payload_bytes: int = 16_777_216
    max_serving: int = MAX_SERVING


@dataclass(frozen=True, slots=True)
class Ready:
    """The node's answer to ``gateway.ready``. Times are milliseconds."""

    node: str
    session: str
    subject: str
    services: tuple[str, ...]
    keepalive_ms: int
    lifetime_ms: int
    time_ms: int

    @classmethod
    def read(cls, data: bytes) -> Ready:
        """Raises RequestFailed when the answer is not one of a gateway."""
        try:
            document = json.loads(data)
            return cls(
                node=str(document["node"]),
                session=str(document["session"]),
                subject=str(document["sub"]),
                services=tuple(map(str, document["services"])),
                keepalive_ms=int(document["keepalive_ms"]),
                lifetime_ms=int(document["lifetime_ms"]),
                time_ms=int(document["time"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RequestFailed(ErrorCode.INVALID, f"gateway.ready answered what no gateway does: {error!r}") from error


class Link:
    """One supervised connection.

    `url` may be several, of nodes that are as good as each other; the attribute is the one in use. `on_state(up,
    reason)` is called when the link comes up or goes down.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        token: Token,
        *,
        services: Iterable[Handlers] = (),
        on_state: Callable[[bool, str], None] | None = None,
        **options: Any,
    ) -> None:
        self._urls = (url,) if isinstance(url, str) else tuple(url)
        if not self._urls:
            raise ValueError("a link needs an address")
        self.url = self._urls[0]
        self.options = Options(**options)
        self.ready: Ready | None = None
        self._token = token
        self._services = services if isinstance(services, list) else list(services)
        self._route_ids: dict[str, bytes] = {}
        self._on_state = on_state
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._over = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._detached: set[asyncio.Task[Any]] = set()
        self._retiring: set[Connection] = set()
        self._closed = ""
        self._drained = False
        self._settled_at = 0.0

    # Life

    async def open(self, *, wait: bool = False) -> Ready:
        """Connect, register, and wait until the node says that it is ready.

        With `wait` a node that cannot be reached yet is tried again, as after a loss. Raises Unreachable, SetupRefused,
        RequestFailed, ConnectionLost.
        """
        if self._supervisor is not None or self._closed:
            raise RuntimeError("a link is opened once")
        failures = 0
        while True:
            try:
                ready = await self._connect()
                break
            except Unreachable as error:
                failures += 1
                if not wait and failures == len(self._urls):
                    raise
                log.info("waiting for %s: %s", self.url, error)
            self._take_next()
            if wait:
                await self._back_off(failures - 1)
        self._supervisor = asyncio.create_task(self._supervise(), name="gateway link")
        return ready

    async def close(self) -> None:
        """Close the connection and stop reconnecting. What was sent to be forgotten may finish its handler."""
        self._closed = self._closed or "closed by this side"
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        for draining in tuple(self._retiring):
            draining.transport.abort("closed by this side")
        if self._detached:
            _, late = await asyncio.wait(self._detached, timeout=self.options.timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._up.set()
        self._over.set()

    async def wait_closed(self) -> None:
        """Wait until the link is over for good: closed, or lost where it does not reconnect."""
        await self._over.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def up(self) -> bool:
        """Whether a request would be sent now."""
        return self._connection is not None and self._connection.usable and not self._closed

    # Private

    def _take_next(self) -> None:
        """Go to the next address."""
        self.url = self._urls[(self._urls.index(self.url) + 1) % len(self._urls)]

    def _may_ask_again(self, connection: Connection, failure: Exception) -> bool:
        """Whether a request on `connection` was refused for no more than that nodes come and go: the next may take it.

        That is so where the node drains, and for a while after that where the service has yet to come to the next one.
        """
        if not isinstance(failure, RequestFailed) or failure.code != ErrorCode.REJECTED or not self.options.reconnect:
            return False
        if connection.draining:
            return True
        return time.monotonic() < self._settled_at and failure.text.startswith("no route")

    async def _writable(self) -> Connection:
        """Return the connection once it is up and has room."""
        while True:
            await self._up.wait()
            connection = self._connection
            if self._closed or connection is None:
                raise ConnectionLost(self._closed or "not connected")
            await connection.writable()
            if connection.usable:
                return connection
            if not self.options.reconnect:
                raise ConnectionLost(connection.reason or "the node is closing")
            await asyncio.sleep(0)

    async def _connect(self) -> Ready:
        options = self.options
        tls = options.tls
        if tls is None and self.url.startswith(("wss:", "tls:")):
            tls = client_context(options.ca)
        token = self._token if isinstance(self._token, str) else self._token()
        if inspect.isawaitable(token):
            token = await token
        socket = await dial(self.url, tls=tls, timeout=options.connect_timeout)
        transport = BoundedTransport(
            socket, fragment_bytes=options.fragment_bytes, max_payload_bytes=options.max_payload_bytes
        )
        dispatcher = Dispatcher(self._services, self._detach, options.max_serving)
        connection = Connection(
            transport,
            dispatcher,
            Payload(b"", self._setup_metadata(token)),
            metadata_mime=COMPOSITE,
            data_mime=OCTET_STREAM,
            keepalive=options.keepalive,
            lifetime=options.lifetime,
        )
        dispatcher.connection = connection
        try:
            await connection.connect()
            ready = await self._ask_ready(connection)
        except BaseException:
            await connection.close()
            raise
        self.ready = ready
        self._connection = connection
        if self._drained:
            self._drained = False
            self._settled_at = time.monotonic() + SETTLING_SECONDS
        transport.on_end(lambda reason: self._lost(connection))
        connection.on_drain(lambda: self._lost(connection))
        self._up.set()
        self._say(True, f"connected to {ready.node}")
        if not connection.usable:
            self._lost(connection)
        return ready

    async def _ask_ready(self, connection: Connection) -> Ready:
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                answer = await connection.request_response(request_payload("gateway.ready"))
        except TimeoutError:
            raise Unreachable(f"{self.url} accepted the connection but does not answer gateway.ready") from None
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if connection.said is not None and connection.said[0] in SETUP_REFUSALS:
                raise SetupRefused(*connection.said) from None
            failure = incoming(error)
            if isinstance(failure, ConnectionLost):
                hint = "" if self.url.startswith(("wss:", "tls:")) else "; does it speak TLS (wss, tls)?"
                raise Unreachable(f"{self.url} ended the connection before it was ready: {failure}{hint}") from None
            raise failure from None
        return Ready.read(bytes(answer.data or b""))

    def _setup_metadata(self, token: str) -> bytes:
        entries = [(AUTHENTICATION, encode_bearer(token.encode()))]
        for service in self._services:
            # The same id on each reconnect: the node replaces the old registration should it still stand.
            route_id = self._route_ids.setdefault(service.name, uuid.uuid4().bytes)
            setup = brokering.RouteSetup(route_id, service.name, tuple(service.tags.items()))
            entries.append((BROKER_FRAME, brokering.encode(setup)))
        return encode_composite(entries)

    def _detach(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    def _lost(self, connection: Connection) -> None:
        """Take note, once, that the current connection takes no more requests."""
        if connection is not self._connection or not self._up.is_set() or self._closed:
            return
        if self.options.reconnect:
            self._up.clear()
        self._drained = connection.draining
        self._say(False, connection.reason)
        self._down.set()

    def _say(self, up: bool, reason: str) -> None:
        if self._on_state is not None:
            self._on_state(up, reason)

    async def _supervise(self) -> None:
        failures = 0
        while True:
            since = time.monotonic()
            await self._down.wait()
            self._down.clear()
            connection = self._connection
            if connection is not None:
                log.warning("lost %s: %s", self.url, connection.reason)
                self._retiring.add(connection)
                self._detach(self._retire(connection))
            if not self.options.reconnect:
                self._closed = connection.reason if connection is not None else "the connection ended"
                self._over.set()
                return
            if time.monotonic() - since >= STEADY_SECONDS:
                failures = 0
            self._take_next()
            while not await self._reconnect(failures):
                failures += 1

    async def _reconnect(self, failures: int) -> bool:
        """Wait, try once, and return whether the link is up."""
        await self._back_off(failures)
        try:
            await self._connect()
        except SetupRefused as refused:
            log.warning("%s refuses this client: %s", self.url, refused)
            # Asking again soon cannot help: a token must be renewed, or the node change its mind.
            await asyncio.sleep(random.uniform(0, self.options.backoff[1]))
        except Exception as error:
            log.info("cannot reconnect to %s: %s", self.url, error)
        else:
            return True
        self._take_next()
        return False

    async def _back_off(self, failures: int) -> None:
        base, cap = self.options.backoff
        await asyncio.sleep(random.uniform(0, min(cap, base * 2.0 ** min(failures, 32))))

    async def _retire(self, connection: Connection) -> None:
        """Let the streams of a draining connection finish, then free what it holds."""
        try:
            await connection.ended.wait()
        finally:
            self._retiring.discard(connection)
            await connection.close()
