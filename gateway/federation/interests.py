"""What a child wants to hear of: the addresses that its clients asked for and that it could not find by itself.

An interest stands for every route that the address could ever mean, those that are yet to come included. Finding the
interests that a route meets costs a few dictionary lookups, however many there are.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any, Final

from gateway.errors import Overloaded, RequestInvalid
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.tags import SUB, UNNARROWED, Query

#: Addresses that a child asks for, and that its parent keeps of it; the one that was asked for longest ago makes room.
CAPACITY: Final = 8_192
#: How long an address is kept at least, in seconds: a child that wants more of them at a time is refused.
KEPT_S: Final = 60.0
#: How long nothing has to be sent to an address for its child to forget it, in seconds.
IDLE_S: Final = 900.0

#: Route and tags of an address, less what only chooses among candidates.
Key = tuple[str, Query]


def key_of(address: Address) -> Key:
    return ("" if address.by_tags else address.route, address.tags)


def address_of(key: Key) -> Address:
    return Address(route=key[0], tags=key[1], by_tags=not key[0])


def encode(key: Key) -> bytes:
    return json.dumps(_document(key), separators=(",", ":")).encode()


def encode_all(keys: list[Key]) -> bytes:
    return json.dumps({"forget": [_document(key) for key in keys]}, separators=(",", ":")).encode()


def _document(key: Key) -> dict[str, Any]:
    return {"route": key[0], "tags": key[1]}


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
    return address_of((route, tags))


def names_of(route: str) -> list[str]:
    """Every name of a service that could serve a route: itself, and where it ends at a `.` or `/`."""
    return [route, *(route[:at] for at, letter in enumerate(route) if letter in "./" and at)]


class Interests:
    """The interests of one child."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, float] = OrderedDict()
        self._by_service: dict[str, dict[Key, None]] = {}
        self._by_tag: dict[tuple[str, str], dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key, now: float) -> Key | None:
        """Want this from `now` on. Returns what had to make room for it. Raises Overloaded: all the others are new."""
        if key in self._keys:
            self._keys[key] = now
            self._keys.move_to_end(key)
            return None
        full = len(self._keys) >= CAPACITY
        if full and now - next(iter(self._keys.values())) < KEPT_S:
            raise Overloaded(f"over {CAPACITY} addresses asked for within {KEPT_S:g} s", reason="interests")
        self._keys[key] = now
        for index, value in self._places(key):
            index.setdefault(value, {})[key] = None
        if not full:
            return None
        oldest = next(iter(self._keys))
        self.drop(oldest)
        return oldest

    def drop(self, key: Key) -> bool:
        """Want this no more. Returns whether it was wanted."""
        if self._keys.pop(key, None) is None:
            return False
        for index, value in self._places(key):
            index[value].pop(key, None)
            if not index[value]:
                del index[value]
        return True

    def meets(self, route: Route) -> bool:
        """Whether somebody wants to hear of it."""
        for _, tags in self._by_service.get(route.service, ()) if route.service else ():
            if route.matches(tags) or UNNARROWED in route.tags:
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


class Asked:
    """The addresses for which a node has asked its parent, by when requests went to them last."""

    def __init__(self) -> None:
        self._used: OrderedDict[Key, float] = OrderedDict()
        self._asked: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._used)

    def keys(self) -> list[Key]:
        return list(self._used)

    def ask(self, key: Key, now: float) -> list[Key]:
        """The parent is asked. Returns what makes room for it."""
        self._asked[key] = self._used[key] = now
        self._used.move_to_end(key)
        return self._oldest(len(self._used) - CAPACITY)

    def use(self, key: Key, now: float) -> None:
        """A request goes there."""
        if key in self._used:
            self._used[key] = now
            self._used.move_to_end(key)

    def age(self, key: Key, now: float) -> float:
        """How long ago the parent was asked, in seconds."""
        return now - self._asked.get(key, float("-inf"))

    def drop(self, key: Key) -> None:
        if self._used.pop(key, None) is not None:
            del self._asked[key]

    def idle(self, now: float, most: int) -> list[Key]:
        """Those to which nothing has gone for long, `most` at a time; they are forgotten."""
        count = 0
        for used in self._used.values():
            if count == most or now - used < IDLE_S:
                break
            count += 1
        return self._oldest(count)

    def _oldest(self, count: int) -> list[Key]:
        found: list[Key] = []
        for _ in range(count):
            key, _used = self._used.popitem(last=False)
            del self._asked[key]
            found.append(key)
        return found
