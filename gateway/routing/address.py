"""What a request asks for, from its metadata (the gateway's addressing rules, first match wins):

1. an ADDRESS broker frame: AND over its tags; U, M or S decides unicast, multicast or shard;
2. routing.v0 tags: the first is the route, every further ``key=value`` narrows the candidates;
3. neither: the request is invalid.

Hints choose among candidates and never filter. An ADDRESS that names nothing but hints leaves the naming to the routing
tags and decides the rest: matching every route of the node is nobody's wish. The same holds for one whose only tags
form its shard key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.errors import RequestInvalid
from gateway.routing.balancer import Method, method_of
from gateway.routing.tags import HINTS, LB_METHOD, SHARD_KEY, Query, Tag, canonical_key, canonical_tag, query_of
from gateway.wire import brokering
from gateway.wire.brokering import Cast


@dataclass(frozen=True, slots=True)
class Address:
    """``by_tags``: ``tags`` alone find the candidates; otherwise ``route`` names the service and ``tags`` narrow it.

    ``route`` is the first routing tag either way ("" without one): access rules ask for it. ``balancer`` is None when
    the request has no (known) LBMethod hint. ``shard_key`` is set exactly when ``cast`` is SHARD.
    """

    route: str = ""
    tags: Query = ()
    cast: Cast = Cast.UNICAST
    by_tags: bool = False
    balancer: Method | None = None
    shard_key: bytes | None = None

    def tag(self, key: str) -> str | None:
        """The value that the address asks for under a canonical key."""
        return next((value for name, value in self.tags if name == key), None)

    def narrowed(self, tags: Query) -> Address:
        """The same, of those instances alone that have these tags, too."""
        return replace(self, tags=query_of((*self.tags, *tags))) if tags else self

    def without(self, key: str) -> Address:
        """The same, whatever value it asks for under a canonical key."""
        return replace(self, tags=tuple(tag for tag in self.tags if tag[0] != key))

    def __str__(self) -> str:
        """As an error names it: the route, or the tags by their short names."""
        tags = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.tags)
        if self.by_tags:
            return tags
        return f"{self.route} ({tags})" if tags else self.route


def address_from(routing_tags: Sequence[str], broker_address: brokering.Address | None) -> Address:
    """Raises RequestInvalid when the metadata names nobody, or asks for a shard without a key."""
    narrowing, hints = _split(_pairs(routing_tags[1:]))
    named: list[Tag] = []
    if broker_address is not None:
        cast = broker_address.cast
        named, closer_hints = _split(broker_address.tags)
        hints |= closer_hints
    else:
        # routing.v0 has no flag for it: the key itself asks for the shard.
        cast = Cast.SHARD if SHARD_KEY in hints else Cast.UNICAST
    shard_key = None
    if cast is Cast.SHARD:
        keys = _shard_keys(hints)
        values = dict(narrowing) | dict(named)
        present = [values[key] for key in keys if key in values]
        shard_key = ("\0".join(present) if present else hints[SHARD_KEY]).encode()
        narrowing = [tag for tag in narrowing if tag[0] not in keys]
        named = [tag for tag in named if tag[0] not in keys]
    route = routing_tags[0] if routing_tags else ""
    if not named and not route:
        raise RequestInvalid("no route in metadata")
    return Address(
        route=route,
        tags=query_of(named or narrowing),
        cast=cast,
        by_tags=bool(named),
        balancer=method_of(hints.get(LB_METHOD, "")),
        shard_key=shard_key,
    )


def _pairs(routing_tags: Sequence[str]) -> Iterator[Tag]:
    for text in routing_tags:
        key, separator, value = text.partition("=")
        if separator:
            yield key, value


def _split(tags: Iterable[Tag]) -> tuple[list[Tag], dict[str, str]]:
    """Canonical filters, and hints by their full names."""
    filters = []
    hints = {}
    for key, value in tags:
        tag = canonical_tag(key, value)
        if tag[0] in HINTS:
            hints[tag[0]] = value
        else:
            filters.append(tag)
    return filters, hints


def _shard_keys(hints: Mapping[str, str]) -> list[str]:
    named = hints.get(SHARD_KEY)
    if not named:
        raise RequestInvalid(
            "shard address without a key: add the tag ShardKey with the names of the tags whose values form the key, "
            "or with the key itself"
        )
    return [canonical_key(key.strip()) for key in named.split(",")]
