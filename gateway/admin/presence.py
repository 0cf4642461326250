"""Which registered devices are here now: those with a route whose connection has a link."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.register import Closed
    from gateway.routing.route import Route

#: Devices that are looked at before others get their turn: some 50 µs of work.
SLICE: Final = 128


def is_online(plane: Plane, subject: str) -> bool:
    """Whether one has a link now, here or at a node that this one knows of."""
    return live_route(plane, subject) is not None


def live_route(plane: Plane, subject: str) -> Route | None:
    """A route of it whose connection has a link."""
    for route in plane.table.routes_of_subject(subject):
        resumption = cast("Connection", route.owner).resumption
        if resumption is None or not resumption.parked:
            return route
    return None


async def count_online(plane: Plane) -> int:
    """How many of those that are registered, a slice of them in one turn of the loop."""
    return len(await online_devices(plane))


async def online_devices(plane: Plane) -> list[str]:
    """Those that are registered and here now, a slice of them in one turn of the loop."""
    names = iter(plane.snapshot.access.devices)
    online: list[str] = []
    while part := list(islice(names, SLICE)):
        online += (name for name in part if is_online(plane, name))
        await asyncio.sleep(0)
    return online


def last_closed(plane: Plane, subjects: Iterable[str]) -> dict[str, Closed]:
    """Of each of these subjects the connection that ended last, as far as that is remembered."""
    wanted = set(subjects)
    found: dict[str, Closed] = {}
    for closed in reversed(plane.register.closed) if wanted else ():
        if closed.subject in wanted:
            found[closed.subject] = closed
            wanted.discard(closed.subject)
            if not wanted:
                break
    return found
