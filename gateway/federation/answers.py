"""What other nodes ask this one over a link, besides its routes: who is a member, and what they know that it does not.

`gateway.members`; `gateway.relink` (the other end's next token); from a parent `gateway.epoch` (which life of this node
it is in) and `gateway.claimed` (a device of this node has connected elsewhere); from a peer `gateway.offered` (what of
an address is served here).
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from gateway.errors import NoRoute, NotPermitted, RequestInvalid, TokenError
from gateway.federation import interests
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import PEER, UPLINK, toward
from gateway.forwarding.services import NodeServices
from gateway.policy.access import is_reserved
from gateway.policy.principal import Kind
from gateway.routing.address import Address
from gateway.routing.locator import locate
from gateway.routing.route import Route
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link

#: Digits of the largest epoch.
_EPOCH_DIGITS = 19


class Answers:
    def __init__(self, federation: Federation, services: NodeServices) -> None:
        self._federation = federation
        self._plane = federation.plane
        for name, answer in (
            ("members", self._members),
            ("relink", self._relink),
            ("epoch", self._epoch),
            ("claimed", self._claimed),
            ("offered", self._offered),
        ):
            services.offer(name, FrameType.REQUEST_RESPONSE, answer)

    def serving(self, link: Link, address: Address) -> list[Route]:
        """The routes to which a request that comes over a link may go."""
        try:
            group = locate(self._plane.table, address)
        except NoRoute:
            return []
        return toward(link.connection, group.routes, everywhere=True)

    def _members(self, exchange: Exchange) -> None:
        link = self._federation.of(exchange)
        roster = self._federation.roster
        if exchange.data.startswith(b"="):
            same = exchange.data == roster.digest(str(uuid.UUID(bytes=link.node)))
            exchange.reply(as_json({"members": [] if same else roster.document()}))
            return
        if exchange.data and link.side in (PEER, UPLINK):
            try:
                roster.adopt(json.loads(exchange.data), link.name)
            except (ValueError, RecursionError) as error:
                raise RequestInvalid("gateway.members takes members", reason="members_request") from error
            exchange.reply(b"{}" if link.side == UPLINK else as_json({"members": roster.document()}))
            return
        exchange.reply(as_json({"members": roster.document()}))

    def _relink(self, exchange: Exchange) -> None:
        link = self._federation.of(exchange)
        caller = link.connection
        try:
            principal = self._plane.snapshot.admit(exchange.data, self._plane.wall())
        except TokenError as error:
            self._plane.counters.refuse_token(error.reason)
            raise NotPermitted(error.text, reason=error.reason) from error
        if principal.kind is not Kind.NODE or principal.subject != caller.principal.subject:
            raise NotPermitted("a link's next token is of the same node", reason="node_id")
        caller.renewed(principal, exchange.data)
        exchange.reply(as_json({"expires": int(principal.expires_at)}))

    def _epoch(self, exchange: Exchange) -> None:
        self._from(exchange, UPLINK)
        text = exchange.data.decode("ascii", "replace")
        if not text.isdecimal() or len(text) > _EPOCH_DIGITS:
            raise RequestInvalid("gateway.epoch takes a number", reason="epoch_request")
        self._federation.epoch = int(text)
        exchange.reply(b"{}")

    def _claimed(self, exchange: Exchange) -> None:
        self._from(exchange, UPLINK)
        try:
            said = json.loads(exchange.data)
            subject, kind, stamp = said["subject"], said["kind"], said["stamp"]
        except (ValueError, KeyError, TypeError, RecursionError):
            subject = kind = stamp = None
        if not (isinstance(subject, str) and isinstance(kind, str) and isinstance(stamp, int)):
            raise RequestInvalid("gateway.claimed takes subject, kind and stamp", reason="claimed_request")
        self._federation.claims.lost(subject, kind, stamp)
        exchange.reply(b"{}")

    def _offered(self, exchange: Exchange) -> None:
        link = self._from(exchange, PEER)
        found = self.serving(link, interests.decode(exchange.data))
        services = {route.service for route in found if not is_reserved(route.service)}
        exchange.reply(as_json({"services": sorted(services)}))

    def _from(self, exchange: Exchange, side: int) -> Link:
        link = self._federation.of(exchange)
        if link.side != side:
            who = "a parent" if side == UPLINK else "a peer"
            raise NotPermitted(f"{exchange.route} is for {who}", reason="link_side")
        return link


def as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
