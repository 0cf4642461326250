"""Where requests go that are to be lost: a connection of the node's own that never answers.

To the data plane it is a responder that has taken the request and says nothing, so that cancels, timeouts, limits on
open streams and the end of the caller work on it as on any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.forwarding.internal import InternalConnection
from gateway.routing.route import ROUTE_ID_BYTES, Route

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane

#: No registration has this id.
ROUTE_ID: Final = bytes(ROUTE_ID_BYTES)


class _Silence(InternalConnection):
    def deliver(self, frame: bytes) -> None:
        """Nobody is told."""


class Nowhere:
    """The way there, on one node; there is none before it is first needed. Its route is in no table."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._route: Route | None = None

    @property
    def route(self) -> Route:
        if self._route is None:
            self._route = Route(ROUTE_ID, "", _Silence(self._plane, "nowhere"))
        return self._route

    def is_at(self, connection: object) -> bool:
        return self._route is not None and self._route.owner is connection
