"""What a child asks its parent: who serves an address, and what it need not be told any more.

A child wants to hear of what it has asked for, and of whatever else will answer to the same address, until it forgets
it. A parent keeps so many addresses of a child; who asks for more than that within a minute is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.errors import NotPermitted, Overloaded, RequestInvalid
from gateway.federation import interests
from gateway.federation.interests import Interests, Key, address_of, key_of
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link

#: Addresses that are forgotten with one request.
MAX_FORGOTTEN: Final = 256


class Resolving:
    """`gateway.resolve`, `gateway.forget`. `serving`: the routes to which a request that comes over a link may go."""

    def __init__(
        self, federation: Federation, services: NodeServices, serving: Callable[[Link, Address], list[Route]]
    ) -> None:
        self._federation = federation
        self._serving = serving
        services.offer("resolve", FrameType.REQUEST_RESPONSE, self._resolve)
        services.offer("forget", FrameType.REQUEST_RESPONSE, self._forget)

    def _child(self, exchange: Exchange) -> tuple[Link, Interests]:
        link = self._federation.of(exchange)
        if link.interests is None:
            raise NotPermitted("only a child asks its parent for routes", reason="not_a_child")
        return link, link.interests

    def _resolve(self, exchange: Exchange) -> None:
        link, wanted = self._child(exchange)
        federation = self._federation
        address = interests.decode(exchange.data)
        federation.look(address)

        def answer() -> None:
            if not exchange.open:
                return
            found = self._serving(link, address)
            if link.feed is not None and link.feed.open:
                try:
                    gone = wanted.add(key_of(address), federation.plane.now)
                except Overloaded as error:
                    federation.plane.counters.refuse(error.reason)
                    exchange.fail(error)
                    return
                if gone is not None:
                    self._withdraw(link, gone)
                link.feed.want(found)
            generation = federation.plane.table.generation
            exchange.reply(json.dumps({"found": len(found), "generation": generation}).encode())

        if self._serving(link, address) or not federation.resolve(address, answer):
            answer()

    def _forget(self, exchange: Exchange) -> None:
        link, wanted = self._child(exchange)
        try:
            asked = json.loads(exchange.data)["forget"]
            keys = [key_of(interests.decode(json.dumps(each).encode())) for each in asked]
        except (ValueError, KeyError, TypeError, RecursionError):
            keys = []
        if not 0 < len(keys) <= MAX_FORGOTTEN:
            raise RequestInvalid(f"gateway.forget takes 1 to {MAX_FORGOTTEN} addresses", reason="forget_request")
        for key in keys:
            if wanted.drop(key):
                self._withdraw(link, key)
        exchange.reply(b"{}")

    def _withdraw(self, link: Link, key: Key) -> None:
        """Nobody behind the link wants to hear of an address any more."""
        if link.feed is not None and link.feed.open:
            link.feed.unwanted(self._serving(link, address_of(key)))
