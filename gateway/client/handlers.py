"""What one service answers: handlers by interaction model and route, registered with decorators.

A handler takes the request's data, and the ``Request`` itself if it has a second parameter:

    async def read(data: bytes) -> bytes                                  request_response
    async def reading(data: bytes, request: Request) -> None              fire_and_forget
    async def readings(data: bytes) -> AsyncIterator[bytes]               stream: an async generator
    async def chat(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]   channel: an async generator

Must not know: connections, frames.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from gateway.client.metadata import Request

EVERYTHING = "*"
Answer: TypeAlias = bytes | str | None
Items: TypeAlias = AsyncIterator[bytes]
ResponseHandler: TypeAlias = Callable[[bytes], Awaitable[Answer]] | Callable[[bytes, "Request"], Awaitable[Answer]]
FnfHandler: TypeAlias = Callable[[bytes], Awaitable[None]] | Callable[[bytes, "Request"], Awaitable[None]]
StreamHandler: TypeAlias = (
    Callable[[bytes], AsyncIterator[bytes | str]] | Callable[[bytes, "Request"], AsyncIterator[bytes | str]]
)
ChannelHandler: TypeAlias = (
    Callable[[Items], AsyncIterator[bytes | str]] | Callable[[Items, "Request"], AsyncIterator[bytes | str]]
)
_Response = TypeVar("_Response", bound=ResponseHandler)
_Fnf = TypeVar("_Fnf", bound=FnfHandler)
_Stream = TypeVar("_Stream", bound=StreamHandler)
_Channel = TypeVar("_Channel", bound=ChannelHandler)


class Model(Enum):
    """The four interaction models."""

    RESPONSE = "request_response"
    FNF = "fire_and_forget"
    STREAM = "stream"
    CHANNEL = "channel"


class Handlers:
    """The handlers of one service. `name` is what is registered; `tags` narrow and describe this instance."""

    def __init__(self, name: str, tags: Mapping[str, str] | None = None) -> None:
        if not 0 < len(name.encode()) <= 255:
            raise ValueError("a service name has 1 to 255 bytes")
        self.name = name
        self.tags = dict(tags or {})
        self._table: dict[tuple[Model, str], Callable[..., Any]] = {}

    def request_response(self, route: str) -> Callable[[_Response], _Response]:
        """Decorate the coroutine function that answers `route`."""
        return self._register(Model.RESPONSE, route)

    def fire_and_forget(self, route: str) -> Callable[[_Fnf], _Fnf]:
        """Decorate the coroutine function that takes what is sent to `route`."""
        return self._register(Model.FNF, route)

    def stream(self, route: str) -> Callable[[_Stream], _Stream]:
        """Decorate the async generator that `route` streams; it advances as fast as the caller grants credit."""
        return self._register(Model.STREAM, route)

    def channel(self, route: str) -> Callable[[_Channel], _Channel]:
        """Decorate the async generator that takes the caller's items and yields answers."""
        return self._register(Model.CHANNEL, route)

    def get(self, model: Model, route: str) -> Callable[..., Any] | None:
        return self._table.get((model, route))

    def _register(self, model: Model, route: str) -> Callable[[Any], Any]:
        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if (model, route) in self._table:
                raise ValueError(f"{self.name} has a {model.value} handler for {route!r} already")
            self._table[model, route] = _with_request(function)
            return function

        return register


def find(services: Iterable[Handlers], model: Model, route: str) -> Callable[..., Any] | None:
    """Return the handler of the exact route, else of the route without a service's name in front, else of "*".

    The name ends at a ``.`` or ``/``; the longest name wins. A route equal to the name finds the handler of "". The
    handler of "*" takes what no other handler of that service does.
    """
    by_length = sorted(services, key=lambda service: len(service.name), reverse=True)
    for service in by_length:
        handler = service.get(model, route)
        if handler is not None:
            return handler
    for service in by_length:
        if route == service.name:
            rest = ""
        elif route.startswith(service.name) and route[len(service.name)] in "./":
            rest = route[len(service.name) + 1 :]
        else:
            continue
        handler = service.get(model, rest) or service.get(model, EVERYTHING)
        if handler is not None:
            return handler
    return None


def _with_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` in its two-parameter form."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    wanted = sum(1 for parameter in parameters if parameter.kind in kinds)
    if wanted >= 2 or any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return function
    if wanted == 0:
        raise TypeError(f"{function.__name__} takes no argument; a handler takes at least the data")
    return lambda data, request: function(data)
