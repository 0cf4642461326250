"""Routes for the tests of this package."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.routing.route import Route
from gateway.wire.sink import FrameSink


class Connection(FrameSink):
    """The least that the table and the balancer ask of the connection that serves a route."""

    def __init__(self, pending: int = 0) -> None:
        self.pending = pending


def route_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make_route(
    number: int,
    service: str = "",
    owner: Connection | None = None,
    *,
    subject: str = "",
    tags: Mapping[str, str] | None = None,
) -> Route:
    return Route(route_id(number), service, owner or Connection(), subject=subject, tags=(tags or {}).items())
