"""What other nodes hand over from their spools, and where it waits here: `gateway.spool`, a service for nodes alone.

It is acknowledged when it is on this node's disk, with the marks by which it is known if it comes again, in one
transaction. From there it goes on like anything that waits: to a service of this node, or over another link, as the
direction rule allows (`forwarding.links`). No document is asked: which messages wait is for the node to say whose
clients send them; what this node's file has room for is refused beyond that, and stays where it is.

Whoever hands over vouches for the senders, as far as its link's grant goes. They may be gone by now, so this node
cannot look whether they are connected there; it can look at which node they are said to be, and whether they are
revoked.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import (
    FrameError,
    GatewayError,
    NotPermitted,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
    SpoolFull,
    StorageError,
)
from gateway.forwarding.links import DOWNLINK
from gateway.policy.access import is_name, is_reserved
from gateway.policy.principal import Kind
from gateway.spool.inbox import Arrived
from gateway.spool.message import Message
from gateway.spool.rules import PRIORITIES
from gateway.spooling.consignment import Answer, Consignment, Item, decode
from gateway.spooling.envelope import Envelope, Origin, opening, unseal
from gateway.spooling.outlet import FOREIGN
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.federation.link import Link
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.exchange import Exchange
    from gateway.forwarding.services import NodeServices
    from gateway.spooling.depot import Depot


class Reception:
    """`find`: the link that a connection is."""

    def __init__(self, depot: Depot, services: NodeServices, find: Callable[[Connection], Link | None]) -> None:
        self._depot = depot
        self._find = find
        services.offer("spool", FrameType.REQUEST_RESPONSE, self._serve)

    def _serve(self, exchange: Exchange) -> None:
        link = self._find(exchange.caller)
        if link is None or not link.node:
            raise NotPermitted(f"{exchange.route} is for nodes", reason="not_a_node")
        consignment = decode(exchange.data)
        if not is_name(consignment.target) or is_reserved(consignment.target):
            raise RequestInvalid(f"no service can be called {consignment.target!r}", reason="spool_target")
        self._depot.work(self._answer(link, consignment, exchange))

    async def _answer(self, link: Link, consignment: Consignment, exchange: Exchange) -> None:
        try:
            answer = await self._take(link, consignment)
        except SpoolFull as error:
            refusal: RequestError = Overloaded(error.text, reason=error.reason)
        except RequestError as error:
            refusal = error
        except GatewayError as error:
            refusal = ResponderGone(error.text, reason="spool_storage")
        else:
            if exchange.open:
                exchange.reply(answer.encode())
            return
        link.connection.counters.refuse(refusal.reason)
        exchange.fail(refusal)

    async def _take(self, link: Link, consignment: Consignment) -> Answer:
        """Raises SpoolFull, StorageError, RequestError."""
        node = uuid.UUID(bytes=link.node)
        name = f"{FOREIGN}{link.kind}/{consignment.target}"
        if not consignment.items:
            standing = self._depot.outlets.get(name)
            return Answer(0, {}, standing is not None and standing.waits_for(str(node)))
        outlet = await self._depot.outlet(name)
        priority = _priority(consignment.lane)
        refused: dict[int, str] = {}
        messages, seqs = [], []
        judge = _Judge(self._depot, link, consignment.target)
        for item in consignment.items:
            message = judge.message(item, consignment.epoch, priority)
            if isinstance(message, str):
                refused[item.seq] = message
            else:
                messages.append(message)
                seqs.append(item.seq)
        arrived = Arrived(
            str(node), consignment.lane, consignment.epoch, consignment.oldest_epoch, consignment.floor, seqs
        )
        receipt = await outlet.receive(arrived, messages)
        return Answer(receipt.settled, refused, outlet.waits_for(str(node)))


class _Judge:
    """Whether a link may hand over what it does, for one service; remembers what it has decided."""

    def __init__(self, depot: Depot, link: Link, target: str) -> None:
        self._depot = depot
        self._link = link
        self._target = target
        self._routes: dict[bytes, bool] = {}
        self._senders: dict[bytes, bool] = {}
        self._node_id = str(uuid.UUID(bytes=link.node))
        self._name = json.dumps(link.name)

    def message(self, item: Item, epoch: int, priority: int) -> Message | str:
        """As it is to wait here; or why not."""
        try:
            envelope = unseal(item.envelope)
            if not self._may_call(envelope.metadata):
                return "forbidden"
            if not self._is_sender(envelope.who):
                return "forbidden"
            came = self._came(item, envelope, epoch)
        except (StorageError, FrameError, RequestInvalid):
            return "unreadable"
        if came is None:
            return "forbidden"
        payload = opening(envelope.interaction, envelope.who, envelope.metadata, came) + envelope.data
        ttl_s = None if item.left_ms is None else max(0.001, item.left_ms / 1000)
        return Message(payload, item.key, priority, ttl_s)

    def _may_call(self, metadata: bytes) -> bool:
        allowed = self._routes.get(metadata)
        if allowed is None:
            route = self._depot.ways.asked(metadata).route
            allowed = self._routes[metadata] = self._link.connection.grant.may_call(self._target, route)
        return allowed

    def _is_sender(self, who: bytes) -> bool:
        allowed = self._senders.get(who)
        if allowed is None:
            principal = Envelope(0, who, b"", b"").principal
            allowed = self._senders[who] = principal.kind is not Kind.NODE
        return allowed

    def _came(self, item: Item, envelope: Envelope, epoch: int) -> bytes | None:
        """Where it was accepted, as it is written; None where the link does not lead there."""
        if not envelope.came:
            flags = f"{_json(item.redelivered)},{_json(item.acknowledge)}"
            return f'["{self._node_id}",{self._name},{epoch},{item.seq},{item.age_ms},{flags}]'.encode()
        origin = envelope.origin
        assert origin is not None
        link = self._link
        if link.side == DOWNLINK and link.intake.names.get(_node(origin)) != origin.node:
            return None
        redelivered = origin.redelivered or item.redelivered
        return origin._replace(age_ms=origin.age_ms + item.age_ms, redelivered=redelivered).written()


def _node(origin: Origin) -> bytes:
    try:
        return uuid.UUID(origin.node_id).bytes
    except ValueError as error:
        raise RequestInvalid("a message of no node") from error


def _json(value: bool) -> str:
    return "true" if value else "false"


def _priority(lane: str) -> int:
    text = lane.rpartition("/")[2]
    if not (text.isdecimal() and int(text) < PRIORITIES):
        raise RequestInvalid("a lane ends with its class, 0 to 9", reason="spool_lane")
    return int(text)
