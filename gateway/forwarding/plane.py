"""What the connections of one node share: the table, the snapshot, the counters, the clock and one flush a loop turn.

The control plane reaches in here and nowhere else, by `publish` and `govern`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol

from gateway.forwarding import callers, leasing
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.deadlines import Deadlines
from gateway.forwarding.governor import Governor
from gateway.forwarding.links import LOCAL
from gateway.forwarding.outbox import Flusher
from gateway.forwarding.register import Register
from gateway.forwarding.sounding import Soundings
from gateway.observe.metrics import MAX_PATHS, Metrics, ServiceStats
from gateway.policy.access import Grant
from gateway.policy.access_list import AccessList
from gateway.policy.asking import Here
from gateway.policy.governance import Governance
from gateway.policy.judgement import Judgement
from gateway.policy.limits import LimitsProfile
from gateway.policy.overload import Overload
from gateway.policy.principal import Kind, Principal
from gateway.routing.balancer import Method
from gateway.routing.route import Route
from gateway.routing.table import RoutingTable
from gateway.session.parking import MAX_SESSIONS, ParkedSessions
from gateway.session.setup import SetupRules

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.intake import Intake
    from gateway.forwarding.links import Links
    from gateway.forwarding.mirroring import Mirrors
    from gateway.forwarding.nowhere import Nowhere
    from gateway.forwarding.tracing import Tracing
    from gateway.forwarding.waiting import Waiting
    from gateway.observe.flows import FlowRing

#: The kind of a connection without a socket.
INTERNAL = "internal"


#: What has to wait for a connection for its end to be any relief.
WORTH_CLOSING_BYTES = 64 * 1024


class Authenticator(Protocol):
    """Who a token belongs to."""

    def __call__(self, token: bytes | None, now: float) -> Principal:
        """`now` in Unix seconds. Raises TokenError."""
        ...


class Timer(Protocol):
    """What `Plane.later` has begun."""

    def cancel(self) -> None:
        """Never mind."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the control plane published last. `generation` grows with each."""

    generation: int
    authenticate: Authenticator
    profiles: dict[Kind, LimitsProfile]
    setup_rules: SetupRules
    setup_timeout_s: float
    access: AccessList = field(default_factory=AccessList)

    def admit(self, token: bytes | None, now: float) -> Principal:
        """Who may come in with this token. Raises TokenError."""
        return self.access.judge(self.authenticate(token, now), now)

    def grant(self, principal: Principal) -> Grant:
        return Grant(principal, self.profiles[principal.kind], self.access.bounds(principal))

    def grant_elsewhere(self, principal: Principal) -> Grant:
        """What another node's client may do: what that node says, within the grant of its link."""
        return Grant(principal, self.profiles[principal.kind])


