"""From rsocket-py's callbacks to handlers. Nothing here is awaited by the receive loop: handlers run in tasks.

(rsocket-py awaits a handler before it reads the next frame, so one slow handler stops every stream, and a handler that
calls back over its own connection never returns.)

Must not know: how the connection came to be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler

from gateway.client.connection import Connection
from gateway.client.errors import RequestFailed
from gateway.client.handlers import Handlers, Model, find
from gateway.client.metadata import Request, read_request
from gateway.client.streams import DEFAULT_WINDOW, Inbox, Source, outgoing
from gateway.errors import FrameError
from gateway.wire.frames import ErrorCode

log = logging.getLogger("gateway.client")

MAX_SERVING = 8192


class Dispatcher(BaseRequestHandler):
    """Answers what arrives on one connection. ``connection`` is set before the first frame can arrive.

    `detach` starts a task that outlives the connection: what was sent to be forgotten is processed to its end.
    """

    connection: Connection

    def __init__(
        self,
        services: Sequence[Handlers],
        detach: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        max_serving: int = MAX_SERVING,
    ) -> None:
        self._services = services
        self._detach = detach
        self._max_serving = max_serving
        self._serving = 0
        self.dropped = 0

    async def request_response(self, payload: Payload) -> asyncio.Task[Payload]:
        request, handler = self._begin(Model.RESPONSE, payload)

        async def answer() -> Payload:
            try:
                return Payload(_as_bytes(await handler(bytes(payload.data or b""), request)))
            except Exception as error:
                raise outgoing(_failure(error, request)) from error

        return self._count(self.connection.spawn(answer()))

    async def request_fire_and_forget(self, payload: Payload) -> None:
        try:
            request, handler = self._begin(Model.FNF, payload)
        except Exception as refusal:
            # P35: there is nobody to tell.
            self.dropped += 1
            log.warning("dropped a fire-and-forget request: %s", refusal)
            return

        async def take() -> None:
            try:
                await handler(bytes(payload.data or b""), request)
            except Exception as error:
                _failure(error, request)

        self._count(self._detach(take()))

    async def request_stream(self, payload: Payload) -> Source:
        request, handler = self._begin(Model.STREAM, payload)
        return self._source(handler(bytes(payload.data or b""), request), request)

    async def request_channel(self, payload: Payload) -> tuple[Source, Inbox]:
        request, handler = self._begin(Model.CHANNEL, payload)
        inbox = Inbox(DEFAULT_WINDOW, 0)
        inbox.first(bytes(payload.data or b""))
        return self._source(_until_answered(handler(inbox.items(), request), inbox), request), inbox

    def _begin(self, model: Model, payload: Payload) -> tuple[Request, Callable[..., Any]]:
        try:
            request = read_request(bytes(payload.metadata or b""))
        except FrameError as error:
            raise outgoing(RequestFailed(ErrorCode.INVALID, error.text)) from error
        handler = find(self._services, model, request.route)
        if handler is None:
            raise outgoing(RequestFailed(ErrorCode.REJECTED, f"no {model.value} handler for {request.route!r}"))
        if self._serving >= self._max_serving:
            raise outgoing(RequestFailed(ErrorCode.REJECTED, f"busy with {self._serving} requests"))
        return request, handler

    def _source(self, items: AsyncIterator[bytes | str], request: Request) -> Source:
        return Source(
            _encoded(items),
            spawn=lambda work: self._count(self.connection.spawn(work)),
            writable=self.connection.writable,
            failed=lambda error: _failure(error, request),
        )

    def _count(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._serving += 1
        task.add_done_callback(self._served)
        return task

    def _served(self, task: asyncio.Task[Any]) -> None:
        self._serving -= 1


async def _encoded(items: AsyncIterator[bytes | str]) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield _as_bytes(item)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


async def _until_answered(answers: AsyncIterator[bytes | str], inbox: Inbox) -> AsyncIterator[bytes | str]:
    """Tell the requester to stop when the handler has no more to say, before its end is told."""
    try:
        async for answer in answers:
            yield answer
    finally:
        inbox.cancel()


def _as_bytes(value: object) -> bytes:
    match value:
        case None:
            return b""
        case str():
            return value.encode()
        case bytes() | bytearray() | memoryview():
            return bytes(value)
    raise TypeError(f"a handler answers bytes, str or None, not {type(value).__name__}")


def _failure(error: Exception, request: Request) -> RequestFailed:
    """Return what the caller is told: a RequestFailed as it is, of anything else only that it happened."""
    if isinstance(error, RequestFailed):
        return error
    log.error("handler of %r failed", request.route, exc_info=error)
    return RequestFailed(ErrorCode.APPLICATION_ERROR, f"{request.route} failed: {type(error).__name__}")
