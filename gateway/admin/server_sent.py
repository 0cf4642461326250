"""Server-sent events: one open answer that brings what happens, with replay from the event log (`Last-Event-ID`).

A comment goes out every 15 s of silence, so that proxies and clients know the line is alive. A reader that is too slow
is held by its socket; when the log has forgotten what it has not read, it gets `event: gap` with the number.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.admin.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.admin.events import Event, EventLog

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0
#: How often it is looked at whether the stream is over, whatever happens.
JUDGED_S: Final = 5.0
#: For how long what was made for one stream is good enough for another.
SHARED_S: Final = 0.4
#: Events that are written before others get their turn.
BATCH: Final = 100
HEARTBEAT: Final = b": alive\n\n"


class Audience:
    """How many streams each caller has open."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, who: str) -> None:
        """Raises Problem (429) when the caller has too many; whoever enters leaves."""
        if self._open[who] >= self._most():
            raise Problem("too-many-requests", "too many streams are open", headers={"retry-after": "5"})
        self._open[who] += 1

    @contextmanager
    def leaving(self, who: str) -> Iterator[None]:
        """Leave at the end of the block."""
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


class Shared:
    """One message for all streams that want it at about the same time."""

    def __init__(self) -> None:
        self._making = asyncio.Lock()
        self._message = b""
        self._until = 0.0

    async def get(self, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What `make` gave, at most `SHARED_S` ago."""
        async with self._making:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._message = await make()
                self._until = now + SHARED_S
            return self._message


def event_document(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "at": datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z"),
        "kind": event.kind,
        "subject": event.subject,
        "data": event.data,
    }


def message(kind: str, data: object, number: int | None = None) -> bytes:
    """One event as it goes on the wire."""
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def follow(
    log: EventLog, last: int, matches: Callable[[Event], bool], ttl: float, over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What is in the log after `last`, then what happens, for `ttl` seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + ttl
    spoke = loop.time()
    yield b"retry: 2000\n\n"
    while not over():
        events, missed = log.since(last, BATCH)
        if missed:
            yield message("gap", {"missed": missed})
        text = b"".join(message(event.kind, event_document(event), event.id) for event in events if matches(event))
        if text:
            spoke = loop.time()
            yield text
        if events:
            last = events[-1].id
            await asyncio.sleep(0)
            continue
        now = loop.time()
        if now >= ends:
            return
        if now - spoke >= HEARTBEAT_S:
            spoke = now
            yield HEARTBEAT
        await log.wait(last, max(0.0, min(ends, spoke + HEARTBEAT_S, now + JUDGED_S) - now))


async def repeat(
    make: Callable[[], Awaitable[bytes]], every: float, ttl: float, over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What `make` gives, at once and then every so many seconds, for `ttl` seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + ttl
    due = loop.time()
    while not over():
        if loop.time() >= due:
            yield await make()
            due = loop.time() + every
            if due > ends:
                return
        await asyncio.sleep(min(JUDGED_S, max(0.0, due - loop.time())))
