"""Items in and out of one stream, with credit. rsocket-py's callbacks on one side, async iterators on the other.

``Inbox`` grants the peer a window of items and tops it up at half, so at most the window waits in memory. ``Source``
runs an async iterator at the speed of the peer's credit and of the socket.

Must not know: routes, connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from reactivestreams.subscriber import Subscriber
from reactivestreams.subscription import Subscription
from rsocket.exceptions import RSocketProtocolError
from rsocket.helpers import DefaultPublisherSubscription
from rsocket.payload import Payload

from gateway.client.errors import ConnectionLost, RequestFailed
from gateway.client.translation import error_code
from gateway.wire.frames import MAX_REQUEST_N, ErrorCode

DEFAULT_WINDOW = 64


def outgoing(failure: RequestFailed) -> RSocketProtocolError:
    """Return what makes rsocket-py send ERROR with this code and text."""
    return RSocketProtocolError(error_code(failure.code), data=failure.text)


def incoming(error: Exception) -> Exception:
    """Return what the application sees for an error that rsocket-py reports on a stream."""
    if isinstance(error, RSocketProtocolError):
        text = error.data or ""
        if int(error.error_code) in (ErrorCode.CONNECTION_ERROR, ErrorCode.CONNECTION_CLOSE):
            return ConnectionLost(text or "the connection ended")
        return RequestFailed(int(error.error_code), text)
    # rsocket-py makes a bare RuntimeError of APPLICATION_ERROR.
    return RequestFailed(ErrorCode.APPLICATION_ERROR, str(error))


class Inbox(Subscriber):
    """What the peer sends on one stream.

    `credit` is what has been granted already, in the request frame; 0 where the first grant is ours to make.
    """

    def __init__(self, window: int, credit: int) -> None:
        if not 0 < window <= MAX_REQUEST_N:
            raise ValueError(f"a window is 1 to {MAX_REQUEST_N} items, not {window}")
        self._window = window
        self._credit = credit
        self._items: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._done = False
        self._error: Exception | None = None
        self._subscription: Subscription | None = None

    # What rsocket-py calls

    def on_subscribe(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def on_next(self, value: Payload, is_complete: bool = False) -> None:
        if self._done:
            return
        if self._credit <= 0:
            self.cancel()
            self.on_error(RSocketProtocolError(ErrorCode.INVALID, data="more items than were asked for"))
            return
        self._credit -= 1
        self._items.append(bytes(value.data or b""))
        self._done = is_complete
        self._wake.set()

    def on_complete(self) -> None:
        self._done = True
        self._wake.set()

    def on_error(self, exception: Exception) -> None:
        if self._error is None:
            self._error = incoming(exception)
        self._done = True
        self._wake.set()

    # What the application side calls

    def first(self, item: bytes) -> None:
        """Put in front the item that came in the request frame; it costs no credit."""
        self._items.appendleft(item)

    def fail(self, error: Exception) -> None:
        """End the iteration with `error`, after what has arrived."""
        if self._error is None:
            self._error = error
        self._done = True
        self._wake.set()

    def cancel(self) -> None:
        """Tell the peer to stop, unless it already has."""
        if not self._done and self._subscription is not None:
            self._done = True
            self._subscription.cancel()
            self._wake.set()

    async def next(self, timeout: float | None = None) -> bytes:
        """Return the next item; StopAsyncIteration at the end. `timeout` is in seconds, for this one item."""
        async with asyncio.timeout(timeout):
            while not self._items:
                if self._done:
                    if self._error is not None:
                        raise self._error
                    raise StopAsyncIteration
                self._grant()
                self._wake.clear()
                await self._wake.wait()
        item = self._items.popleft()
        self._grant()
        return item

    async def items(self, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate to the end. Leaving early cancels the stream."""
        try:
            while True:
                try:
                    item = await self.next(timeout)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.cancel()

    def _grant(self) -> None:
        """Top up to the window once half of it has been consumed; what waits here counts as not consumed."""
        free = self._window - self._credit - len(self._items)
        if not self._done and self._subscription is not None and free * 2 >= self._window:
            self._credit += free
            self._subscription.request(free)


class Source(DefaultPublisherSubscription):
    """An async iterator of ours that the peer reads.

    It runs at most one item ahead of the credit, so that the end of a finite stream is told without further credit, and
    waits for `writable` before each item. `failed` makes of an exception what the peer is told; `spawn` starts a task
    that ends with the connection.
    """

    def __init__(
        self,
        items: AsyncIterator[bytes],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        writable: Callable[[], Awaitable[None]],
        failed: Callable[[Exception], RequestFailed],
    ) -> None:
        self._items = items
        self._spawn = spawn
        self._writable = writable
        self._failed = failed
        self._credit = 0
        self._granted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def request(self, n: int) -> None:
        self._credit = min(self._credit + n, MAX_REQUEST_N)
        self._granted.set()
        if self._task is None:
            self._task = self._spawn(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async for item in self._items:
                while self._credit <= 0:
                    self._granted.clear()
                    await self._granted.wait()
                await self._writable()
                self._credit -= 1
                self._subscriber.on_next(Payload(item), False)
                # An iterator that never waits must not keep the loop from everybody else.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._subscriber.on_error(outgoing(self._failed(error)))
        else:
            self._subscriber.on_complete()
        finally:
            close = getattr(self._items, "aclose", None)
            if close is not None:
                await close()
