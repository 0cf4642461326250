"""One bridge: an internal connection on this side, a client of the broker on the other, and the rules between them.

To the data plane it is a connection like any other: it has a principal of its own, whose rights are what its document
says, and its requests are judged, limited and counted by them. It serves `mqtt.<name>` as long as it runs, and the
services of its out rules while the broker is there: where it is not, a `Spool` document that matches them takes what
comes, and delivers it later.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, cast

from gateway.bridges.mqtt.asking import Asker
from gateway.bridges.mqtt.calls import Calls
from gateway.bridges.mqtt.client import Arrival, Backoff, Client
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.inbound import Inbound, Store
from gateway.bridges.mqtt.loop_guard import LoopGuard
from gateway.bridges.mqtt.memory import Memory
from gateway.bridges.mqtt.outbound import Outbound
from gateway.bridges.mqtt.packets import VERSION_5
from gateway.bridges.mqtt.presence import Presence
from gateway.bridges.mqtt.rpc import Rpc
from gateway.bridges.mqtt.session import Dial, Filter
from gateway.bridges.mqtt.sparkplug import Births, Lives
from gateway.bridges.mqtt.subscription import Subscriptions
from gateway.errors import BridgeError, NoRoute, RequestInvalid
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.ending import OK, finish
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.exchanges import Exchanges, Handler, route_of
from gateway.forwarding.flow_log import looped
from gateway.forwarding.outbox import NoCarrier
from gateway.forwarding.stamp import Form, principal_entry
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_UNFINISHED, Stream
from gateway.observe.bridges import BridgeCounters, BridgeState, BridgeStatus
from gateway.policy.principal import Kind, Principal
from gateway.routing.route import Route
from gateway.routing.table import Event, Joined
from gateway.routing.tags import UNNARROWED
from gateway.topics.subscriptions import Subscriptions as Subscribed
from gateway.wire.frames import FrameType, Request, RequestFnf, peek_stream_id, peek_type

if TYPE_CHECKING:
    from gateway.documents.bridge import Bridge as Spec
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane, Snapshot

_ASKED = (FrameType.REQUEST_RESPONSE, FrameType.REQUEST_FNF)


@dataclass(frozen=True, slots=True)
class House:
    """What a bridge needs of the node that it is in. `directory`: for its files; `store`: where messages can wait."""

    plane: Plane
    directory: Path
    node_id: str
    random: Random
    store: Callable[[], Store | None]


class _Brake(NoCarrier):
    """The carrier of a bridge: whoever is fed too fast stops the broker."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pause_reading(self) -> None:
        self._client.pause("slow")

    def resume_reading(self) -> None:
        self._client.resume("slow")


