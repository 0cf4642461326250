"""Tag keys and values as routing compares them.

Canonical keys: a well-known key by its full name ``io.rsocket.broker.<Name>``, whichever of its three spellings came in
(``io.rsocket.broker.<Name>``, ``io.rsocket.routing.<Name>``, ``<Name>``); any other key as it is. Canonical RouteId
values: 32 lower-case hex digits, whether ``<uuid>`` or ``Id{<uuid>}`` came in. Hints (LBMethod, ShardKey, ShardMethod,
StickyRouteKey) say how to choose among candidates and never filter them, although stock clients put them into the same
tag set (rsocket-broker-client).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.wire.brokering import (
    LB_METHOD,
    ROUTE_ID,
    SERVICE_NAME,
    SHARD_KEY,
    SHARD_METHOD,
    STICKY_ROUTE_KEY,
    WELL_KNOWN_KEYS,
)

__all__ = [
    "HINTS",
    "IMPLICIT",
    "LB_METHOD",
    "ROUTE_ID",
    "SERVICE_NAME",
    "SHARD_KEY",
    "SHARD_METHOD",
    "STICKY_ROUTE_KEY",
    "SUB",
    "UNNARROWED",
    "Query",
    "Tag",
    "canonical_key",
    "canonical_tag",
    "own_tags",
    "query_of",
    "route_id_of",
]

Tag = tuple[str, str]
Query = tuple[Tag, ...]
"""AND over canonical tags, sorted and without doubles, so that equal queries are equal keys."""

SUB = "sub"
UNNARROWED = "x.gateway.unnarrowed"
"""On a route: tags of a request to its service say what is wanted, not of whom (a bridge's). No client registers it."""
HINTS = frozenset((LB_METHOD, SHARD_KEY, SHARD_METHOD, STICKY_ROUTE_KEY))
IMPLICIT = frozenset((SERVICE_NAME, ROUTE_ID, SUB))
"""The tags that the node itself puts on every route: nobody registers them."""

_FULL_NAMES: Mapping[str, str] = {
    prefix + name.rpartition(".")[2]: name
    for name in WELL_KNOWN_KEYS.values()
    for prefix in ("", "io.rsocket.broker.", "io.rsocket.routing.")
}


def canonical_key(key: str) -> str:
    """``RouteId`` -> ``io.rsocket.broker.RouteId``; a key that is not well known is returned as it came."""
    return _FULL_NAMES.get(key, key)


def route_id_of(value: str) -> bytes | None:
    """``Id{<uuid>}`` or ``<uuid>`` -> 16 bytes; None for text that is no UUID."""
    text = value[3:-1] if value.startswith("Id{") and value.endswith("}") else value
    try:
        route_id = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return route_id if len(route_id) == 16 else None


def canonical_tag(key: str, value: str) -> Tag:
    """Text under RouteId that is no UUID stays as it came and matches no route."""
    key = canonical_key(key)
    if key == ROUTE_ID:
        route_id = route_id_of(value)
        if route_id is not None:
            value = route_id.hex()
    return key, value


def own_tags(tags: Iterable[Tag]) -> dict[str, str]:
    """What a registration may keep of its tags: canonical keys, no hints, no implicit tags; the last of a key wins."""
    kept = {}
    for key, value in tags:
        key = canonical_key(key)
        if key not in HINTS and key not in IMPLICIT:
            kept[key] = value
    return kept


def query_of(tags: Iterable[Tag]) -> Query:
    """Canonical tags -> the query that they form together."""
    return tuple(sorted(set(tags)))
