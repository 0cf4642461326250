"""Routes behind other centrals that are looked for by tags, which the shared table does not know.

Peers are asked what they have; who has something gets a route that carries what was asked for, for a while. What is
wrong by then is REJECTED by the peer, and asked for again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.federation import interests
from gateway.federation.interests import Key, key_of
from gateway.federation.items import Told
from gateway.policy.principal import Kind
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB, route_id_of

if TYPE_CHECKING:
    from gateway.federation.link import Link
    from gateway.routing.table import RoutingTable

#: Addresses that are kept, and for how long, in seconds; those that nobody answered to are kept for a shorter time.
KEPT: Final = 4_096
KEPT_S: Final = 30.0
MISSED_S: Final = 1.0
#: How long peers have to answer, in seconds; a request waits for it no longer.
ANSWER_S: Final = 1.0
#: Services of one peer that may stand for one address.
SERVICES: Final = 4


class _Asked:
    __slots__ = ("routes", "thens", "waiting")

    def __init__(self, waiting: int) -> None:
        self.routes: list[Route] = []
        #: Who waits; None when all have answered.
        self.thens: list[Callable[[], None]] | None = []
        self.waiting = waiting


class Tagged:
    """`told` takes how each of the routes is told to a child."""

    def __init__(self, routing: RoutingTable, loop: asyncio.AbstractEventLoop, told: dict[bytes, Told]) -> None:
        self._routing = routing
        self._loop = loop
        self._told = told
        self._asked: OrderedDict[Key, _Asked] = OrderedDict()

    def would_ask(self, address: Address) -> bool:
        """Whether `ask` would have somebody wait for an answer now."""
        if not _has_tags(address):
            return False
        asked = self._asked.get(key_of(address))
        return asked is None or asked.thens is not None

    def ask(self, address: Address, peers: Iterable[Link], then: Callable[[], None], *, afresh: bool) -> bool:
        """Have routes in the table for an address that the shared table cannot answer; `then` is called when they are.

        False: nobody is asked, or they were a moment ago; `then` is not called.
        """
        if not _has_tags(address):
            return False
        key = key_of(address)
        asked = self._asked.get(key)
        if asked is not None and asked.thens is not None:
            asked.thens.append(then)
            return True
        if asked is not None:
            if not afresh:
                return False
            self._drop(key, asked)
        links = list(peers)
        if not links:
            return False
        asked = self._asked[key] = _Asked(len(links))
        assert asked.thens is not None
        asked.thens.append(then)
        if len(self._asked) > KEPT:
            oldest, gone = next(iter(self._asked.items()))
            self._drop(oldest, gone)
        for link in links:
            self._ask(link, key, asked)
        self._loop.call_later(ANSWER_S, self._over, key, asked)
        return True

    def _ask(self, link: Link, key: Key, asked: _Asked) -> None:
        def then(document: Any) -> None:
            services = document.get("services") if isinstance(document, dict) else None
            if isinstance(services, list) and self._asked.get(key) is asked and link.usable:
                for service in services[:SERVICES]:
                    self._enter(link, key, asked, str(service))
            answered()

        def answered(text: str = "") -> None:
            asked.waiting -= 1
            if not asked.waiting:
                self._over(key, asked)

        link.ask("gateway.offered", interests.encode(key), then, answered)

    def _over(self, key: Key, asked: _Asked) -> None:
        if asked.thens is None:
            return
        thens, asked.thens = asked.thens, None
        if self._asked.get(key) is asked:
            self._loop.call_later(KEPT_S if asked.routes else MISSED_S, self._drop, key, asked)
        for then in thens:
            then()

    def _enter(self, link: Link, key: Key, asked: _Asked, service: str) -> None:
        tags = dict(key[1])
        subject = tags.pop(SUB, "")
        wanted = tags.pop(SERVICE_NAME, service)
        by_id = route_id_of(tags.pop(ROUTE_ID, ""))
        whole = repr((link.node, service, key)).encode()
        route_id = by_id or hashlib.blake2b(whole, digest_size=16).digest()
        if wanted != service or self._routing.get(route_id) is not None:
            return
        own = tuple(tags.items())
        route = Route(route_id, service, link.connection, subject=subject, tags=own)
        asked.routes.append(route)
        self._told[route_id] = Told(route_id, link.node, 0, service, subject, str(Kind.SERVICE), own)
        self._routing.add(route)

    def _drop(self, key: Key, asked: _Asked) -> None:
        if self._asked.get(key) is asked:
            del self._asked[key]
        for route in asked.routes:
            self._told.pop(route.route_id, None)
            self._routing.remove(route)
        asked.routes.clear()
        self._over(key, asked)


def _has_tags(address: Address) -> bool:
    """Whether it asks for more than the shared table knows."""
    return any(name not in (SERVICE_NAME, SUB) for name, _ in address.tags)
