"""Which registered devices are here now: those with a route whose connection has a link."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane

#: Devices that are looked at before others get their turn: some 50 µs of work.
SLICE: Final = 128


def is_online(plane: Plane, subject: str) -> bool:
    """Whether one has a link now, here or at a node that this one knows of."""
    for route in plane.table.routes_of_subject(subject):
        resumption = cast("Connection", route.owner).resumption
        if resumption is None or not resumption.parked:
            return True
    return False


async def count_online(plane: Plane) -> int:
    """How many of those that are registered, a slice of them in one turn of the loop."""
    names = iter(plane.snapshot.access.devices)
    online = 0
    while part := list(islice(names, SLICE)):
        online += sum(is_online(plane, name) for name in part)
        await asyncio.sleep(0)
    return online
