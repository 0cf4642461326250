"""What this node tells of itself and of the nodes behind it: the version that each runs, and how many devices it has.

Devices are counted calmly: every few seconds, a slice of them in one loop turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.federation.items import About
from gateway.forwarding.links import DOWNLINK, LOCAL
from gateway.forwarding.plane import INTERNAL
from gateway.policy.principal import Kind

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link
    from gateway.forwarding.connection import Connection

#: How often they are counted, in seconds.
COUNT_S: Final = 10.0
#: Connections that are looked at before others get their turn: some 50 µs of work.
SLICE: Final = 256


UNKNOWN: Final = About()


class Census:
    """`devices`: how many were connected to this node, its other processes included, when they were counted last."""

    def __init__(self, federation: Federation) -> None:
        self.devices = 0
        self._federation = federation
        self._plane = federation.plane
        self._due = float("-inf")
        self._slice: asyncio.Handle | None = None

    @property
    def about(self) -> About:
        """What this node is."""
        return About(self._federation.options.version, self.devices)

    def nodes(self, link: Link) -> dict[bytes, tuple[str | None, About]]:
        """This node, which needs no name, and those that the other end of a link reaches through here."""
        found: dict[bytes, tuple[str | None, About]] = {}
        if link.side != DOWNLINK:
            for other in self._federation.links.values():
                if other.side == DOWNLINK and other is not link:
                    about = other.intake.about
                    found |= {node: (name, about.get(node, UNKNOWN)) for node, name in other.intake.names.items()}
        found[self._plane.node_id] = (None, self.about)
        return found

    def tick(self, now: float) -> None:
        """Count where it is time to; `now` by the plane's clock."""
        if now >= self._due:
            self._due = now + COUNT_S
            self.stop()
            self._count(iter(list(self._plane.connections.values())), set())

    def stop(self) -> None:
        if self._slice is not None:
            self._slice.cancel()
            self._slice = None

    def _count(self, left: Iterator[Connection], found: set[str]) -> None:
        part = list(islice(left, SLICE))
        found.update(connection.principal.subject for connection in part if _is_device(connection))
        if part:
            self._slice = self._federation.loop.call_soon(self._count, left, found)
            return
        self._slice = None
        before, self.devices = self.devices, len(found) + self._of_processes()
        for link in self._federation.links.values():
            # What has come from children meanwhile goes on at the same pace.
            if link.feed is not None and (link.side != DOWNLINK or self.devices != before):
                link.feed.nodes_changed()

    def _of_processes(self) -> int:
        """What the other processes of this node have told."""
        inside = [link for link in self._federation.links.values() if link.name == self._plane.node]
        return sum(link.intake.about.get(link.node, UNKNOWN).devices or 0 for link in inside)


def _is_device(connection: Connection) -> bool:
    resumption = connection.resumption
    return (
        connection.side == LOCAL
        and connection.kind != INTERNAL
        and connection.accepted
        and not connection.closed
        and connection.principal.kind is Kind.DEVICE
        and (resumption is None or not resumption.parked)
    )
