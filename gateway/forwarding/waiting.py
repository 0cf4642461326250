"""Requests that wait for somebody to serve them, as long as their `Service` document says (`waitForRoute`).

A request waits at the node that its caller is connected to, when nobody serves it here or is known to elsewhere. It is
gone through again when a route of its service joins; it ends when its time is over, or its deadline. How many wait is
bounded by the document (`maxPendingRequests`), and how much by the connection (`awaiting.MAX_BYTES`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.errors import DeadlineExceeded, NoRoute, Overloaded, RequestError
from gateway.forwarding.awaiting import hold, refuse, release
from gateway.forwarding.deadline import left_s
from gateway.forwarding.judging import caller_of
from gateway.forwarding.links import LOCAL
from gateway.policy.access import is_reserved
from gateway.policy.matching import rule_for
from gateway.routing.table import Event, Joined
from gateway.routing.tags import SERVICE_NAME

if TYPE_CHECKING:
    from gateway.forwarding.awaiting import Awaiting
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane, Timer
    from gateway.policy.traffic import ServiceRules
    from gateway.routing.address import Address

#: Requests that wait for one service, where its document sets no bound.
MAX_WAITING: Final = 1024


class _Waiter:
    """A request that came at `since`, by the plane's clock. `late`: what its caller is told when its time is over."""

    __slots__ = ("connection", "held", "late", "since", "stream_id", "timer")

    def __init__(self, connection: Endpoint, stream_id: int, held: Awaiting, since: float, late: RequestError) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.held = held
        self.since = since
        self.late = late
        self.timer: Timer | None = None

    @property
    def there(self) -> bool:
        """Whether its caller still wants an answer."""
        waiting = self.connection.awaiting
        return not self.connection.closed and waiting is not None and waiting.get(self.stream_id) is self.held


class Waiting:
    """Who waits on one node, by the name of the service; it hears of routes only while somebody does."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._rooms: dict[str, list[_Waiter]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._rooms.values()))

    def wait(self, connection: Endpoint, kind: int, stream_id: int, frame: bytes, error: NoRoute) -> bool:
        """Let a request wait that nobody serves, if its document says so. Returns whether it does. Raises
        RequestError."""
        plane = self._plane
        address: Address = error.address  # type: ignore[assignment]
        found = None if connection.side != LOCAL else self._rules(address)
        if found is None:
            return False
        name, rules = found
        rule = rule_for(rules, kind, name, address.route, caller_of(connection, None))
        if rule is None or not rule.wait_for_route_s:
            return False
        since = connection.held_since or plane.now
        document = f"Service/{rules.name}"
        waits_s = rule.wait_for_route_s - (plane.now - since)
        late: RequestError = NoRoute(
            f"{error}; nobody came within {rule.wait_for_route_s:g} s ({document}, waitForRoute)", reason=error.reason
        )
        left = left_s(frame)
        if left < waits_s:
            waits_s, late = left, DeadlineExceeded(f"deadline exceeded: it waited for a route ({document})")
        if waits_s <= 0:
            raise late
        waits = plane.metrics.guard_figures(rules.name).waits
        room = self._rooms.setdefault(name, [])
        if len(room) >= (rules.limits.max_pending or MAX_WAITING):
            waits["refused"] += 1
            raise Overloaded(f"{document}: over {len(room)} requests wait for a route", reason="service_max_pending")
        waiter = _Waiter(connection, stream_id, hold(connection, stream_id, frame), since, late)
        waiter.timer = plane.later(waits_s, partial(self._over, name, waiter, rules.name))
        room.append(waiter)
        if self._unsubscribe is None:
            self._unsubscribe = plane.table.subscribe(self._on_route)
        return True

    def _rules(self, address: Address) -> tuple[str, ServiceRules] | None:
        """The service that an address would be of, if somebody served it: the longest name of which a document
        speaks."""
        for name in _names(address):
            rules = None if is_reserved(name) else self._plane.governance.service(name)
            if rules is not None:
                return name, rules
        return None

    def _on_route(self, event: Event) -> None:
        if not isinstance(event, Joined):
            return
        service = event.route.service
        if any(_related(service, name) for name in self._rooms):
            # Not inside of what is changing the table.
            self._plane.schedule(partial(self._come, service))

    def _come(self, service: str) -> None:
        for name in [name for name in self._rooms if _related(service, name)]:
            rules = self._plane.governance.service(name)
            for waiter in self._rooms.pop(name):
                if waiter.timer is not None:
                    waiter.timer.cancel()
                if waiter.there:
                    if rules is not None:
                        self._plane.metrics.guard_figures(rules.name).waits["tried"] += 1
                    release(waiter.connection, waiter.stream_id, waiter.held, waiter.since)
        self._rest()

    def _over(self, name: str, waiter: _Waiter, document: str) -> None:
        room = self._rooms.get(name, [])
        if waiter in room:
            room.remove(waiter)
            if not room:
                del self._rooms[name]
        if waiter.there:
            self._plane.wake()
            self._plane.metrics.guard_figures(document).waits["in_vain"] += 1
            refuse(waiter.connection, waiter.stream_id, waiter.late)
        self._rest()

    def _rest(self) -> None:
        if not self._rooms and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None


def _related(service: str, name: str) -> bool:
    """Whether a service may be what is waited for: a document may speak of a longer name, or of a shorter one."""
    shorter, longer = sorted((service, name), key=len)
    return shorter == longer or longer.startswith((f"{shorter}.", f"{shorter}/"))


def _names(address: Address) -> Iterator[str]:
    """The names that the service of an address may have, the longest first."""
    service = address.tag(SERVICE_NAME)
    if service is not None:
        yield service
    if address.by_tags:
        return
    route = address.route
    yield route
    for end in range(len(route) - 1, 0, -1):
        if route[end] in "./":
            yield route[:end]
