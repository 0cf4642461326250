"""All connections of one run: opens them, keeps them alive, closes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from gateway.errors import GatewayError
from gateway.load.endpoint import Endpoint
from gateway.load.opening import KEEPALIVE_MS, connect, setup_frame
from gateway.load.shape import Access
from gateway.load.tally import Tally

OPEN_TIMEOUT_S = 10.0
_AT_ONCE = 64
_TICK_S = 0.01
_OWN_FILES = 64


class Crowd:
    """Use as a context; leaving it closes every connection at once."""

    def __init__(self, access: Access, tally: Tally) -> None:
        self.access = access
        self.tally = tally
        self.framing = access.address.framing(access.mask)
        self._endpoints: list[Endpoint] = []
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick(), name="keepalives of the load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tally.running = False
        self.tally.ending = True
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        self.drop()
        # A transport that was aborted closes its socket in a later turn of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def admit(self, endpoints: Iterable[Endpoint], *, service: str | None = None) -> None:
        """Open a connection for each, a few at a time; with a `service`, each registers it. Raises Refused."""
        token = self.access.token
        await self.admit_each((one, setup_frame(token, service, uuid.uuid4().bytes)) for one in endpoints)

    async def admit_each(self, arrivals: Iterable[tuple[Endpoint, bytes]]) -> None:
        """Open connections with a SETUP frame each, a few at a time. Raises Refused."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(endpoint: Endpoint, setup: bytes) -> None:
            async with gate:
                await connect(self.access.address, setup, endpoint, OPEN_TIMEOUT_S)
                self._endpoints.append(endpoint)

        await every(one(endpoint, setup) for endpoint, setup in arrivals)

    def drop(self) -> None:
        """Close every connection at once, with what is still on its way."""
        for endpoint in self._endpoints:
            if endpoint.transport is not None:
                endpoint.transport.abort()
        self._endpoints = []

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        turn = 0
        while True:
            await asyncio.sleep(_TICK_S)
            owing, self.tally.owing = self.tally.owing, []
            for calls in owing:
                calls.make_up()
            # Spread over the interval, as those of many devices are.
            due = int((loop.time() - begun) * 1000 / KEEPALIVE_MS * len(self._endpoints))
            for endpoint in _slice(self._endpoints, turn, due):
                endpoint.keep_alive()
            turn = max(turn, due)


def _slice(endpoints: Sequence[Endpoint], turn: int, due: int) -> list[Endpoint]:
    return [endpoints[number % len(endpoints)] for number in range(turn, min(due, turn + len(endpoints)))]


async def every(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once. The first error ends the others and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def room_for(connections: int) -> None:
    """Let this process have so many connections open. Raises GatewayError when the system's limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OWN_FILES + len(os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ())
    if soft != resource.RLIM_INFINITY and wanted > soft:
        if hard != resource.RLIM_INFINITY and wanted > hard:
            raise GatewayError(f"{connections} connections need {wanted} open files; the limit is {hard} (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
