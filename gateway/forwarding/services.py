"""The node's own services, under `gateway.`: one internal connection that serves them (protocol 1, "Built-in").

A service is a route below `gateway` and a function that takes an exchange. The five that every node has:

- `gateway.ready`     who am I to this node, and which figures hold (JSON); a client's acknowledgement of its SETUP
- `gateway.time`      the node's clock (JSON, Unix milliseconds)
- `gateway.register`  enter a service at run time; the data is a ROUTE_SETUP frame, the answer a ROUTE_JOIN frame
- `gateway.unregister` withdraw one; the data is a ROUTE_REMOVE frame, so is the answer
- `gateway.routes`    a stream of ROUTE_JOIN and ROUTE_REMOVE frames: what stands now, then every change
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from math import isfinite
from typing import TYPE_CHECKING

from gateway.errors import NoRoute, Overloaded, RequestInvalid
from gateway.forwarding import acceptor, judging
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.exchanges import Exchanges, Handler
from gateway.routing.route import Route
from gateway.routing.table import Event, Joined
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB
from gateway.wire import brokering
from gateway.wire.brokering import MAX_TAG_BYTES, RouteJoin, RouteRemove, RouteSetup
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane

SERVICE = "gateway"
#: Route events that wait for a slow subscriber before it is told to start again.
MAX_WAITING_EVENTS = 65_536
#: Routes that one subscriber is shown, or not shown, before others get their turn.
LOOKS_A_TURN = 1024


class NodeServices(Exchanges):
    """Serves the routes below `gateway`; `offer` adds one."""

    __slots__ = ("_handlers",)

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane, SERVICE)
        self._handlers: dict[str, tuple[FrameType, Handler]] = {}
        self.offer("ready", FrameType.REQUEST_RESPONSE, _ready)
        self.offer("time", FrameType.REQUEST_RESPONSE, _time)
        self.offer("register", FrameType.REQUEST_RESPONSE, _register)
        self.offer("unregister", FrameType.REQUEST_RESPONSE, _unregister)
        self.offer("routes", FrameType.REQUEST_STREAM, RouteFeed)
        plane.table.add(Route(uuid.uuid4().bytes, SERVICE, self, subject=SERVICE))

    def offer(self, name: str, interaction: FrameType, handler: Handler) -> None:
        """Serve `gateway.<name>` for one interaction model."""
        self._handlers[f"{SERVICE}.{name}"] = (interaction, handler)

    def handler(self, exchange: Exchange) -> Handler:
        found = self._handlers.get(exchange.route)
        if found is None:
            raise NoRoute(f"no route to {exchange.route}; this node serves {', '.join(sorted(self._handlers))}")
        interaction, handler = found
        if interaction is not exchange.interaction:
            raise RequestInvalid(f"{exchange.route} is a {interaction.name}, not a {exchange.interaction.name}")
        return handler


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _ready(exchange: Exchange) -> None:
    caller = exchange.caller
    setup = caller.session.setup
    plane = caller.plane
    exchange.reply(
        _json(
            {
                "node": plane.node,
                "session": str(caller.number),
                "sub": caller.principal.subject,
                "services": [route.service for route in plane.table.of_owner(caller) if route.service],
                "keepalive_ms": setup.keepalive_ms if setup else 0,
                "lifetime_ms": round(caller.session.lifetime_s * 1000),
                "resume": caller.resumption is not None and not caller.resumption.over,
                "lease": caller.granted is not None,
                "expires": int(caller.principal.expires_at) if isfinite(caller.principal.expires_at) else None,
                "renew": caller.principal.renewal_only,
                "time": int(plane.wall() * 1000),
            }
        )
    )


def _time(exchange: Exchange) -> None:
    exchange.reply(_json({"time": int(exchange.caller.plane.wall() * 1000)}))


def _register(exchange: Exchange) -> None:
    frame = brokering.decode(exchange.data)
    if not isinstance(frame, RouteSetup):
        raise RequestInvalid("gateway.register takes a ROUTE_SETUP frame")
    route = acceptor.register(exchange.caller, frame)
    exchange.reply(brokering.encode(joined(exchange.caller.plane, route)))


def _unregister(exchange: Exchange) -> None:
    frame = brokering.decode(exchange.data)
    if not isinstance(frame, RouteRemove):
        raise RequestInvalid("gateway.unregister takes a ROUTE_REMOVE frame")
    acceptor.withdraw(exchange.caller, frame.route_id)
    exchange.reply(brokering.encode(_removed(exchange.caller.plane, frame.route_id)))


def joined(plane: Plane, route: Route) -> RouteJoin:
    """The ROUTE_JOIN frame that tells of a route: its own tags, then the implicit ones."""
    tags = list(route.tags.items())
    if route.subject:
        tags.append((SUB, route.subject))
    tags.append((ROUTE_ID, str(uuid.UUID(bytes=route.route_id))))
    if route.service and len(route.service.encode()) <= MAX_TAG_BYTES:
        # A longer name is no tag's value; the frame has it all the same.
        tags.append((SERVICE_NAME, route.service))
    return RouteJoin(plane.node_id, route.route_id, int(plane.wall() * 1000), route.service, tuple(tags))


def _removed(plane: Plane, route_id: bytes) -> RouteRemove:
    return RouteRemove(plane.node_id, route_id, int(plane.wall() * 1000))


class RouteFeed:
    """One subscription of `gateway.routes`: the routes its caller may call, then joins and leaves as they happen.

    A caller of a large node may be allowed to see few of its routes: it looks at so many a loop turn and no more.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._plane = exchange.caller.plane
        self._standing = iter(list(self._plane.table))
        self._waiting: deque[Event] = deque()
        self._scheduled = False
        exchange.on_credit = self._pump
        exchange.on_end = self._plane.table.subscribe(self._on_event)
        self._pump()

    def _on_event(self, event: Event) -> None:
        if len(self._waiting) >= MAX_WAITING_EVENTS and len(self._waiting) > 2 * len(self._plane.table):
            self._exchange.fail(Overloaded("too slow for the changes; subscribe again for what stands now"))
            return
        self._waiting.append(event)
        self._pump()

    def _pump(self) -> None:
        exchange = self._exchange
        for _ in range(LOOKS_A_TURN):
            if exchange.credit <= 0 or not exchange.open:
                return
            event = self._next()
            if event is None:
                return
            self._show(event)
        if not self._scheduled:
            self._scheduled = True
            self._plane.schedule(self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        self._pump()

    def _next(self) -> Event | None:
        for route in self._standing:
            return Joined(route)
        return self._waiting.popleft() if self._waiting else None

    def _show(self, event: Event) -> None:
        exchange = self._exchange
        route = event.route
        name = route.service or route.subject
        if exchange.caller.grant.may_call(name) and judging.may_see(exchange.caller, name):
            frame = joined(self._plane, route) if isinstance(event, Joined) else _removed(self._plane, route.route_id)
            exchange.send(brokering.encode(frame))
