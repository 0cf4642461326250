"""What a child wants to hear of: the addresses that its clients asked for and that it could not find by itself.

An interest stands for every route that the address could ever mean, those that are yet to come included. Finding the
interests that a route meets costs a few dictionary lookups, however many there are.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any, Final

from gateway.errors import RequestInvalid
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.tags import SUB, Query

#: Interests that are kept for one child; the one that was asked for longest ago makes room.
CAPACITY: Final = 16_384

#: Route and tags of an address, less what only chooses among candidates.
Key = tuple[str, Query]


def key_of(address: Address) -> Key:
    return ("" if address.by_tags else address.route, address.tags)


def encode(key: Key) -> bytes:
    return json.dumps({"route": key[0], "tags": key[1]}, separators=(",", ":")).encode()


def decode(data: bytes) -> Address:
    """Raises RequestInvalid."""
    try:
        asked: Any = json.loads(data)
        route = asked["route"]
        tags = tuple((str(name), str(value)) for name, value in asked["tags"])
    except (ValueError, KeyError, TypeError, RecursionError):
        asked = route = None
        tags = ()
    if not isinstance(route, str) or not (route or tags) or len(route) > 255 or len(tags) > 64:
        raise RequestInvalid("gateway.resolve takes a route, tags, or both", reason="resolve_request")
    return Address(route=route, tags=tags, by_tags=not route)


def names_of(route: str) -> list[str]:
    """Every name of a service that could serve a route: itself, and where it ends at a `.` or `/`."""
    return [route, *(route[:at] for at, letter in enumerate(route) if letter in "./" and at)]


class Interests:
    """The interests of one child."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()
        self._by_service: dict[str, dict[Key, None]] = {}
        self._by_tag: dict[tuple[str, str], dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key) -> Key | None:
        """Want this from now on. Returns what had to make room for it."""
        if key in self._keys:
            self._keys.move_to_end(key)
            return None
        self._keys[key] = None
        for index, value in self._places(key):
            index.setdefault(value, {})[key] = None
        if len(self._keys) <= CAPACITY:
            return None
        oldest = next(iter(self._keys))
        self.drop(oldest)
        return oldest

    def drop(self, key: Key) -> None:
        del self._keys[key]
        for index, value in self._places(key):
            index[value].pop(key, None)
            if not index[value]:
                del index[value]

    def meets(self, route: Route) -> bool:
        """Whether somebody wants to hear of it."""
        for _, tags in self._by_service.get(route.service, ()) if route.service else ():
            if route.matches(tags):
                return True
        if not self._by_tag:
            return False
        pairs = [*route.tags.items(), (SUB, route.subject)]
        return any(route.matches(tags) for pair in pairs for _, tags in self._by_tag.get(pair, ())) or any(
            route.matches(tags) for _, tags in self._by_tag.get(_ANY, ())
        )

    def _places(self, key: Key) -> list[tuple[dict[Any, dict[Key, None]], Any]]:
        route, tags = key
        found: list[tuple[dict[Any, dict[Key, None]], Any]] = [(self._by_service, name) for name in names_of(route)]
        if not route or any(name == SUB for name, _ in tags):
            # By the tag that says most; a route is found by any of those that it can have.
            by_subject = [tag for tag in tags if tag[0] == SUB]
            own = by_subject or [tag for tag in tags if not tag[0].startswith("io.rsocket.broker.")]
            found.append((self._by_tag, own[0] if own else _ANY))
        return found


#: For addresses by nothing but implicit tags, which no index holds.
_ANY = ("", "")
