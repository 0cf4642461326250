"""One registration: who serves which service, under which tags.

A route is immutable while a table holds it. Its implicit tags (ServiceName, RouteId, ``sub``) live in slots of their
own instead of ``tags``, so that a million routes do not each carry a dictionary, and so that no client can claim
another one's service, id or subject by sending a tag of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, own_tags

ROUTE_ID_BYTES = 16

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


class Owner(Protocol):
    """The connection that serves a route. Compared and hashed by identity."""

    pending: int
    """Requests sent to it that have not ended; least-pending balancing reads it."""


class Route:
    """``route_id`` is 16 bytes; ``service`` is "" for the implicit route of a connection that registered nothing.

    ``tags`` holds what the client registered under canonical keys, without hints and without the implicit tags;
    ``subject`` is the token's ``sub`` ("" for an anonymous connection).
    """

    __slots__ = ("owner", "route_id", "service", "subject", "tags")

    def __init__(
        self,
        route_id: bytes,
        service: str,
        owner: Owner,
        *,
        subject: str = "",
        tags: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Raises ValueError when ``route_id`` is not 16 bytes."""
        if len(route_id) != ROUTE_ID_BYTES:
            raise ValueError(f"a route id has {ROUTE_ID_BYTES} bytes, not {len(route_id)}")
        self.route_id = route_id
        self.service = service
        self.owner = owner
        self.subject = subject
        self.tags: Mapping[str, str] = own_tags(tags) or _NO_TAGS

    def tag(self, key: str) -> str | None:
        """The value under a canonical key, implicit tags included; None when the route has no such tag."""
        if key == SERVICE_NAME:
            return self.service or None
        if key == SUB:
            return self.subject or None
        if key == ROUTE_ID:
            return self.route_id.hex()
        return self.tags.get(key)

    def matches(self, query: Iterable[tuple[str, str]]) -> bool:
        """AND over canonical (key, value) pairs; an empty query matches every route."""
        # Unrolled by hand: a generator costs several times the comparison, and a query's first answer asks every route
        # that carries its rarest tag.
        tags = self.tags
        for key, value in query:
            if key == SERVICE_NAME:
                if self.service != value or not value:
                    return False
            elif tags.get(key) != value and self.tag(key) != value:
                return False
        return True

    def __repr__(self) -> str:
        return f"Route({self.route_id.hex()}, {self.service!r}, subject={self.subject!r}, tags={dict(self.tags)!r})"
