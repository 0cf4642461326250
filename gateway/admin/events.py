"""What happened on this node lately: a ring of events that can be read again, and waited for.

The data plane's register and routing table report here, synchronously and for less than a microsecond each; readers
take what is new at their own pace. Who is too slow for the ring learns how much it missed. Must not know: HTTP, who
reads.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import Plane
from gateway.forwarding.register import Closed
from gateway.routing.table import Event as RouteEvent
from gateway.routing.table import Joined

CAPACITY: Final = 10_000


class Event(NamedTuple):
    """`id` counts from 1 in each run of the node; `at` is in Unix seconds; `kind` is like `connection.closed`."""

    id: int
    at: float
    kind: str
    subject: str
    data: dict[str, Any]


class EventLog:
    """The last `capacity` events."""

    def __init__(self, wall: Callable[[], float], capacity: int = CAPACITY) -> None:
        self._wall = wall
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._news = asyncio.Event()
        self._latest = 0

    @property
    def latest(self) -> int:
        """The id of the newest event; 0 before the first."""
        return self._latest

    def add(self, kind: str, subject: str, **data: Any) -> None:
        self._latest += 1
        self._ring.append(Event(self._latest, self._wall(), kind, subject, data))
        self._news.set()

    def since(self, last: int, limit: int) -> tuple[list[Event], int]:
        """Up to `limit` events after the one with id `last`, and how many of those have been forgotten.

        An id from another run of the node, higher than any of this one, is taken for none at all.
        """
        if last > self._latest:
            last = 0
        oldest = self._latest - len(self._ring)
        missed = max(0, oldest - last)
        start = max(0, last - oldest)
        newer = len(self._ring) - start
        if newer <= len(self._ring) // 2:
            # From the near end: a deque is walked, not indexed.
            tail = list(islice(reversed(self._ring), newer))
            return tail[::-1][:limit], missed
        return list(islice(self._ring, start, start + limit)), missed

    async def wait(self, last: int, timeout: float) -> bool:
        """Until there is an event after `last`; False when there is none within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._latest <= last:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


class PlaneWatcher:
    """Reports what comes and goes on the data plane, from `watch` until what that returned is called."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def watch(self, plane: Plane) -> Callable[[], None]:
        unsubscribe = plane.table.subscribe(self._route)
        plane.register.watcher = self

        def stop() -> None:
            unsubscribe()
            plane.register.watcher = None

        return stop

    def connection_accepted(self, connection: Connection) -> None:
        principal = connection.principal
        self._log.add(
            "connection.opened",
            principal.subject,
            connection=str(connection.number),
            peer=connection.peer,
            principal_kind=principal.kind.value,
        )

    def connection_closed(self, closed: Closed) -> None:
        self._log.add(
            "connection.closed",
            closed.subject,
            connection=str(closed.number),
            peer=closed.peer,
            principal_kind=closed.principal_kind,
            reason=closed.reason,
            duration_s=round(closed.duration_s, 3),
        )

    def _route(self, event: RouteEvent) -> None:
        route = event.route
        self._log.add(
            "route.joined" if isinstance(event, Joined) else "route.left",
            route.subject,
            route=str(uuid.UUID(bytes=route.route_id)),
            service=route.service,
        )
