"""Calls over a link: one method an interaction model.

Must not know: how the link is kept up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from gateway.client.connection import Connection
from gateway.client.errors import ConnectionLost, RequestFailed
from gateway.client.link import Link, Token
from gateway.client.metadata import request_payload
from gateway.client.streams import DEFAULT_WINDOW, Inbox, Source, incoming
from gateway.wire.frames import ErrorCode


class Gateway(Link):
    """A gateway to call through."""

    async def request(
        self,
        route: str,
        data: bytes | str = b"",
        *,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Iterable[tuple[str, bytes]] = (),
    ) -> bytes:
        """Send a request and return the answer's data.

        `tags` narrow who may serve it (``{"zone": "eu"}``, ``{"sub": "device-1"}``); `metadata` adds composite entries.
        While the link is down it waits for it, within `timeout` seconds. Raises RequestFailed, ConnectionLost, or
        TimeoutError, after which the request is cancelled.
        """
        limit = self.options.timeout if timeout is None else timeout
        payload = request_payload(route, data, tags, metadata)
        try:
            async with asyncio.timeout(limit):
                connection = await self._writable()
                answer = await connection.request_response(payload)
        except TimeoutError:
            raise TimeoutError(f"no answer from {route} within {limit:g} s") from None
        except (asyncio.CancelledError, ConnectionLost):
            raise
        except Exception as error:
            raise incoming(error) from None
        return bytes(answer.data or b"")

    async def fire_and_forget(
        self,
        route: str,
        data: bytes | str = b"",
        *,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Send and return once the socket has room for it. Nobody says whether it arrived."""
        payload = request_payload(route, data, tags, metadata)
        limit = self.options.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                connection = await self._writable()
        except TimeoutError:
            raise TimeoutError(f"could not send to {route} within {limit:g} s") from None
        connection.fire_and_forget(payload)

    def stream(
        self,
        route: str,
        data: bytes | str = b"",
        *,
        n: int = DEFAULT_WINDOW,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Iterable[tuple[str, bytes]] = (),
    ) -> AsyncGenerator[bytes, None]:
        """Iterate over a stream. `n` items at most are under way; leaving the loop cancels the stream.

        `timeout` is for each item, in seconds; by default an item may take for ever. Raises as ``request`` does.
        """
        payload = request_payload(route, data, tags, metadata)

        async def start() -> Inbox:
            connection = await self._connected(route)
            return connection.open_stream(payload, n)

        return _iterate(start, route, timeout)

    def channel(
        self,
        route: str,
        source: AsyncIterable[bytes] | Iterable[bytes],
        *,
        n: int = DEFAULT_WINDOW,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Iterable[tuple[str, bytes]] = (),
    ) -> AsyncGenerator[bytes, None]:
        """Send the items of `source` as fast as the responder takes them, and iterate over its answers.

        The first item goes out in the request itself, so the request waits for it. Otherwise as ``stream``. An error in
        `source` is raised here and ends both directions.
        """

        async def start() -> Inbox:
            items = aiter(source) if isinstance(source, AsyncIterable) else _asynchronous(source)
            first = await anext(items, None)
            payload = request_payload(route, first or b"", tags, metadata)
            connection = await self._connected(route)
            if first is None:
                return connection.open_channel(payload, None, n)

            def failed(error: Exception) -> RequestFailed:
                inbox.fail(error)
                return RequestFailed(ErrorCode.CANCELED, f"the requester failed: {type(error).__name__}")

            out = Source(items, spawn=connection.spawn, writable=connection.writable, failed=failed)
            inbox = connection.open_channel(payload, out, n)
            return inbox

        return _iterate(start, route, timeout)

    # Private

    async def _connected(self, route: str) -> Connection:
        limit = self.options.timeout
        try:
            async with asyncio.timeout(limit):
                return await self._writable()
        except TimeoutError:
            raise TimeoutError(f"could not send to {route} within {limit:g} s") from None


def connect(url: str, token: Token, **options: Any) -> Gateway:
    """Return a link to the gateway at `url`, to be used with ``async with``. `options` are those of ``Options``."""
    return Gateway(url, token, **options)


async def _iterate(
    start: Callable[[], Awaitable[Inbox]], route: str, timeout: float | None
) -> AsyncGenerator[bytes, None]:
    inbox = await start()
    try:
        while True:
            try:
                item = await inbox.next(timeout)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if timeout is None:
                    raise
                raise TimeoutError(f"no item from {route} within {timeout:g} s") from None
            yield item
    finally:
        inbox.cancel()


async def _asynchronous(items: Iterable[bytes]) -> AsyncIterator[bytes]:
    for item in items:
        yield item