class Plane:
    """The data plane of one node. One event loop owns it; nothing in it blocks, waits or logs.

    `monotonic` gives seconds for durations and deadlines, `wall` Unix seconds for tokens and time stamps; `schedule`
    runs a callback at the end of the current loop turn, `later` after so many seconds. Connections are numbered from
    behind `first_number`.
    """

    def __init__(
        self,
        *,
        node: str,
        node_id: bytes,
        snapshot: Snapshot,
        metrics: Metrics,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object],
        random: Random,
        later: Callable[[float, Callable[[], None]], Timer],
        resume_sessions: int = MAX_SESSIONS,
        first_number: int = 0,
    ) -> None:
        self.node = node
        self.node_id = node_id
        #: Where the node is. Services that are registered here have these as tags, unless they say otherwise.
        self.labels: Mapping[str, str] = {}
        self.snapshot = snapshot
        self.metrics = metrics
        self.counters = metrics.counters
        self.monotonic = monotonic
        #: The clock as of the last `wake`: what requests are timed with, so that the hot path asks no clock.
        self.now = monotonic()
        self.wall = wall
        self.random = random
        self.schedule = schedule
        self.later = later
        self.deadlines = Deadlines(self.wake, later)
        self.table = RoutingTable()
        self.flusher = Flusher(schedule)
        self.parked: ParkedSessions[Connection] = ParkedSessions(resume_sessions)
        self.nobody = self._nobody()
        self.balancing = Method.LEAST_PENDING
        self.draining = False
        #: How overloaded the node is: set by `strain`.
        self.overload = Overload.NONE
        self.connections: dict[int, Connection] = {}
        self.register = Register()
        self.multicast: Connection | None = None
        #: Takes what is to wait for who is not there; None where nothing is.
        self.intake: Intake | None = None
        self.soundings = Soundings()
        #: Where requests go that are lost on purpose; None where none can be.
        self.nowhere: Nowhere | None = None
        #: Lets requests wait for who is to serve them; None where nobody does.
        self.waiting: Waiting | None = None
        #: Takes copies of requests; None where nobody does.
        self.mirrors: Mirrors | None = None
        #: Who looks after links to other nodes; None where the node has none.
        self.links: Links | None = None
        #: What documents say of requests, and who goes by it; None where they say nothing.
        self.governance = Governance()
        self.governor: Governor | None = None
        #: Who may do what, by `Access` documents; false where there are none. `role`: edge or central, for those.
        self.judgement = Judgement()
        self.role = "edge"
        #: What is recorded of requests; None where no document asks for it.
        self.tracing: Tracing | None = None
        #: Whether every request is watched.
        self.observing = False
        #: Where what becomes of requests is written; None while nobody wants it.
        self.flows: FlowRing | None = None
        self._opened = first_number
        self._stats: dict[tuple[str, bool, str, str, str, str], ServiceStats] = {}

    def wake(self) -> float:
        """Look at the clock; carriers do at every read. Returns the time."""
        self.now = self.monotonic()
        return self.now

    def _nobody(self) -> Grant:
        """What a connection may do before its SETUP is accepted: nothing."""
        return Grant(Principal("", Kind.DEVICE, "", 0.0, math.inf), self.first_limits)

    @property
    def first_limits(self) -> LimitsProfile:
        """The limits of a connection before anybody knows who it is: a device's."""
        return self.snapshot.profiles[Kind.DEVICE]

    def enter(self, connection: Connection) -> int:
        """Register a connection; return its number, unique in this run of the node."""
        self._opened += 1
        self.connections[self._opened] = connection
        self.counters.connection_opened(connection.kind)
        return self._opened

    def leave(self, connection: Connection, reason: CloseReason, text: str = "") -> None:
        """Forget a connection; `text` is what its peer was told."""
        if self.connections.pop(connection.number, None) is not None:
            self.counters.connection_closed(connection.kind, reason.label)
            if connection.kind != INTERNAL:
                self.register.ended(connection, reason, text)
                self.soundings.ended(connection.number)
            if connection.side != LOCAL and self.links is not None:
                self.links.ended(connection, text or reason.label)

    def stats_of(
        self,
        route: Route,
        requester: Endpoint | None = None,
        identity: bytes | None = None,
        rule: str = "",
        subset: str = "",
    ) -> ServiceStats:
        """The counters that a request to this route belongs to, by whom it is of and which rule of a document it goes
        by; no label holds a device's id. `identity`: the principal entry of what came over a link."""
        owner = route.owner
        by_device = getattr(owner, "by_device", False)
        source = "" if requester is None else callers.label(self.table, requester, identity)
        key = ("" if by_device else route.service, by_device, source, callers.neighbour(owner), rule, subset)
        stats = self._stats.get(key)
        if stats is None:
            stats = self.metrics.service_stats(*key)
            if len(self._stats) < MAX_PATHS:
                self._stats[key] = stats
        return stats

    def publish(self, snapshot: Snapshot, subjects: frozenset[str] | None = None) -> None:
        """Let live connections be judged by a new snapshot: who may not be here any more is closed, the grants of the
        others are derived again and their decisions dropped. `subjects`: whose connections; None: everybody's."""
        self.snapshot = snapshot
        if subjects is None:
            self.nobody = self._nobody()
        for connection in list(self.connections.values()):
            if subjects is None or (connection.accepted and connection.principal.subject in subjects):
                connection.judge_again(snapshot)

    def govern(self, governance: Governance) -> None:
        """Go by other documents from now on: what was decided under those before is forgotten, and what is open and
        would not be opened any more ends."""
        if governance == self.governance:
            return
        judges = governance.access != self.governance.access
        self.governance = governance
        if judges:
            here = Here(self.node, self.role, tuple(sorted(self.labels.items())))
            self.judgement = Judgement(governance.access, here)
        self.governor = Governor(self, governance, self.governor) if governance.services else None
        self.metrics.guarded(self.governor)
        for connection in list(self.connections.values()):
            connection.forget_decisions()
            leasing.lend_less(connection)
            if judges:
                connection.judged_otherwise()

    def record(self, flows: FlowRing | None) -> None:
        """Write what becomes of each request there from now on; None: nowhere."""
        self.flows = flows
        self.observing = flows is not None

    def governs(self, service: str) -> bool:
        """Whether a `Service` document says how requests to a service are treated."""
        return self.governor is not None and self.governor.state(service) is not None

    def drain(self) -> None:
        """Take no new requests; tell every peer that this connection will close when its streams are done."""
        self.draining = True
        for connection in list(self.connections.values()):
            connection.drain()

    def strain(self, overload: Overload) -> None:
        """The node is so overloaded from now on: leases that were lent before shrink at once when it is more."""
        more, self.overload = overload > self.overload, overload
        if more:
            for connection in list(self.connections.values()):
                leasing.lend_less(connection)

    def serves(self, connection: Connection) -> bool:
        """Whether others may ask this connection for a service by its name."""
        return any(route.service for route in self.table.of_owner(connection))

    @property
    def busy(self) -> bool:
        """Whether a stream that a client serves is still open, or bytes wait for a client to read them. What the node
        itself serves is nobody's work."""
        return any(
            connection.kind != INTERNAL
            and (connection.serving or connection.outbox.waiting or connection.carrier.buffered())
            for connection in self.connections.values()
        )

    def tick(self) -> None:
        """Enforce deadlines: setup, silence, stuck writes, expired tokens, sessions without a link. Call it a few times
        a second."""
        now = self.wake()
        wall = self.wall()
        for connection in list(self.connections.values()):
            connection.tick(now, wall)
        for connection in self.parked.expire(now):
            connection.end(CloseReason.RESUME_EXPIRED)

    def forgive(self, seconds: float) -> None:
        """The loop stood still for so long: what peers sent has not been read, and that is not their silence."""
        for connection in self.connections.values():
            connection.forgive(seconds)

    def close_largest(self) -> None:
        """Close the connection for which most is held, unless that is next to nothing."""
        largest = max(self.connections.values(), key=lambda connection: connection.held_bytes, default=None)
        if largest is not None and largest.held_bytes >= WORTH_CLOSING_BYTES:
            largest.close(CloseReason.OVERLOAD, "this node is short of memory, and holds too much for you")
            largest.carrier.abort()

    def outbox_bytes(self) -> int:
        return sum(connection.outbox.size for connection in self.connections.values())
