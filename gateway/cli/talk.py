"""`gateway request`, `stream`, `fnf`, `channel`: one call of each interaction model."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from gateway.cli import printing, target
from gateway.cli.printing import payload, show
from gateway.cli.target import tags
from gateway.cli.target import target as settle

Route = Annotated[str, typer.Argument(help="Route, as in thermostat-1.set_target.", show_default=False)]
Credit = Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Items that may be under way.")]
Count = Annotated[int, typer.Option(min=0, help="Items to take before ending; 0: all.")]
LINES_AHEAD = 64


def attach(app: typer.Typer) -> None:
    app.command()(request)
    app.command()(stream)
    app.command()(fnf)
    app.command()(channel)


def request(
    route: Route,
    data: printing.Payload = "",
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    tag: target.Tags = None,
    timeout: target.Timeout = 10.0,
    output: printing.DataFormat = "text",
) -> None:
    """Send a request and print the answer."""

    async def call() -> None:
        async with settle(url, token, directory, ca).link(timeout=timeout) as gw:
            begun = time.perf_counter()
            answer = await gw.request(route, payload(data), tags=tags(tag))
            show(answer, output, ms=round((time.perf_counter() - begun) * 1000, 3))

    asyncio.run(call())


def stream(
    route: Route,
    data: printing.Payload = "",
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    tag: target.Tags = None,
    count: Count = 0,
    credit: Credit = 64,
    output: printing.DataFormat = "text",
) -> None:
    """Request a stream and print its items as they come."""

    async def call() -> None:
        async with settle(url, token, directory, ca, lasting=True).link() as gw:
            taken = 0
            async for item in gw.stream(route, payload(data), n=credit, tags=tags(tag)):
                show(item, output)
                taken += 1
                if taken == count:
                    break

    asyncio.run(call())


def fnf(
    route: Route,
    data: printing.Payload = "",
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    tag: target.Tags = None,
) -> None:
    """Send a fire-and-forget request. Nobody says whether it arrived."""

    async def call() -> None:
        async with settle(url, token, directory, ca).link() as gw:
            await gw.fire_and_forget(route, payload(data), tags=tags(tag))

    asyncio.run(call())


def channel(
    route: Route,
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    tag: target.Tags = None,
    credit: Credit = 64,
    output: printing.DataFormat = "text",
) -> None:
    """Send the lines of standard input over a channel and print what comes back.

    The first line opens the channel; the end of input completes this side.
    """

    async def call() -> None:
        async with settle(url, token, directory, ca, lasting=True).link() as gw:
            async for item in gw.channel(route, _lines(), n=credit, tags=tags(tag)):
                show(item, output)

    asyncio.run(call())


async def _lines(descriptor: int = 0) -> AsyncIterator[bytes]:
    """Iterate over the lines of a descriptor, without their ends, read in a thread as far ahead as LINES_AHEAD.

    Not through ``sys.stdin``: a thread that waits in it keeps the interpreter from ending.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = threading.Semaphore(LINES_AHEAD)

    def read() -> None:
        rest = b""
        try:
            while chunk := os.read(descriptor, 65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    room.acquire()
                    loop.call_soon_threadsafe(queue.put_nowait, line)
            if rest:
                loop.call_soon_threadsafe(queue.put_nowait, rest)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except RuntimeError:
            # The loop has ended before the input did.
            return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (line := await queue.get()) is not None:
        room.release()
        yield line