class Bridge(Exchanges):
    """`start` it, `stop` it; `status` says how it is. Made anew when its document changes."""

    __slots__ = (
        "_asker",
        "_calls",
        "_fired_by",
        "_gate",
        "_handlers",
        "_house",
        "_inbound",
        "_memory",
        "_outbound",
        "_presence",
        "_routes",
        "_rpc",
        "_subscribed",
        "_subscriptions",
        "_unsubscribe",
        "client",
        "counters_of_mqtt",
        "spec",
    )

    judges_topics = True

    def __init__(self, spec: Spec, house: House, prepare: Callable[[], Dial], counters: BridgeCounters) -> None:
        """`prepare` makes what to connect with, anew for each try. Raises BridgeError when its files cannot be had."""
        plane = house.plane
        super().__init__(plane, spec.service)
        # It is a requester, and a requester's requests are counted.
        self.counters = plane.counters
        services, routes = spec.grants
        principal = Principal(spec.service, Kind.SERVICE, "", 0.0, math.inf, services, routes)
        self.adopt(principal, plane.snapshot.grant(principal), Form.COMPOSITE, principal_entry(principal, plane.node))
        self.spec = spec
        self.counters_of_mqtt = counters
        self._house = house
        self._gate = Gate(plane, lambda: self.caller)
        self._fired_by: dict[int, Connection] = {}
        self._memory = Memory(house.directory, spec.name)
        self._asker = Asker(self)
        self._routes: list[Route] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        loop = spec.loop
        guard = LoopGuard(f"{house.node_id}/{spec.name}", loop.max_hops, loop.window, loop.entries)
        cached = spec.caches_repetitions
        backoff = Backoff(spec.backoff.base, spec.backoff.cap, spec.backoff.stable)
        self.client = Client(
            spec.name,
            spec.mqtt.endpoints,
            prepare,
            backoff,
            self._memory,
            self,
            counters,
            version=spec.mqtt.version,
            random=house.random,
            clock=plane.monotonic,
            wall=plane.wall,
        )
        aware = spec.sparkplug == "aware"
        births, lives = (Births(), Lives()) if aware else (None, None)
        self._rpc = Rpc(spec.rules, self._asker, self.client, guard, self._gate, counters)
        counters.on_loop = lambda loop: looped(plane, spec.name, loop.topic, loop.reason)
        self._inbound = Inbound(
            spec.name,
            spec.rules,
            self._asker,
            self.client,
            guard,
            counters,
            house.store,
            principal,
            self._rpc,
            births,
            self._gate,
            cached=cached,
            version=spec.mqtt.version,
            clock=plane.monotonic,
            wall=plane.wall,
        )
        self._outbound = Outbound(
            spec.name,
            plane.node,
            spec.rules,
            self.client,
            guard,
            counters,
            self._gate,
            cached=cached,
            lives=lives,
            clock=plane.monotonic,
        )
        self._calls = Calls(
            spec.name, house.node_id, spec.mqtt.version, spec.rules, self.client, self._outbound, self._gate, counters
        )
        self._presence = Presence(spec, plane, self.client, lives, counters)
        filters = (*spec.rules.filters, *self._calls.filters, *self._presence.filters)
        self._subscribed = Subscribed(filters, identifiers=spec.mqtt.version == VERSION_5)
        self.client.want([Filter(each.topic, each.qos, each.number) for each in self._subscribed.asked])
        self._subscriptions = Subscriptions(
            spec.name, spec.rules, spec.mqtt.endpoints, prepare, counters, spec.mqtt.receive_maximum, self._gate, births
        )
        self.carrier = _Brake(self.client)
        self._handlers: dict[str, tuple[tuple[FrameType, ...], Handler]] = {
            f"{spec.service}.publish": (_ASKED, self._outbound.publish),
            f"{spec.service}.subscribe": ((FrameType.REQUEST_STREAM,), self._subscriptions.subscribe),
            f"{spec.service}.call": ((FrameType.REQUEST_RESPONSE, FrameType.REQUEST_STREAM), self._calls.call),
            f"{spec.service}.last": ((FrameType.REQUEST_RESPONSE,), self._subscriptions.last),
        }

    # Life

    def start(self) -> None:
        table = self.plane.table
        table.add(self._route(self.spec.service))
        self._unsubscribe = table.subscribe(self._heard)
        self.client.start()

    async def stop(self) -> None:
        """Take nothing more, say goodbye to the broker, end."""
        self._unsubscribe()
        self.plane.table.remove_owner(self)
        self._inbound.forget()
        self._rpc.stop()
        self._calls.stop()
        self._presence.leave()
        await self._subscriptions.stop()
        await self.client.stop()
        self.plane.soundings.ended(self.number)
        self.end(CloseReason.PEER_CLOSED)
        self._memory.close()

    def judge_again(self, snapshot: Snapshot) -> None:
        """Its rights are its document's; their limits are the settings'."""
        self.hold(snapshot.grant(self.principal))
        self._asker.forget_ways()

    def forget_decisions(self) -> None:
        super().forget_decisions()
        if hasattr(self, "_asker"):
            self._asker.forget_ways()

    def judged_otherwise(self) -> None:
        super().judged_otherwise()
        self._gate.changed()
        self._rpc.judge()

    def _route(self, service: str) -> Route:
        return Route(uuid.uuid4().bytes, service, self, subject=self.spec.service, tags=((UNNARROWED, "1"),))

    # What the client tells

    def connected(self) -> None:
        for service in self.spec.rules.services:
            route = self._route(service)
            self._routes.append(route)
            self.plane.table.add(route)
        self._presence.connected()

    def disconnected(self, why: BridgeError) -> None:
        for route in self._routes:
            self.plane.table.remove(route)
        self._routes.clear()
        self._presence.disconnected(why.reason)
        self.plane.soundings.ended(self.number)

    def arrived(self, arrival: Arrival) -> None:
        message = arrival.message
        if arrival.subscriptions and self._subscribed.is_copy(message.topic, arrival.subscriptions):
            self.counters_of_mqtt.copies += 1
            self.client.acknowledge(arrival)
        elif self._calls.take(message) or self._presence.take(message):
            self.client.acknowledge(arrival)
        else:
            self._inbound.arrived(arrival)

    def _heard(self, event: Event) -> None:
        if event.route.owner is self:
            return
        if isinstance(event, Joined):
            self._inbound.joined()
        self._presence.heard(event.route)

    # What the data plane brings

    def deliver(self, frame_bytes: bytes) -> None:
        number = peek_stream_id(frame_bytes)
        if number & 1:
            self._asker.deliver(frame_bytes)
        elif number:
            super().deliver(frame_bytes)
        elif peek_type(frame_bytes) == FrameType.KEEPALIVE:
            self._outbound.sound(lambda had: self._sounded(had, frame_bytes[14:]))

    def _sounded(self, had: bool, data: bytes) -> None:
        if had:
            self.plane.soundings.answered(self.number, data)
        else:
            self.plane.soundings.ended(self.number)

    def handler(self, exchange: Exchange) -> Handler:
        route = exchange.route
        service = self.spec.service
        if route == service or route.startswith(f"{service}."):
            found = self._handlers.get(route)
            if found is None:
                raise NoRoute(f"no route to {route}; this bridge serves {', '.join(sorted(self._handlers))}")
            interactions, handler = found
        else:
            interactions, handler = _ASKED, self._outbound.exchange
        if exchange.interaction not in interactions:
            wanted = " or ".join(kind.name for kind in interactions)
            raise RequestInvalid(f"{route} is a {wanted}, not a {exchange.interaction.name}")
        return handler

    def spread(self, stream: Stream, routes: list[Route]) -> None:
        """Remember who a whole fire-and-forget is from; it needs no more of a stream than that."""
        if stream.interaction == REQUEST_FNF and not stream.state & REQUEST_UNFINISHED:
            self._fired_by[stream.responder_id] = cast("Connection", stream.requester)
            finish(stream, OK)

    def fired(self, request: Request) -> None:
        assert isinstance(request, RequestFnf)
        route, metadata = route_of(request), request.metadata or b""
        connection = self._fired_by.pop(request.stream_id, None)
        if route == f"{self.spec.service}.publish":
            self._outbound.fired_publish(metadata, request.data, connection)
        else:
            self._outbound.fired(metadata, request.data, connection)

    def _ended(self, exchange: Exchange) -> None:
        super()._ended(exchange)
        self._gate.ended(exchange)

    # What an operator sees

    def status(self) -> BridgeStatus:
        client, clock = self.client, self.plane.monotonic()
        session = client.session
        acknowledged = client.acknowledged_at
        connected = client.state is BridgeState.CONNECTED
        reason = client.why or self._inbound.waiting_for
        if client.refused_filters:
            reason = reason or f"the broker refuses {', '.join(client.refused_filters)}"
        reason = reason or self._presence.why
        return BridgeStatus(
            self.spec.name,
            client.state,
            self.counters_of_mqtt,
            service=self.spec.service,
            client_id=self.spec.client_id,
            address=str(client.where),
            version=self.spec.mqtt.version,
            since=client.since if connected else None,
            session_present=session.present if session is not None else None,
            reason=reason,
            retry_in_s=None if client.retry_at is None else max(0.0, client.retry_at - clock),
            last_ack_age_s=None if acknowledged is None else clock - acknowledged,
            in_flight_in=client.in_flight_in,
            in_flight_out=client.in_flight_out,
            receive_maximum=session.limits.receive_maximum if session is not None else None,
            queued=client.queued,
        )
