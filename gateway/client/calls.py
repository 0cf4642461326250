"""Calls over a link: one method an interaction model.

Must not know: how the link is kept up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any

from gateway.client.connection import Connection
from gateway.client.errors import RequestFailed
from gateway.client.link import Link, Token
from gateway.client.metadata import request_payload
from gateway.client.streams import DEFAULT_WINDOW, Inbox, Source, incoming
from gateway.wire.frames import ErrorCode

#: Before a request is sent again that a node refused because it, or the service, is on the move; on average.
AGAIN_SECONDS = 0.05


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
        While the link is down it waits for it, within `timeout` seconds; a node that drains and refuses the request is
        left for the next one. Raises RequestFailed, ConnectionLost, or TimeoutError, after which the request is
        cancelled.
        """
        limit = self.options.timeout if timeout is None else timeout
        payload = request_payload(route, data, tags, metadata)
        try:
            async with asyncio.timeout(limit):
                while True:
                    connection = await self._writable()
                    try:
                        answer = await connection.request_response(payload)
                    except Exception as error:
                        failure = incoming(error)
                        if not self._may_ask_again(connection, failure):
                            raise failure from None
                        await asyncio.sleep(random.uniform(0, 2 * AGAIN_SECONDS))
                    else:
                        return bytes(answer.data or b"")
        except TimeoutError:
            raise TimeoutError(f"no answer from {route} within {limit:g} s") from None

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
        connections: list[Connection] = []

        async def start() -> Inbox:
            connections[:] = [await self._connected(route)]
            return connections[0].open_stream(payload, n)

        return _iterate(start, route, timeout, lambda failure: self._may_ask_again(connections[0], failure))

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


def connect(url: str | Sequence[str], token: Token, **options: Any) -> Gateway:
    """Return a link to the gateway at `url`, or at one of several, to be used with ``async with``. `options` are those
    of ``Options``."""
    return Gateway(url, token, **options)


async def _iterate(
    start: Callable[[], Awaitable[Inbox]],
    route: str,
    timeout: float | None,
    may_start_again: Callable[[Exception], bool] = lambda failure: False,
) -> AsyncGenerator[bytes, None]:
    inbox = await start()
    begun = False
    try:
        while True:
            try:
                item = await inbox.next(timeout)
            except StopAsyncIteration:
                return
            except RequestFailed as failure:
                if begun or not may_start_again(failure):
                    raise
                await asyncio.sleep(random.uniform(0, 2 * AGAIN_SECONDS))
                inbox = await start()
                continue
            except TimeoutError:
                if timeout is None:
                    raise
                raise TimeoutError(f"no item from {route} within {timeout:g} s") from None
            begun = True
            yield item
    finally:
        inbox.cancel()


async def _asynchronous(items: Iterable[bytes]) -> AsyncIterator[bytes]:
    for item in items:
        yield item
