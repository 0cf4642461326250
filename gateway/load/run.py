"""One run of one shape: open every connection, let it go, count for a while, let what is under way end.

Both ends are connections of this process, on one loop, so that an operation is counted where it ends and none is
counted twice. `together` measures several shapes at the same time against the same broker.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from time import perf_counter, process_time
from types import TracebackType
from typing import Any, Self, TypeVar

from gateway.load.calls import Calls, ChannelCalls, FnfCalls, ResponseCalls, StreamCalls
from gateway.load.crowd import Crowd, room_for
from gateway.load.endpoint import Endpoint
from gateway.load.responder import Responder
from gateway.load.shape import Access, Latency, Model, Result, Shape
from gateway.load.tally import Tally
from gateway.load.templates import Framing
from gateway.wire import metadata, mimetypes
from gateway.wire.frames import RequestChannel, RequestFnf, RequestResponse, RequestStream

Answer = TypeVar("Answer")

_DRAIN_S = 5.0
_POLL_S = 0.005


def complete(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end on the fastest loop there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(coroutine)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # it has no wheel for this platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def measure(access: Access, shape: Shape) -> Result:
    """Run one shape. Raises Refused when a connection cannot be opened."""
    (result,) = await together(access, [shape])
    return result


async def together(access: Access, shapes: Sequence[Shape]) -> list[Result]:
    """Run shapes at the same time, each with responders of its own, for as long as the first one says.

    Where there are several, each registers and calls a service of its own: `bench-1`, `bench-2`, … below the service's
    name. Raises Refused when a connection cannot be opened.
    """
    room_for(sum(shape.requesters + shape.responders + shape.idle for shape in shapes))
    async with AsyncExitStack() as stack:
        runs = []
        for number, shape in enumerate(shapes):
            at = access if len(shapes) == 1 else _apart(access, number)
            runs.append(await stack.enter_async_context(Run(at, shape)))
        with _undisturbed():
            for run in runs:
                run.start()
            await asyncio.sleep(shapes[0].warm_up)
            for run in runs:
                run.count()
            await asyncio.sleep(shapes[0].seconds)
            for run in runs:
                run.stop()
        await asyncio.gather(*(run.drain() for run in runs))
        return [run.result() for run in runs]


def _apart(access: Access, number: int) -> Access:
    service = f"{access.service}.{number + 1}"
    return Access(access.address, access.token, service, f"{service}.echo", access.mask)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Python's collector from pausing the load; what it makes is freed by counting."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Run:
    """One shape on its connections, which are open inside the context. Raises Refused where one cannot be opened."""

    def __init__(self, access: Access, shape: Shape) -> None:
        self.access = access
        self.shape = shape
        self.tally = Tally()
        self._crowd = Crowd(access, self.tally)
        self._calls: list[Calls] = []
        self._since = self._cpu_since = 0.0
        self._operations_since = 0
        self._result: Result | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._crowd)
            await self._open()
            stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._crowd.__aexit__(kind, error, trace)

    async def _open(self) -> None:
        shape, tally, framing = self.shape, self.tally, self._crowd.framing
        payload = os.urandom(shape.payload) if shape.payload else b""
        responders = [Responder(tally, framing, payload, shape.items, shape.credit) for _ in range(shape.responders)]
        await self._crowd.admit(responders, service=self.access.service)
        await self._crowd.admit(Endpoint(tally, framing) for _ in range(shape.idle))
        self._calls = [_calls(tally, framing, shape, self.access.route, payload) for _ in range(shape.requesters)]
        await self._crowd.admit(self._calls)

    def start(self) -> None:
        self.tally.running = True
        for calls in self._calls:
            calls.begin()

    def count(self) -> None:
        """Forget what has been counted so far."""
        tally = self.tally
        tally.latencies.clear()
        self._operations_since = tally.operations
        self._since, self._cpu_since = perf_counter(), process_time()

    def latency(self) -> Latency:
        """The latencies since `count`."""
        return Latency.of(self.tally.latencies)

    def stop(self) -> None:
        """Begin nothing new; what was done since `count` is the result."""
        tally = self.tally
        tally.running = False
        seconds = perf_counter() - self._since
        self._result = Result(
            name=self.shape.model.value,
            shape=str(self.shape),
            unit=self.shape.model.unit,
            operations=tally.operations - self._operations_since,
            seconds=seconds,
            latency=self.latency(),
            errors=0,
            load=(process_time() - self._cpu_since) / seconds,
        )

    async def drain(self) -> None:
        """Wait until what is under way has ended."""
        deadline = perf_counter() + _DRAIN_S
        while self.tally.finished < self.tally.begun and perf_counter() < deadline:  # noqa: ASYNC110  (no events there)
            await asyncio.sleep(_POLL_S)

    def result(self) -> Result:
        """What was counted until `stop`, with all that went wrong until now."""
        assert self._result is not None
        tally = self.tally
        # A stream may be meant to last longer than the run.
        single = self.shape.model in (Model.RESPONSE, Model.FNF)
        unfinished = tally.begun - tally.finished if single else 0
        return replace(self._result, errors=tally.errors, texts=tuple(tally.texts), unfinished=unfinished)


def _calls(tally: Tally, framing: Framing, shape: Shape, route: str, payload: bytes) -> Calls:
    about = metadata.encode_composite([(mimetypes.ROUTING, metadata.encode_routing([route]))])
    expected = shape.payload if shape.responders else -1
    match shape.model:
        case Model.RESPONSE:
            return ResponseCalls(tally, framing, RequestResponse(1, about, payload), shape.in_flight, expected)
        case Model.FNF:
            return FnfCalls(tally, framing, RequestFnf(1, about, payload), shape.in_flight, expected)
        case Model.STREAM:
            request = RequestStream(1, about, payload, shape.credit)
            return StreamCalls(tally, framing, request, shape.in_flight, expected, shape.credit)
        case Model.CHANNEL:
            opening = RequestChannel(1, about, payload, shape.credit, complete=shape.items == 1)
            return ChannelCalls(tally, framing, opening, shape.in_flight, expected, shape.credit, shape.items)
